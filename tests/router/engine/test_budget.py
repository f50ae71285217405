"""A cap is never passed, whatever calls turn out to cost."""

import asyncio

from router.engine.budget import RUN, Budget
from tests.router.engine.spending import job, simulate_runs


def test_no_overshoot_in_1000_simulated_runs() -> None:
    """Each run ends with nothing left to buy, or with less left in some scope than a call reserves."""
    assert simulate_runs(1000) == 0


def test_a_call_waits_for_what_calls_in_flight_may_give_back() -> None:
    async def main() -> None:
        budget, dear, cheap = Budget({RUN: 1.0}, {}), job("a", "x", 0.7), job("a", "x", 0.1)
        assert await budget.reserve([dear])
        second = asyncio.create_task(budget.reserve([dear]))
        await asyncio.sleep(0)
        assert not second.done()
        budget.settle([dear], [(dear[0], 0.2)])
        assert await second
        budget.settle([dear], [dear])
        assert not await budget.reserve([dear])
        assert await budget.reserve([cheap])

    asyncio.run(main())


def test_free_calls_need_no_budget() -> None:
    async def main() -> None:
        caps = {RUN: 0.0, ("teacher", "a"): 0.0}
        assert await Budget(caps, {("teacher", "a"): 5.0}).reserve([job("a", "x", 0.0)])

    asyncio.run(main())


def test_sums_of_floats_do_not_drift() -> None:
    async def main() -> int:
        budget, count, one = Budget({RUN: 1.0}, {}), 0, job("a", "x", 0.1)
        while await budget.reserve([one]):
            budget.settle([one], [one])
            count += 1
        return count

    assert asyncio.run(main()) == 10
