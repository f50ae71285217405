"""A cap is never passed, whatever calls turn out to cost."""

import asyncio
import random

from router.engine.budget import Budget


async def spend(budget: Budget, dice: random.Random, jobs: list[tuple[str, float]]) -> list[float]:
    """Buys all jobs (teacher, worst cost), 100 in flight; returns what was left over for each."""
    spent: list[float] = []
    queue = iter(jobs)

    async def worker() -> None:
        for teacher, worst in queue:
            if await budget.reserve(teacher, worst):
                await asyncio.sleep(0)
                cost = worst * dice.random()
                spent.append(cost)
                budget.settle(teacher, worst, cost)

    await asyncio.gather(*(worker() for _ in range(100)))
    return spent


def test_no_overshoot_in_200_simulated_runs() -> None:
    for seed in range(200):
        dice = random.Random(seed)
        jobs = [(dice.choice("ab"), dice.choice([0.001, 0.03, 0.5])) for _ in range(150)]
        cap = dice.uniform(0.5, 10)
        spent = asyncio.run(spend(Budget(cap, {"a": cap / 2}, {"b": 0.1}), dice, jobs))
        assert sum(spent) + 0.1 <= cap + 1e-9
        # It stops only when less is left than the dearest call reserves, or nothing is left to buy.
        assert len(spent) == len(jobs) or cap - sum(spent) - 0.1 < 0.5 or cap / 2 < 0.5 * 75


def test_a_call_waits_for_what_calls_in_flight_may_give_back() -> None:
    async def main() -> None:
        budget = Budget(1.0, {}, {})
        assert await budget.reserve("a", 0.7)
        second = asyncio.create_task(budget.reserve("a", 0.7))
        await asyncio.sleep(0)
        assert not second.done()
        budget.settle("a", 0.7, 0.2)
        assert await second
        budget.settle("a", 0.7, 0.7)
        assert not await budget.reserve("a", 0.7)
        assert await budget.reserve("a", 0.1)

    asyncio.run(main())


def test_free_calls_need_no_budget() -> None:
    async def main() -> None:
        assert await Budget(0.0, {"a": 0.0}, {"a": 5.0}).reserve("a", 0.0)

    asyncio.run(main())


def test_sums_of_floats_do_not_drift() -> None:
    async def main() -> int:
        budget, count = Budget(1.0, {}, {}), 0
        while await budget.reserve("a", 0.1):
            budget.settle("a", 0.1, 0.1)
            count += 1
        return count

    assert asyncio.run(main()) == 10
