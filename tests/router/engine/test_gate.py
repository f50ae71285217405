"""The gate holds calls back for as long as it must, and no longer."""

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from router.engine import breaker, gate
from router.engine.gate import Gate, Pace, Ticket
from router.teachers import CallError
from router.teachers.allowance import Allowance, Quota

BUSY = CallError("server_error", "busy", transient=True)
REFUSED = CallError("rate_limited", "slower", transient=True)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


async def entered(at: Gate, tokens: int = 1) -> Ticket:
    ticket = await at.enter(tokens)
    assert ticket is not None
    return ticket


async def is_let_in(at: Gate, within_s: float = 0.0) -> bool:
    """Whether a call may start within so many seconds; it is over at once."""
    try:
        ticket = await asyncio.wait_for(at.enter(1), within_s or 0.001)
    except TimeoutError:
        return False
    if ticket is not None:
        at.leave(ticket)
    return ticket is not None


def test_backoff_grows_within_its_bounds() -> None:
    at = Gate(Pace(1, 1), random.Random(1))
    waits = [0.0]
    for _ in range(200):
        waits.append(at.backoff_s(waits[-1]))
    assert waits[1] == gate.BACKOFF_FLOOR_S
    assert all(gate.BACKOFF_FLOOR_S <= s <= gate.BACKOFF_CEILING_S for s in waits[1:])
    assert max(waits) > 20
    assert len({round(s, 6) for s in waits}) > 100  # jitter: calls do not come back together


def test_no_more_in_flight_than_the_limit_and_in_the_order_of_coming() -> None:
    async def main() -> None:
        at, order = Gate(Pace(2, 2)), []
        first = [await entered(at), await entered(at)]

        async def come(name: int) -> None:
            ticket = await entered(at)
            order.append(name)
            at.succeeded(ticket, 1, None)

        tasks = [asyncio.create_task(come(name)) for name in range(5)]
        await asyncio.sleep(0)
        assert (at.in_flight, order) == (2, [])
        at.succeeded(first[0], 1, None)
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4]

    run(main())


def test_a_call_that_is_cancelled_while_it_waits_takes_no_place() -> None:
    async def main() -> None:
        at = Gate(Pace(1, 1))
        ticket = await entered(at)
        waiting = asyncio.create_task(at.enter(1))
        await asyncio.sleep(0)
        at.succeeded(ticket, 1, None)  # it is let in and cancelled in the same turn
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert at.in_flight == 0
        assert await is_let_in(at)

    run(main())


@pytest.mark.parametrize("seconds", [61.0, 120.0, 86_400.0])
def test_retry_after_of_any_length_holds_every_call(seconds: float) -> None:
    async def main() -> None:
        at = Gate(Pace(4, 4))
        error = CallError("rate_limited", "later", transient=True, retry_after_s=seconds)
        at.failed(await entered(at), error)
        assert seconds - 1 < at.held_s <= seconds
        assert not await is_let_in(at, 0.05)
        assert at.given_up is None

    run(main())


def test_retry_after_is_not_held_against_a_teacher_that_keeps_asking_for_time() -> None:
    async def main() -> None:
        at = Gate(Pace(1, 1, patience_s=0.05))
        later = CallError("rate_limited", "later", transient=True, retry_after_s=0.1)
        for _ in range(4):
            at.failed(await entered(at), later)
        assert at.given_up is None

    run(main())


def test_refusals_cut_the_calls_in_flight_once_a_round() -> None:
    async def main() -> None:
        at = Gate(Pace(100, 100))
        tickets = [await entered(at) for _ in range(100)]
        for ticket in tickets:
            at.failed(ticket, REFUSED)
        assert at.limit == 70
        assert 0 < at.held_s <= 1.5  # nobody said for how long

    run(main())


def test_a_breaker_opens_tries_one_call_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "COOL_S", 0.3)

    async def main() -> None:
        at = Gate(Pace(8, 8))
        at.succeeded(await entered(at), 1, None)
        tickets = [await entered(at) for _ in range(8)]
        for ticket in tickets:
            at.failed(ticket, BUSY)
        assert (at.limit, await is_let_in(at)) == (1, False)
        probe = await asyncio.wait_for(entered(at), 60)
        assert not await is_let_in(at, 0.02)  # half-open: one at a time
        at.failed(probe, BUSY)
        before = time.monotonic()
        probe = await asyncio.wait_for(entered(at), 60)
        assert time.monotonic() - before > 0.5  # cooled twice as long
        at.succeeded(probe, 1, None)
        assert at.limit == 8

    run(main())


def test_success_between_failures_keeps_a_teacher() -> None:
    async def main() -> None:
        at = Gate(Pace(1, 1, patience_s=0.0001))
        for _ in range(50):
            at.failed(await entered(at), BUSY)
            at.succeeded(await entered(at), 1, None)
        assert at.given_up is None

    run(main())


@pytest.mark.parametrize("answered", [True, False])
def test_a_teacher_out_of_order_is_given_up_after_a_while(
    monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    monkeypatch.setattr(breaker, "COOL_S", 0.01)
    monkeypatch.setattr(gate, "FIRST_ANSWER_S", 0.03)

    async def main() -> float:
        at = Gate(Pace(1, 1, patience_s=0.3))
        if answered:
            at.succeeded(await entered(at), 1, None)
        began = time.monotonic()
        while (ticket := await at.enter(1)) is not None:
            at.failed(ticket, BUSY)
        assert at.given_up is BUSY
        return time.monotonic() - began

    took_s = run(main())
    assert took_s > (0.3 if answered else 0.03)


def test_bad_prompts_are_not_held_against_the_teacher() -> None:
    async def main() -> None:
        at = Gate(Pace(1, 1))
        for _ in range(50):
            at.failed(await entered(at), CallError("bad_request", "no"))
        assert (at.given_up, at.held_s) == (None, 0.0)
        for _ in range(gate.WRONG_IN_A_ROW):
            at.failed(await entered(at), CallError("wrong_model", "n answered"))
        assert at.given_up is not None

    run(main())


def test_calls_and_tokens_a_minute_are_spread() -> None:
    async def took_s(pace: Pace, tokens: int) -> float:
        at, began = Gate(pace), time.monotonic()
        for _ in range(11):
            at.succeeded(await entered(at, tokens), tokens // 2, None)
        return time.monotonic() - began

    # Ten waits of 0.04 s. A machine may be late at any of them, and the next one then comes sooner.
    least_s = 10 * 0.04 - gate.CATCH_UP_S
    assert run(took_s(Pace(9, 9, rpm=1500), 1)) > least_s
    # A minute's 60,000 tokens: calls reserved at 80 and settled at 40 leave 0.04 s each.
    assert run(took_s(Pace(9, 9, tpm=60_000), 80)) > least_s


def test_what_the_headers_leave_is_not_passed() -> None:
    async def main() -> None:
        at = Gate(Pace(9, 9))
        at.succeeded(await entered(at), 1, Allowance(Quota(0, 0.1), None))
        began = time.monotonic()
        assert await is_let_in(at, 60.0)
        assert time.monotonic() - began > 0.09
        at.succeeded(await entered(at), 1, Allowance(None, Quota(10, 60.0)))
        big = await entered(at, 1000)
        at.failed(big, CallError("bad_request", "no", allowance=Allowance(None, Quota(10, 60.0))))
        assert not await is_let_in(at, 0.05)
        assert at.held_s > 55

    run(main())


def test_stopping_lets_nobody_in() -> None:
    async def main() -> None:
        at = Gate(Pace(1, 1))
        ticket = await entered(at)
        waiting = asyncio.create_task(at.enter(1))
        await asyncio.sleep(0)
        at.stop()
        assert await waiting is None
        assert await at.enter(1) is None
        at.leave(ticket)

    run(main())
