"""Hosted teachers through LiteLLM hold the same promises as our own client."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ledger.prompts import Prompt
from router.teachers import Answer, CallError, Sampling, Teacher, TeacherConfig, open_teacher
from tests.faults.server import FaultServer, Reply, body, content, payload, reset, status

CANARY = "canary-key-6f1d0b2c"


def teacher_at(url: str, model: str = "openai/m", **fields: Any) -> Teacher:
    config = TeacherConfig(litellm=model, url=url, licence="unknown", **fields)
    return open_teacher("t", config, Path())


def ask(teacher: Teacher, text: str = "hello", n: int = 1) -> list[Answer]:
    async def main() -> list[Answer]:
        prompt = Prompt.of(text)
        try:
            calls = [teacher.answer([prompt], Sampling(max_tokens=24)) for _ in range(n)]
            return [answers[0] for answers in await asyncio.gather(*calls)]
        finally:
            await teacher.close()

    return asyncio.run(main())


def error_of(teacher: Teacher) -> CallError:
    with pytest.raises(CallError) as caught:
        ask(teacher)
    return caught.value


def test_answers_one_loop_after_another(server: FaultServer) -> None:
    teacher = teacher_at(server.url)
    for _ in range(2):
        answers = ask(teacher, n=3)
        assert {answer.text for answer in answers} == {"echo hello"}
    assert (answers[0].completion_tokens, answers[0].price_source) == (5, "none")


@pytest.mark.parametrize(
    ("reply", "error_class", "transient"),
    [
        (content(None), "empty", False),
        (content("x", None), "no_finish_reason", False),
        (content("x", model="other"), "wrong_model", False),
        (payload({"model": "m", "choices": []}), "no_choices", False),
        (body(b"<html>busy</html>", type_="html"), "html", True),
        (body(b'{"model": "m", "choi'), "broken_json", True),
        (body(b" " * 40_000_000), "body_too_large", False),
        (status(401), "unauthorised", False),
        (status(429, {"Retry-After": "90"}), "rate_limited", True),
        (status(503), "unavailable", True),
        (reset, "connection_lost", True),
    ],
)
def test_bad_answer_has_its_class_and_is_not_repeated(
    server: FaultServer, reply: Reply, error_class: str, transient: bool
) -> None:
    server.script(reply)
    error = error_of(teacher_at(server.url))
    assert (error.error_class, error.transient) == (error_class, transient)
    assert error.retry_after_s == (90 if error_class == "rate_limited" else None)
    assert len(server.calls) == 1


@pytest.mark.parametrize("model", ["openai/m", "anthropic/m"])
def test_redirect_is_not_followed(server: FaultServer, model: str) -> None:
    with FaultServer() as other:
        server.script(status(307, {"Location": f"{other.url}/chat/completions"}))
        error = error_of(teacher_at(server.url, model))
        assert error.error_class == "redirect"
        assert other.calls == []


def test_another_providers_form_is_read(server: FaultServer) -> None:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "bonjour"}],
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 3, "output_tokens": 24},
    }
    server.script(payload(message))
    (answer,) = ask(teacher_at(server.url, "anthropic/m"))
    assert (answer.text, answer.finish_reason) == ("bonjour", "length")
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 24)
    assert answer.raw is not None
    assert json.loads(answer.raw) == message


@pytest.mark.parametrize("code", [401, 429, 500])
def test_key_is_in_no_error(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setenv("CANARY_KEY", CANARY)
    server.script(status(code, told=f"bad header Authorization: Bearer {CANARY}"))
    error: BaseException | None = error_of(teacher_at(server.url, api_key_env="CANARY_KEY"))
    assert server.calls[0].headers["Authorization"] == f"Bearer {CANARY}"
    while error is not None:
        assert CANARY not in f"{error} {error!r} {vars(error)}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_providers_key_is_not_sent_to_another_url(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    ask(teacher_at(server.url))
    assert CANARY not in f"{server.calls[0].headers}"


def test_price_comes_from_the_table_and_an_unlisted_model_has_none() -> None:
    def worst(model: str, **fields: Any) -> float | None:
        config = TeacherConfig(litellm=model, licence="provider-terms", **fields)
        teacher = open_teacher("t", config, Path())
        return teacher.worst_cost_usd(Prompt.of("hello"), Sampling(max_tokens=1000))

    listed = worst("gpt-4o-mini")
    assert listed is not None
    assert 1000 * 0.6e-6 <= listed <= 1100 * 0.6e-6
    assert worst("openai/no-such-model") is None
    price = {"input_usd_per_million": 0.0, "output_usd_per_million": 1.0}
    assert worst("openai/no-such-model", price=price) == pytest.approx(1e-3)


def test_request_that_cannot_be_sent_ends_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = TeacherConfig(litellm="openai/gpt-4o-mini", licence="provider-terms")
    error = error_of(open_teacher("t", config, Path()))
    assert (error.error_class, error.fatal) == ("not_sent", True)


def test_real_server_answers_through_litellm(smollm2_url: str) -> None:
    teacher = teacher_at(smollm2_url, "openai/SmolLM2")
    (answer,) = ask(teacher, "What is 2 + 2?")
    assert "4" in answer.text
    assert answer.finish_reason in ("stop", "length")
