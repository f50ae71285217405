"""Buying by a provider's batch API: every state, every loss, every kill, and each request billed once."""

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from ledger.prompts import Prompt
from ledger.store import Ledger
from router.engine import GenerateConfig, Purchase, Request, batches, buy, sampling_of
from router.teachers import TeacherConfig, open_teacher
from tests.faults.batch_server import BatchServer, Fate
from tests.faults.server import FaultServer, completion
from tests.router.engine import batching, buying

PRICE = {"input_usd_per_million": 0.0, "output_usd_per_million": 1000.0}  # 0.001 USD a token
STATES = (
    "SELECT coalesce(r.error_class, r.state), count(*) FROM (SELECT * FROM request "
    "QUALIFY row_number() OVER (PARTITION BY key ORDER BY id DESC) = 1) r GROUP BY 1"
)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "POLL_S", 0.001)
    monkeypatch.setattr(batches, "POLL_CEILING_S", 0.001)
    monkeypatch.setattr(batches, "BACKOFF_FLOOR_S", 0.01)


def order(
    ledger: Ledger, server: BatchServer, n: int = 10, *, first: int = 0, **fields: Any
) -> Purchase:
    prompts = [Prompt.of(f"prompt {i}") for i in range(first, first + n)]
    ledger.put_all([row for prompt in prompts for row in prompt.rows("test")])
    own = {name: fields.pop(name) for name in ("price", "budget_usd") if name in fields}
    config = TeacherConfig(http="m", url=server.url, licence="MIT", batch=True, **own)
    wanted = GenerateConfig(**{"max_tokens": 8, "deadline_s": 5.0, "retries": 2, **fields})
    requests = [Request(prompt, "t") for prompt in prompts]
    teachers = {"t": open_teacher("t", config, Path())}
    return buy(requests, teachers, ledger, sampling_of(wanted), wanted, stage="generate", run="r")


def ends(ledger: Ledger) -> dict[str, int]:
    """How many requests ended in which error class, or else state."""
    return dict(ledger.rows(STATES))


def test_results_come_in_through_all_states_at_half_the_price(ledger: Ledger) -> None:
    with BatchServer() as server:
        purchase = order(ledger, server, price=PRICE, budget_usd=1.0)
    assert purchase.states == {"done": 10}
    assert purchase.cost_usd == pytest.approx(10 * 5 * 0.001 / 2)
    assert len(server.jobs) == 1
    assert server.looks == 5
    assert ledger.rows("SELECT DISTINCT attempts, price_source FROM request") == [(1, "recipe")]
    assert ledger.rows("SELECT DISTINCT state FROM provider_batch ORDER BY 1") == [
        ("over",), ("prepared",), ("started",), ("uploaded",),
    ]  # fmt: skip


def test_what_an_expired_batch_left_is_sent_again_and_nothing_else(ledger: Ledger) -> None:
    with BatchServer(fates=["expired", "expired"]) as server:
        assert order(ledger, server).states == {"done": 10}
    assert [len(job.lines) for job in server.jobs.values()] == [10, 5, 3]
    assert set(server.billed.values()) == {1}
    assert ledger.rows("SELECT attempts, count(*) FROM request GROUP BY 1 ORDER BY 1") == [
        (1, 5), (2, 2), (3, 3),
    ]  # fmt: skip


def test_batch_that_expires_again_and_again_is_given_up(ledger: Ledger) -> None:
    with BatchServer(fates=["expired"] * 9, rule=lambda *_: "no line") as server:
        order(ledger, server, n=2)
        assert ends(ledger) == {"expired": 2}
        assert [len(job.lines) for job in server.jobs.values()] == [2, 2, 2]


def test_only_what_failed_for_a_passing_reason_is_sent_again(ledger: Ledger) -> None:
    rules: dict[str, Any] = {
        "prompt 1": lambda sending: 400,
        "prompt 2": lambda sending: 503 if sending == 1 else None,
        "prompt 3": lambda sending: "no line" if sending == 1 else None,
        "prompt 4": lambda sending: completion(None),
        "prompt 5": lambda sending: completion("x", model="other"),
        "prompt 6": lambda sending: 429,
    }
    with BatchServer(rule=lambda prompt, n: rules.get(prompt, lambda n: None)(n)) as server:
        order(ledger, server)
    assert ends(ledger) == {
        "done": 6, "bad_request": 1, "empty": 1, "wrong_model": 1, "rate_limited": 1,
    }  # fmt: skip
    again = [sorted(line["body"]["messages"][0]["content"] for line in job.lines)
             for job in list(server.jobs.values())[1:]]  # fmt: skip
    assert again == [["prompt 2", "prompt 3", "prompt 6"], ["prompt 6"]]
    assert set(server.billed.values()) == {1}


def test_batch_that_the_provider_refuses_is_told_and_not_sent_again(ledger: Ledger) -> None:
    with BatchServer(fates=["failed"]) as server:
        purchase = order(ledger, server)
    assert ends(ledger) == {"batch_refused": 10}
    assert "line 1 is wrong" in purchase.failures["batch_refused"].example
    assert len(server.jobs) == 1


@pytest.mark.parametrize("call", ["upload", "create", "look", "content"])
def test_answer_that_is_lost_on_the_way_costs_nothing_twice(ledger: Ledger, call: str) -> None:
    with BatchServer(lose=[call]) as server:
        assert order(ledger, server).states == {"done": 10}
        assert not server.lose
    assert len(server.files) == len(server.jobs) == 1


def test_cap_is_held_batch_by_batch(ledger: Ledger) -> None:
    with BatchServer() as server:
        # Worst case 8 tokens a request, 5 in truth: a first batch of 5, then what came back allows 3, 2.
        purchase = order(ledger, server, n=20, price=PRICE, budget_usd=0.020)
    assert [len(job.lines) for job in server.jobs.values()] == [5, 1, 1]
    assert purchase.cost_usd <= 0.020
    assert purchase.states == {"done": 7, "over_budget": 13}


def test_earlier_batch_is_taken_in_whatever_is_asked_for_now(ledger: Ledger) -> None:
    with BatchServer(fates=["stuck"], early=True) as server:
        stop = threading.Timer(0.7, signal.raise_signal, [signal.SIGINT])
        stop.start()
        with pytest.raises(KeyboardInterrupt):
            order(ledger, server)
        assert ends(ledger) == {"done": 5, "cancelled": 5}  # read while the batch went on
        reason = ledger.rows("SELECT DISTINCT reason FROM request WHERE state = 'cancelled'")
        assert reason == [(batches.AT_PROVIDER,)]
        next(iter(server.jobs.values())).fate = "completed"
        assert order(ledger, server, n=1, first=50).states == {"done": 1}
        assert ends(ledger) == {"done": 11}
        assert order(ledger, server).reused == 10
    assert set(server.billed.values()) == {1}


@pytest.mark.parametrize(
    "text", ["a\u2028b", "a\u2029b", "a\x85b", "a\x1cb", "naïve 日本 \U0001f600"]
)
def test_answer_with_a_separator_inside_is_one_answer(ledger: Ledger, text: str) -> None:
    with BatchServer(rule=lambda prompt, n: completion(text)) as server:
        assert order(ledger, server, n=3).states == {"done": 3}
    assert set(server.billed.values()) == {1}
    assert ledger.rows("SELECT DISTINCT text FROM sample_text") == [(text,)]


def test_strange_answer_ends_its_own_request_and_no_other(ledger: Ledger) -> None:
    strange = {"prompt 1": completion("half \ud800"), "prompt 2": {"choices": 5}}
    with BatchServer(rule=lambda prompt, n: strange.get(prompt)) as server:
        order(ledger, server, n=5)
    assert ends(ledger) == {"done": 3, "not_unicode": 1, "wrong_model": 1}


def test_batch_that_the_provider_forgot_is_told_and_asked_anew(ledger: Ledger) -> None:
    with BatchServer(fates=["stuck"]) as server:
        stop = threading.Timer(0.7, signal.raise_signal, [signal.SIGINT])
        stop.start()
        with pytest.raises(KeyboardInterrupt):
            order(ledger, server)
        server.jobs.clear()
        assert "does not know batch" in order(ledger, server).failures["batch_gone"].example
        assert order(ledger, server).states == {"done": 10}


def test_earlier_batch_counts_against_the_cap_by_what_it_was_asked_for(ledger: Ledger) -> None:
    price: dict[str, Any] = {"price": PRICE, "budget_usd": 0.30}
    long = completion("x")
    long["usage"]["completion_tokens"] = 100
    with BatchServer(
        fates=["stuck"], rule=lambda prompt, n: long if prompt < "prompt 4" else None
    ) as server:
        stop = threading.Timer(0.7, signal.raise_signal, [signal.SIGINT])
        stop.start()
        with pytest.raises(KeyboardInterrupt):
            order(ledger, server, n=4, max_tokens=100, **price)
        next(iter(server.jobs.values())).fate = "completed"
        order(ledger, server, n=49, first=50, max_tokens=5, **price)
    spent = ledger.rows("SELECT sum(cost_usd) FROM request")[0][0]
    assert spent <= 0.30 + 1e-9


def test_answer_cut_off_by_a_cap_that_was_raised_is_bought_again(ledger: Ledger) -> None:
    cut = completion("cut", "length")
    with BatchServer(fates=["stuck"], rule=lambda prompt, n: cut if n == 1 else None) as server:
        stop = threading.Timer(0.7, signal.raise_signal, [signal.SIGINT])
        stop.start()
        with pytest.raises(KeyboardInterrupt):
            order(ledger, server, n=2)
        next(iter(server.jobs.values())).fate = "completed"
        order(ledger, server, n=2, max_tokens=50)
        assert ends(ledger) == {"done": 2}


def test_several_batches_are_under_way_at_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_REQUESTS", 4)
    with BatchServer() as server:
        assert order(ledger, server, n=12).states == {"done": 12}
        assert [len(job.lines) for job in server.jobs.values()] == [4, 4, 4]
    began = "SELECT count(*) FROM provider_batch WHERE state = 'started' AND id < "
    assert ledger.rows(f"{began} (SELECT min(id) FROM provider_batch WHERE state = 'over')") == [
        (3,)
    ]


def test_answers_to_one_prompt_are_drawn_apart(ledger: Ledger) -> None:
    prompt = Prompt.of("?")
    ledger.put_all(prompt.rows("test"))
    settings = GenerateConfig(max_tokens=8, temperature=0.7, seed=3)
    with BatchServer() as server:
        config = TeacherConfig(http="m", url=server.url, licence="MIT", batch=True)
        buy(
            [Request(prompt, "t", n) for n in range(3)],
            {"t": open_teacher("t", config, Path())},
            ledger,
            sampling_of(settings),
            settings,
            stage="generate",
            run="r",
        )
        seeds = [line["body"]["seed"] for line in server.jobs["batch-0"].lines]
    assert sorted(seeds) == [3, 4, 5]


@pytest.mark.parametrize("fate", ["refused", "stuck"])
def test_teacher_by_batch_holds_no_other_ones_budget_back(ledger: Ledger, fate: str) -> None:
    """Refused: its key, at the upload. Stuck: its batch, and somebody presses Ctrl-C."""
    prompts = [Prompt.of(f"prompt {i}") for i in range(4)]
    ledger.put_all([row for prompt in prompts for row in prompt.rows("test")])
    settings = GenerateConfig(max_tokens=8, deadline_s=5.0, budget_usd=0.018)
    with BatchServer(fates=["stuck"]) as server, FaultServer(delay_s=0.3) as calls:
        if fate == "refused":
            server.refuse = True
        else:
            threading.Timer(1.0, signal.raise_signal, [signal.SIGINT]).start()
        common: dict[str, Any] = {"http": "m", "licence": "MIT", "price": PRICE}
        configs = {
            "batch": TeacherConfig(**common, url=server.url, batch=True),
            "calls": TeacherConfig(**common, url=calls.url, max_in_flight=2, revision="2"),
        }
        teachers = {name: open_teacher(name, config, Path()) for name, config in configs.items()}
        requests = [Request(prompt, name) for prompt in prompts for name in teachers]
        expected = pytest.raises(KeyboardInterrupt) if fate == "stuck" else nullcontext()
        began = time.monotonic()
        with expected:
            buy(requests, teachers, ledger, sampling_of(settings), settings, stage="g", run="r")
        assert time.monotonic() - began < 8
        if fate == "refused":
            assert ends(ledger)["unauthorised"] == 4
            assert ends(ledger)["done"] >= 2


@pytest.mark.parametrize(
    ("fates", "early"),
    [((), False), pytest.param(("expired",), True, marks=pytest.mark.slow)],
    ids=["plain", "expired"],
)
def test_killed_after_every_step_it_ends_complete_and_each_is_billed_once(
    tmp_path: Path, fates: Iterable[Fate], *, early: bool
) -> None:
    for step in range(1, 100):
        with BatchServer(fates=fates, early=early) as server:
            teacher = tmp_path / "teacher.json"
            fields = {"http": "m", "url": server.url, "licence": "MIT", "batch": True}
            teacher.write_text(json.dumps(fields))
            folder = tmp_path / f"{step}"
            killed = batching.dies(folder, teacher, 6, at=step)
            buying.buy_all(folder, teacher, 6)
            texts = [text for _, text in buying.samples(folder)]
            assert texts == [f"echo prompt {i}" for i in range(6)], f"killed after step {step}"
            assert Counter(server.billed.values()) == {1: 6}, f"killed after step {step}"
        if not killed:
            assert step > 10
            return
    pytest.fail("it never came to its end")
