"""Runs that spend: 100 calls in flight against caps, without a server."""

import asyncio
import random
from collections import defaultdict

from router.engine.budget import RUN, Budget, Scope

Job = tuple[tuple[Scope, ...], float]


def job(teacher: str, task: str, worst: float) -> Job:
    return (RUN, ("teacher", teacher), ("task", task)), worst


async def spend(
    budget: Budget, dice: random.Random, jobs: list[Job]
) -> tuple[dict[Scope, float], list[Job]]:
    """Buys all jobs, 100 in flight; what was spent by scope, and which jobs found no money."""
    spent: dict[Scope, float] = defaultdict(float)
    refused: list[Job] = []
    queue = iter(jobs)

    async def worker() -> None:
        for one in queue:
            if not await budget.reserve([one]):
                refused.append(one)
                continue
            await asyncio.sleep(0 if dice.random() < 0.5 else 0.0001)
            cost = one[1] * dice.choice([0.0, dice.random(), 1.0])
            for scope in one[0]:
                spent[scope] += cost
            budget.settle([one], [(one[0], cost)])

    await asyncio.gather(*(worker() for _ in range(100)))
    return spent, refused


def simulate_runs(count: int) -> int:
    """How many of `count` runs passed a cap, or stopped though there was money for a call that waited.

    100 in flight, mixed prices, random usage within what was reserved, caps on the run, a teacher
    and a task, and money that earlier sittings spent.
    """
    wrong = 0
    for seed in range(count):
        dice = random.Random(seed)
        prices = [0.001, 0.03, 0.5]
        jobs = [job(dice.choice("ab"), dice.choice("xy"), dice.choice(prices)) for _ in range(150)]
        cap = dice.uniform(0.5, 10)
        caps: dict[Scope, float | None] = {
            RUN: cap,
            ("teacher", "a"): cap / 2,
            ("task", "x"): cap / 3,
        }
        before = {RUN: 0.1, ("teacher", "b"): 0.1}
        spent, refused = asyncio.run(spend(Budget(caps, before), dice, jobs))
        left = {s: (c or 0.0) - before.get(s, 0.0) - spent[s] for s, c in caps.items()}
        stopped_well = all(
            any(left[scope] < worst for scope in scopes if scope in left)
            for scopes, worst in refused
        )
        wrong += min(left.values()) < -1e-9 or not stopped_well
    return wrong
