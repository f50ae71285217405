"""Backoff grows, within its bounds, and a teacher that only fails is given up."""

import asyncio
import random

import pytest

from router.engine import pacing
from router.engine.pacing import Pacer
from router.teachers import CallError


def test_backoff_grows_within_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(pacing.asyncio, "sleep", sleep)
    error = CallError("unavailable", "busy", transient=True)

    async def fail(times: int) -> None:
        pacer, wait = Pacer(dice=random.Random(1)), 0.0
        for _ in range(times):
            wait = await pacer.back_off(error, wait)

    asyncio.run(fail(200))
    assert slept[0] == pacing.BACKOFF_FLOOR_S
    assert all(pacing.BACKOFF_FLOOR_S <= s <= pacing.BACKOFF_CEILING_S for s in slept)
    assert max(slept) > 20
    assert len({round(s, 6) for s in slept}) > 100  # jitter: calls do not come back together


def test_success_between_failures_keeps_a_teacher() -> None:
    pacer = Pacer()
    busy = CallError("unavailable", "busy", transient=True)
    for _ in range(50):
        pacer.failed(busy)
        pacer.succeeded()
    assert pacer.given_up is None
    for _ in range(pacing.GIVE_UP_AFTER):
        pacer.failed(busy)
    assert pacer.given_up is busy


def test_bad_prompts_are_not_held_against_the_teacher() -> None:
    pacer = Pacer()
    for _ in range(50):
        pacer.failed(CallError("bad_request", "no"))
    assert pacer.given_up is None


@pytest.mark.parametrize("seconds", [61.0, 120.0, 86_400.0])
def test_retry_after_of_any_length_is_waited_out(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    now = [1000.0]

    async def sleep(wait: float) -> None:
        now[0] += wait * 0.9  # timers may wake early

    monkeypatch.setattr(pacing.asyncio, "sleep", sleep)
    monkeypatch.setattr(pacing.time, "monotonic", lambda: now[0])
    pacer = Pacer()
    error = CallError("rate_limited", "later", transient=True, retry_after_s=seconds)
    pacer.hold_back(error)
    asyncio.run(pacer.ready())
    assert now[0] >= 1000.0 + seconds - 1e-6
