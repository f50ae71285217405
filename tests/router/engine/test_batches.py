"""Buying by a provider's batch API: every state, every loss, every kill, and each request billed once."""

import json
import signal
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ledger.prompts import Prompt
from ledger.store import Ledger
from router.engine import GenerateConfig, Purchase, Request, batches, buy, sampling_of
from router.teachers import TeacherConfig, open_teacher
from tests.faults.batch_server import BatchServer, Fate
from tests.faults.server import completion
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
