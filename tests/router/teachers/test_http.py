"""Calls to OpenAI-compatible servers: every bad answer gets its class, and no key gets out."""

import asyncio
import json
import os
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest

from ledger.prompts import Prompt
from router.teachers import Answer, CallError, Sampling, Teacher, TeacherConfig, open_teacher
from router.teachers.statuses import retry_after_s
from tests.faults.server import (
    FaultServer,
    Reply,
    body,
    completion,
    content,
    payload,
    reset,
    status,
    zipped,
)

MakeTeacher = Callable[..., Teacher]
HALF_OF_A_CHARACTER = "a \ud800 b"
CANARY = "canary-key-6f1d0b2c"


def ask(teacher: Teacher, prompt: Prompt | None = None) -> Answer:
    async def main() -> Answer:
        try:
            return (
                await teacher.answer(
                    [prompt or Prompt.of("hello")], Sampling(max_tokens=24, seed=5)
                )
            )[0]
        finally:
            await teacher.close()

    return asyncio.run(main())


def error_of(teacher: Teacher) -> CallError:
    with pytest.raises(CallError) as caught:
        ask(teacher)
    return caught.value


def test_request_and_answer_are_openai_form(server: FaultServer, http_teacher: MakeTeacher) -> None:
    answer = ask(http_teacher(server, system="be kind"))
    sent = server.calls[0]
    assert sent.path == "/v1/chat/completions"
    assert sent.body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "hello"},
        ],
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 24,
        "seed": 5,
        "stream": False,
    }
    assert "Authorization" not in sent.headers
    assert (answer.text, answer.finish_reason) == ("echo hello", "stop")
    assert (answer.prompt_tokens, answer.completion_tokens) == (10, 5)
    assert (answer.cost_usd, answer.price_source) == (0.0, "none")
    assert answer.raw is not None
    assert json.loads(answer.raw) == completion("echo hello")


@pytest.mark.parametrize(
    ("reply", "error_class", "state", "transient"),
    [
        (content(None), "empty", "invalid", False),
        (content(""), "empty", "invalid", False),
        (content("x", None), "no_finish_reason", "invalid", False),
        (content("x", "tired"), "finish_reason", "invalid", False),
        (content(7), "no_text", "invalid", False),
        (content("x", model="other"), "wrong_model", "invalid", False),
        (content("x", model=None), "wrong_model", "invalid", False),
        (content("x", model="m2"), "wrong_model", "invalid", False),
        (payload({"model": "m", "choices": []}), "no_choices", "invalid", False),
        (payload({"model": "m"}), "no_choices", "invalid", False),
        (payload({"model": "m", "choices": [{}]}), "no_message", "invalid", False),
        (payload([1]), "no_choices", "invalid", False),
        (payload({"error": {"message": "no"}}), "error_in_200", "invalid", False),
        (payload({"error": {"message": "no", "code": 429}}), "error_in_200", "invalid", True),
        (body(b"<html>busy</html>", type_="html"), "html", "invalid", True),
        (body(b'{"model": "m", "choi'), "broken_json", "invalid", True),
        (body(b"[" * 200_000), "broken_json", "invalid", True),
        (body(b'{"model": "\xff"}'), "not_unicode", "invalid", True),
        (body(b"zz", headers={"Content-Encoding": "gzip"}), "broken_body", "invalid", False),
        (body(b"zz", headers={"Content-Encoding": "br"}), "encoded_body", "invalid", False),
        (status(400), "bad_request", "failed", False),
        (status(400, told="exceeds the context length"), "prompt_too_long", "failed", False),
        (status(401), "unauthorised", "failed", False),
        (status(404), "not_found", "failed", False),
        (status(429), "rate_limited", "failed", True),
        (status(429, told="insufficient_quota"), "quota", "failed", False),
        (status(500), "server_error", "failed", True),
        (status(502), "server_error", "failed", True),
        (status(503), "unavailable", "failed", True),
        (status(501), "server_error", "failed", False),
        (reset, "connection_lost", "failed", True),
        (status(307, {"Location": "http://127.0.0.1:1/"}), "redirect", "failed", False),
    ],
)
def test_bad_answer_has_its_class(
    server: FaultServer,
    http_teacher: MakeTeacher,
    reply: Reply,
    error_class: str,
    state: str,
    transient: bool,
) -> None:
    server.script(reply)
    error = error_of(http_teacher(server))
    assert (error.error_class, error.state, error.transient) == (error_class, state, transient)
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("reply", "finish", "text"),
    [
        (content("cut", "length"), "length", "cut"),
        (content("", "content_filter"), "content_filter", ""),
        (content("x", model="m-2026-01-31"), "stop", "x"),
        (content("nul \0 esc \x1b[31m bidi \u202e"), "stop", "nul \0 esc \x1b[31m bidi \u202e"),
        (content([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "stop", "ab"),
        (zipped(json.dumps(completion("packed")).encode()), "stop", "packed"),
    ],
)
def test_odd_but_good_answer_is_kept(
    server: FaultServer, http_teacher: MakeTeacher, reply: Reply, finish: str, text: str
) -> None:
    server.script(reply)
    answer = ask(http_teacher(server))
    assert (answer.finish_reason, answer.text) == (finish, text)


def test_other_model_names_pass_when_allowed(
    server: FaultServer, http_teacher: MakeTeacher
) -> None:
    server.script(content("x", model="other"), content("y", model=None))
    assert ask(http_teacher(server, allow_model_names=["other"])).model == "other"
    assert ask(http_teacher(server, allow_model_names=["*"])).text == "y"


def test_nobody_there_is_transient_and_no_such_host_is_not() -> None:
    def error(url: str) -> CallError:
        config = TeacherConfig(http="m", url=url, licence="unknown")
        return error_of(open_teacher("t", config, Path()))

    refused = error("http://127.0.0.1:1/v1")
    assert (refused.error_class, refused.transient) == ("connection_refused", True)
    gone = error("http://no-such-host.invalid/v1")
    assert gone.error_class in ("unknown_host", "dns")


def test_redirect_is_not_followed(server: FaultServer, http_teacher: MakeTeacher) -> None:
    with FaultServer() as other:
        server.script(status(307, {"Location": f"{other.url}/chat/completions"}))
        assert error_of(http_teacher(server)).fatal
        assert other.calls == []


@pytest.mark.parametrize("code", [401, 403, 429, 500, 200])
def test_key_goes_into_one_header_and_nowhere_else(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, http_teacher: MakeTeacher, code: int
) -> None:
    monkeypatch.setenv("CANARY_KEY", CANARY)
    teacher = http_teacher(server, api_key_env="CANARY_KEY")
    assert CANARY not in f"{teacher.settings} {vars(teacher)}"
    if code == 200:
        server.script(content(f"you sent {CANARY}"))
        answer = ask(teacher)
        assert CANARY not in f"{answer}"
        assert answer.text == "you sent [key]"
    else:
        server.script(status(code, told=f"bad header Authorization: Bearer {CANARY}"))
        error: BaseException | None = error_of(teacher)
        while error is not None:
            assert CANARY not in f"{error} {error!r} {vars(error)}"
            error = error.__cause__ or error.__context__
    assert server.calls[0].headers["Authorization"] == f"Bearer {CANARY}"


def test_gzip_bomb_is_cut_at_the_cap(server: FaultServer, http_teacher: MakeTeacher) -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(b" " * 2**20) for _ in range(200)) + packer.flush()
    assert len(bomb) < 250_000
    server.script(body(bomb, headers={"Content-Encoding": "gzip"}))
    tracemalloc.start()
    try:
        assert error_of(http_teacher(server)).error_class == "body_too_large"
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak_mib < 100


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0),
        ("120", 120.0),
        ("0.5", 0.5),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    assert retry_after_s({"retry-after": value}) == seconds


def test_retry_after_as_a_date_is_held_against_the_servers_clock() -> None:
    servers_now = time.time() - 3600  # its clock is an hour behind ours
    headers = {
        "retry-after": formatdate(servers_now + 90, usegmt=True),
        "date": formatdate(servers_now, usegmt=True),
    }
    assert retry_after_s(headers) == 90
    ours = {"retry-after": formatdate(time.time() + 90, usegmt=True)}
    assert retry_after_s(ours) == pytest.approx(90, abs=2)


def test_worst_cost_bounds_the_cost(server: FaultServer, http_teacher: MakeTeacher) -> None:
    price = {"input_usd_per_million": 3.0, "output_usd_per_million": 15.0}
    teacher = http_teacher(server, price=price, system="s" * 40)
    prompt = Prompt.of("é" * 100)
    worst = teacher.worst_cost_usd(prompt, Sampling(max_tokens=100))
    assert worst is not None
    assert worst >= (240 * 3.0 + 100 * 15.0) / 1e6
    answer = ask(teacher, prompt)
    assert answer.cost_usd == pytest.approx((10 * 3.0 + 5 * 15.0) / 1e6)
    assert answer.price_source == "recipe"


def test_price_is_unknown_where_a_key_is_sent_and_no_price_given(
    server: FaultServer, http_teacher: MakeTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY_KEY", CANARY)
    teacher = http_teacher(server, api_key_env="CANARY_KEY")
    assert teacher.worst_cost_usd(Prompt.of("x"), Sampling()) is None


def test_real_server_answers_through_http(smollm2_url: str) -> None:
    config = TeacherConfig(http="SmolLM2", url=smollm2_url, licence="Apache-2.0", context=1024)
    teacher = open_teacher("t", config, Path())
    answer = ask(teacher, Prompt.of("What is 2 + 2?"))
    assert "4" in answer.text
    assert answer.finish_reason in ("stop", "length")
    assert answer.completion_tokens


def test_importing_the_room_loads_nothing_heavy() -> None:
    code = (
        "import sys, router.teachers, router.engine\n"
        "heavy = {'torch', 'transformers', 'litellm', 'aiohttp', 'duckdb', 'pyarrow', 'httpx'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": "."})
