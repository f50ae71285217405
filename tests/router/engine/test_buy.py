"""Buying against a server that misbehaves: one end per request, no waste, no call too early."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import LedgerError
from ledger.lineage import teacher_lineage
from ledger.prompts import Prompt
from ledger.store import Ledger
from router.engine import (
    GenerateConfig,
    NoBudget,
    Progress,
    Purchase,
    Request,
    UnknownPrice,
    answers,
    breaker,
    buy,
    came_to_nothing,
    gate,
    sampling_of,
    unbought,
)
from router.teachers import Teacher, open_local
from tests.faults.server import (
    Call,
    FaultServer,
    Reply,
    body,
    completion,
    content,
    dripping,
    payload,
    reset,
    silent,
    status,
)

MakeTeacher = Callable[..., Teacher]
PutPrompts = Callable[[int], list[Prompt]]
PRICE = {"input_usd_per_million": 0.0, "output_usd_per_million": 1000.0}  # 0.001 USD a token


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BACKOFF_FLOOR_S", 0.01)
    monkeypatch.setattr(gate, "FIRST_ANSWER_S", 0.1)
    monkeypatch.setattr(breaker, "COOL_S", 0.05)


def settings(**fields: Any) -> GenerateConfig:
    return GenerateConfig(**{"max_tokens": 8, "deadline_s": 5.0, **fields})


def order(
    ledger: Ledger,
    teachers: Mapping[str, Teacher],
    requests: list[Request],
    **fields: Any,
) -> Purchase:
    config = settings(**fields)
    return buy(requests, teachers, ledger, sampling_of(config), config, stage="generate", run="r")


def states(ledger: Ledger) -> dict[str, tuple[str, str | None, int]]:
    """By prompt text number: the newest state, error class and attempts."""
    rows = ledger.rows(
        "SELECT p.key, r.state, r.error_class, r.attempts FROM request r "
        "JOIN prompt p ON r.prompt = p.id "
        "QUALIFY row_number() OVER (PARTITION BY r.key ORDER BY r.id DESC) = 1"
    )
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def all_of(prompts: list[Prompt], teacher: str = "t") -> list[Request]:
    return [Request(prompt, teacher) for prompt in prompts]


def test_each_request_is_bought_once_in_a_run_and_across_runs(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, put_prompts: PutPrompts
) -> None:
    teachers = {"t": http_teacher(server)}
    requests = all_of(put_prompts(30))
    first = order(ledger, teachers, requests + requests)
    assert (first.states, first.bought, first.reused) == ({"done": 30}, 30, 0)
    second = order(ledger, teachers, requests)
    assert (second.states, second.bought, second.reused) == ({"done": 30}, 0, 30)
    assert len(server.calls) == 30
    bought = answers(ledger, requests, teachers, sampling_of(settings()))
    assert {r.prompt.key: f"echo {r.prompt.text}" for r in requests} == {
        key: answer.text for (key, _, _), answer in bought.items()
    }
    assert unbought(requests, teachers, ledger, sampling_of(settings())) == []


def test_an_empty_answer_is_told_apart_from_one_that_never_came(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, put_prompts: PutPrompts
) -> None:
    teachers = {"t": http_teacher(server)}
    requests = all_of(put_prompts(3))
    faults = {"prompt 0": content(""), "prompt 1": body(b"<html>")}
    server.rule = lambda call: faults.get(call.prompt)
    order(ledger, teachers, requests, retries=0)
    sampling = sampling_of(settings())
    assert came_to_nothing(ledger, requests, teachers, sampling) == {
        (requests[0].prompt.key, "t", 0)
    }
    faults.clear()
    order(ledger, teachers, requests)
    assert came_to_nothing(ledger, requests, teachers, sampling) == set()


def test_the_money_of_every_sitting_counts(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, put_prompts: PutPrompts
) -> None:
    teachers = {"t": http_teacher(server, price=PRICE, budget_usd=9.0)}
    requests = all_of(put_prompts(1))
    server.script(body(b"{broken"))
    order(ledger, teachers, requests, retries=0)
    order(ledger, teachers, requests)
    (asked,) = teacher_lineage(ledger, "t")[0]["requests"]
    assert (asked["state"], asked["requests"], asked["attempts"]) == ("done", 1, 2)
    assert asked["cost_usd"] == pytest.approx(0.008 + 0.005)  # the worst case, then 5 tokens


def test_ledger_tells_the_whole_request(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, put_prompts: PutPrompts
) -> None:
    order(ledger, {"t": http_teacher(server)}, all_of(put_prompts(1)))
    (row,) = ledger.rows(
        "SELECT state, reason, attempts, prompt_tokens, r.completion_tokens, cost_usd, "
        "price_source, stage, run, max_tokens, sampling, queued_at <= started_at, started_at <= ended_at, "
        "t.name, t.kind, l.licence, s.finish_reason, length(x.raw) > 100 FROM request r "
        "JOIN teacher t ON r.teacher = t.id JOIN licence l ON l.subject = t.key "
        "JOIN sample s ON s.request = r.id JOIN sample_text x ON x.sample = s.id"
    )
    assert row == (
        *("done", "finish reason stop", 1, 10, 5, 0.0, "none", "generate", "r", 8),
        *('{"temperature": 0.0}', True, True, "t", "http", "unknown", "stop", True),
    )


def test_no_more_calls_in_flight_than_the_teacher_allows(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, put_prompts: PutPrompts
) -> None:
    server.delay_s = 0.02
    seen: list[int] = []
    config = settings()
    buy(
        all_of(put_prompts(60)),
        {"t": http_teacher(server, max_in_flight=5)},
        ledger,
        sampling_of(config),
        config,
        stage="generate",
        run="r",
        on_progress=lambda progress: seen.append(progress.teachers["t"].in_flight),
    )
    assert max(seen) <= 5
    began = sorted(call.at for call in server.calls)
    assert all(later - earlier >= 0.018 for earlier, later in zip(began, began[5:], strict=False))


@pytest.mark.parametrize(
    ("reply", "calls", "state"),
    [
        (status(503), 3, "failed"),
        (status(500), 3, "failed"),
        (reset, 3, "failed"),
        (body(b"<html>"), 3, "invalid"),
        (body(b"{"), 3, "invalid"),
        (status(400), 1, "failed"),
        (content(None), 1, "invalid"),
        (content("x", model="other"), 1, "invalid"),
        (payload({"model": "m", "choices": []}), 1, "invalid"),
        (content("half \ud800"), 1, "invalid"),
        (content("cut", "length"), 1, "truncated"),
        (content("", "content_filter"), 1, "filtered"),
        (payload(completion("nul \0 esc \x1b")), 1, "done"),
    ],
)
def test_only_what_passes_is_repeated(
    server: FaultServer,
    ledger: Ledger,
    http_teacher: MakeTeacher,
    put_prompts: PutPrompts,
    reply: Reply,
    calls: int,
    state: str,
) -> None:
    server.rule = lambda call: reply
    purchase = order(ledger, {"t": http_teacher(server)}, all_of(put_prompts(1)), retries=2)
    assert len(server.calls) == calls
    assert purchase.states == {state: 1}
    ((recorded, _, attempts),) = states(ledger).values()
    assert (recorded, attempts) == (state, calls)


def test_one_poisoned_row_loses_no_other(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, put_prompts: PutPrompts
) -> None:
    prompts = [*put_prompts(98), Prompt.of("poison"), Prompt.of("half")]
    ledger.put_all([row for prompt in prompts for row in prompt.rows("test")])

    def rule(call: Call) -> Reply | None:
        return {"poison": status(400), "half": content("\udfff", "stop")}.get(call.prompt)

    server.rule = rule
    purchase = order(ledger, {"t": http_teacher(server)}, all_of(prompts))
    assert purchase.states == {"done": 98, "failed": 1, "invalid": 1}
    assert {name: f.count for name, f in purchase.failures.items()} == {
        "bad_request": 1,
        "not_unicode": 1,
    }


def test_strange_text_is_stored_exactly(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, put_prompts: PutPrompts
) -> None:
    texts = ["nul \0 end", "esc \x1b[31m", "bidi \u202e mark", "x" * 8_000_000, "\r\n\t", "😀"]
    prompts = put_prompts(len(texts))
    by_prompt = {p.text: text for p, text in zip(prompts, texts, strict=True)}
    server.rule = lambda call: content(by_prompt[call.prompt])
    teachers = {"t": http_teacher(server)}
    order(ledger, teachers, all_of(prompts), deadline_s=20.0)
    bought = answers(ledger, all_of(prompts), teachers, sampling_of(settings()))
    assert [bought[p.key, "t", 0].text for p in prompts] == texts


@pytest.mark.parametrize("reply", [dripping(60), silent(30)])
def test_deadline_is_wall_clock_for_the_whole_call(
    server: FaultServer,
    ledger: Ledger,
    http_teacher: MakeTeacher,
    put_prompts: PutPrompts,
    reply: Reply,
) -> None:
    server.script(reply)
    teacher = http_teacher(server, price=PRICE)
    purchase = order(
        ledger, {"t": teacher}, all_of(put_prompts(1)), deadline_s=0.5, retries=0, budget_usd=1.0
    )
    ((took_s,),) = ledger.rows("SELECT epoch(ended_at) - epoch(started_at) FROM request")
    # The server takes 30 s or more; timers and clocks differ by a millisecond.
    assert 0.49 <= took_s < 20
    assert list(purchase.failures) == ["deadline"]
    assert purchase.cost_usd == pytest.approx(0.008)  # it may have been charged: the worst case


@pytest.mark.parametrize(
    ("value", "retries"), [("0.6", 4), ("0.6", 0), ("date", 4), ("-3", 4), ("nan", 4)]
)
def test_retry_after_holds_back_every_call(
    server: FaultServer,
    ledger: Ledger,
    http_teacher: MakeTeacher,
    put_prompts: PutPrompts,
    value: str,
    retries: int,
) -> None:
    now = time.time()
    good = value in ("0.6", "date")
    wait_s = {"0.6": 0.6, "date": 1.0}.get(value, 0.0)
    headers = {"Retry-After": formatdate(now + 1, usegmt=True) if value == "date" else value}
    if value == "date":
        headers["Date"] = formatdate(now, usegmt=True)
    server.script(status(429, headers))
    teachers = {"t": http_teacher(server, max_in_flight=2)}
    purchase = order(ledger, teachers, all_of(put_prompts(6)), retries=retries)
    assert purchase.states == {"done": 6}  # a call that was turned away was none
    first, *later = [call.at for call in server.calls]
    if good:
        early = [at for at in later if at - first < wait_s]
        assert len(early) <= 2  # what was sent before the 429 was read


def test_teacher_that_refuses_the_key_is_not_asked_again_and_others_go_on(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, put_prompts: PutPrompts
) -> None:
    prompts = put_prompts(50)
    with FaultServer() as closed:
        closed.rule = lambda call: status(401)
        bad = http_teacher(closed, max_in_flight=2)
        bad.name = "bad"
        teachers = {"t": http_teacher(server), "bad": bad}
        purchase = order(ledger, teachers, all_of(prompts) + all_of(prompts, "bad"))
        assert purchase.states == {"done": 50, "failed": 50}
        assert len(closed.calls) <= 2
        assert "api_key_env" in purchase.failures["unauthorised"].example


def test_server_that_is_down_is_given_up(
    ledger: Ledger, server: FaultServer, http_teacher: MakeTeacher, put_prompts: PutPrompts
) -> None:
    teacher = http_teacher(server, max_in_flight=4)
    server.rule = lambda call: status(503)
    purchase = order(ledger, {"t": teacher}, all_of(put_prompts(100)), retries=1)
    assert purchase.states == {"failed": 100}
    assert len(server.calls) <= breaker.TRIP + 4 + 4
    server.rule = None
    assert order(ledger, {"t": teacher}, all_of(put_prompts(100))).states == {"done": 100}


def test_truncated_is_bought_again_only_when_its_cap_rises(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, put_prompts: PutPrompts
) -> None:
    teachers = {"t": http_teacher(server)}
    requests = all_of(put_prompts(3))
    server.script(content("cut", "length"))
    order(ledger, teachers, requests)
    for cap, calls in [(8, 3), (4, 3), (16, 4), (8, 4), (32, 4)]:
        assert order(ledger, teachers, requests, max_tokens=cap).states.get("failed") is None
        assert len(server.calls) == calls
    bought = answers(ledger, requests, teachers, sampling_of(settings()))
    assert {answer.state for answer in bought.values()} == {"done"}


def test_what_failed_is_tried_again_by_the_next_run(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, put_prompts: PutPrompts
) -> None:
    teachers, requests = {"t": http_teacher(server)}, all_of(put_prompts(4))
    server.script(content(""), status(400))
    assert order(ledger, teachers, requests).bought == 2
    again = order(ledger, teachers, requests)
    assert (again.bought, again.reused) == (2, 2)
    assert {state for state, _, _ in states(ledger).values()} == {"done"}


def test_over_long_prompt_is_refused_before_the_call(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher
) -> None:
    prompts = [Prompt.of("short"), Prompt.of("x" * 1000), Prompt.of("half \ud800")]
    ledger.put_all([row for prompt in prompts[:2] for row in prompt.rows("test")])
    teachers = {"t": http_teacher(server, context=100, price=PRICE)}
    purchase = order(ledger, teachers, all_of(prompts[:2]), budget_usd=1.0)
    assert [call.prompt for call in server.calls] == ["short"]
    assert states(ledger)[prompts[1].key] == ("failed", "prompt_too_long", 0)
    assert purchase.cost_usd == pytest.approx(0.005)


def test_budget_is_never_passed_with_100_in_flight(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, put_prompts: PutPrompts
) -> None:
    sizes = itertools.cycle([1, 8, 3])

    def rule(call: Call) -> Reply:
        usage = {"prompt_tokens": 10, "completion_tokens": next(sizes)}
        return payload(completion("x", usage=usage))

    server.rule = rule
    teachers = {"t": http_teacher(server, price=PRICE, max_in_flight=100)}
    requests = all_of(put_prompts(200))
    cap = 0.4
    for _ in range(2):  # the second run has the rest of the same cap, which buys nothing more
        purchase = order(ledger, teachers, requests, budget_usd=cap)
        ((spent,),) = ledger.rows("SELECT sum(cost_usd) FROM request")
        assert cap - 0.008 < spent <= cap + 1e-12
        assert purchase.states.keys() == {"done", "over_budget"}
    assert len(server.calls) == purchase.states["done"]
    assert order(ledger, teachers, requests, budget_usd=10.0).states == {"done": 200}


def test_own_cap_of_a_teacher_holds(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, put_prompts: PutPrompts
) -> None:
    teachers = {"t": http_teacher(server, price=PRICE, budget_usd=0.02)}
    purchase = order(ledger, teachers, all_of(put_prompts(10)))
    assert purchase.states == {"done": 3, "over_budget": 7}
    assert purchase.cost_usd == pytest.approx(0.015)


def test_money_without_a_cap_or_a_price_is_not_spent(
    server: FaultServer,
    ledger: Ledger,
    http_teacher: MakeTeacher,
    put_prompts: PutPrompts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = all_of(put_prompts(1))
    with pytest.raises(NoBudget, match="budget_usd"):
        order(ledger, {"t": http_teacher(server, price=PRICE)}, requests)
    monkeypatch.setenv("A_KEY", "long-enough-key")
    keyed = {"t": http_teacher(server, api_key_env="A_KEY")}
    with pytest.raises(UnknownPrice, match="on_unknown_price"):
        order(ledger, keyed, requests)
    assert server.calls == []
    order(ledger, keyed, requests, on_unknown_price="allow")
    assert ledger.rows("SELECT cost_usd, price_source FROM request") == [(None, "unknown")]


def test_key_is_nowhere_in_the_ledger(
    server: FaultServer,
    tmp_path: Path,
    http_teacher: MakeTeacher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    canary = "canary-key-6f1d0b2c"
    monkeypatch.setenv("CANARY_KEY", canary)
    teachers = {"t": http_teacher(server, api_key_env="CANARY_KEY")}
    prompts = [Prompt.of(f"p {i}") for i in range(3)]
    server.script(content(f"it is {canary}"), status(400, told=canary), status(401, told=canary))
    ledger = Ledger(tmp_path / "own")
    with ledger.writing("test"):
        ledger.put_all([row for prompt in prompts for row in prompt.rows("test")])
        order(ledger, teachers, all_of(prompts), on_unknown_price="allow")
    for path in ledger.folder.iterdir():
        assert canary.encode() not in path.read_bytes()


def test_full_disk_ends_the_run_and_is_told(
    server: FaultServer,
    ledger: Ledger,
    http_teacher: MakeTeacher,
    put_prompts: PutPrompts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = all_of(put_prompts(200))
    server.delay_s = 0.01

    async def full(batch: object) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(ledger, "aput_all", full)
    with pytest.raises(LedgerError, match="disk is full"):
        order(ledger, {"t": http_teacher(server, max_in_flight=4)}, requests)
    assert len(server.calls) < 20


@pytest.mark.parametrize(("presses", "delay_s"), [(1, 0.05), (2, 0.3)])
def test_ctrl_c_keeps_what_arrived_and_says_what_did_not(
    server: FaultServer,
    ledger: Ledger,
    http_teacher: MakeTeacher,
    put_prompts: PutPrompts,
    presses: int,
    delay_s: float,
) -> None:
    """Once lets the calls in flight end, twice does not."""
    server.delay_s = delay_s
    requests = all_of(put_prompts(400))
    teachers = {"t": http_teacher(server, max_in_flight=4)}
    config = settings()
    pressed: list[int] = []

    def press(progress: Progress) -> None:
        if len(pressed) < presses and (progress.teachers["t"].done > 5):
            pressed.append(progress.teachers["t"].in_flight)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        buy(
            requests,
            teachers,
            ledger,
            sampling_of(config),
            config,
            stage="generate",
            run="r",
            on_progress=press,
        )
    found = [state for state, _, _ in states(ledger).values()]
    assert len(found) == 400
    assert set(found) == {"done", "cancelled"}
    server.delay_s = 0.0
    assert order(ledger, teachers, requests).states == {"done": 400}
    assert len(server.calls) <= 400 + (4 if presses == 2 else 0)


def test_buys_inside_a_running_event_loop(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, put_prompts: PutPrompts
) -> None:
    requests = all_of(put_prompts(3))

    async def notebook() -> Purchase:
        return order(ledger, {"t": http_teacher(server)}, requests)

    assert asyncio.run(notebook()).states == {"done": 3}


def test_clock_that_jumps_changes_no_wait(
    server: FaultServer,
    ledger: Ledger,
    http_teacher: MakeTeacher,
    put_prompts: PutPrompts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = time.time
    jumps = itertools.cycle([3600, -3600])
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    server.script(status(429, {"Retry-After": "0.5"}))
    begin = time.monotonic()
    assert order(ledger, {"t": http_teacher(server)}, all_of(put_prompts(1))).bought == 1
    assert 0.5 <= time.monotonic() - begin < 600  # not the clock's 3,600


def test_local_batches_are_fixed_by_the_order_and_recorded_whole(
    ledger: Ledger, tiny_model: Path, put_prompts: PutPrompts
) -> None:
    teachers: dict[str, Teacher] = {"t": open_local("t", tiny_model, batch_size=4)}
    prompts = put_prompts(10)
    seen: list[Progress] = []
    config = settings()
    purchase = buy(
        all_of(prompts),
        teachers,
        ledger,
        sampling_of(config),
        config,
        stage="probe",
        run="r",
        on_progress=seen.append,
    )
    assert purchase.bought == 10
    assert seen[-1].teachers["t"].done == 10
    ends = ledger.rows("SELECT ended_at, count(*) FROM request GROUP BY 1 ORDER BY 1")
    assert [count for _, count in ends] == [4, 4, 2]
    assert order(ledger, teachers, all_of(prompts)).reused == 10


def test_answers_by_number_are_drawn_apart(
    ledger: Ledger, tiny_model: Path, put_prompts: PutPrompts
) -> None:
    teachers: dict[str, Teacher] = {"t": open_local("t", tiny_model)}
    (prompt,) = put_prompts(1)
    requests = [Request(prompt, "t", n) for n in range(3)]
    config = settings(temperature=1.0, seed=1)
    order(ledger, teachers, requests, temperature=1.0, seed=1)
    bought = answers(ledger, requests, teachers, sampling_of(config))
    assert len({answer.text for answer in bought.values()}) == 3
