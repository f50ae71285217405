"""The limit finds what a server can do, against servers that are simulated on a clock of their own."""

import heapq
import random
from collections.abc import Callable

from router.engine.concurrency import FLOOR, Concurrency


def simulate(
    limit: Concurrency,
    latency_s: Callable[[int], float],
    refuses: Callable[[int], bool] = lambda in_flight: False,
    answers: int = 5000,
) -> list[int]:
    """Keeps as many calls in flight as allowed; the limit after each answer."""
    now, seen = 0.0, list[int]()
    flying: list[tuple[float, float, int, bool]] = []  # end, start, mark, refused
    while len(seen) < answers:
        while len(flying) < limit.limit:
            n = len(flying) + 1
            end = now + (0.001 if refuses(n) else latency_s(n))
            heapq.heappush(flying, (end + 1e-9 * len(seen), now, limit.mark, refuses(n)))
        saturated = len(flying) >= limit.limit
        end, start, mark, refused = heapq.heappop(flying)
        now = end
        if refused:
            limit.refused(mark, len(flying) + 1)
        else:
            limit.succeeded(mark, now - start, 10, saturated=saturated)
        seen.append(limit.limit)
    return seen


def test_it_grows_to_the_ceiling_where_nothing_speaks_against_it() -> None:
    seen = simulate(Concurrency(16, 128), lambda n: 1.0)
    assert seen[300] == 128  # doubled each round
    assert max(seen) == seen[-1] == 128


def test_it_settles_around_what_a_server_takes() -> None:
    seen = simulate(Concurrency(16, 128), lambda n: 1.0, lambda n: n > 40, 20_000)
    late = seen[10_000:]
    assert min(late) >= 25
    assert max(late) <= 48


def test_it_goes_down_to_one_call_and_no_further() -> None:
    limit = Concurrency(64, 64)
    for _ in range(100):
        limit.refused(limit.mark, limit.limit)
    assert limit.limit == FLOOR


def test_a_server_that_refuses_by_chance_is_not_asked_less() -> None:
    dice = random.Random(1)
    seen = simulate(Concurrency(16, 128), lambda n: 1.0, lambda n: dice.random() < 0.025, 20_000)
    assert min(seen[5000:]) >= 80


def test_a_queue_behind_a_server_stops_the_growth() -> None:
    """20 at once are answered in 1 s; more only wait longer."""
    seen = simulate(Concurrency(16, 128), lambda n: max(1.0, n / 20), answers=20_000)
    assert max(seen[2000:]) <= 64
    assert sorted(seen[2000:])[len(seen[2000:]) // 2] <= 45


def test_a_server_that_batches_is_given_more_though_it_slows_down() -> None:
    """Four times the calls take twice as long: twice the output."""
    seen = simulate(Concurrency(16, 128), lambda n: (n / 16) ** 0.5)
    assert seen[-1] >= 120
