"""Probes bought one by one against the same probes for every teacher, replayed on a real table.

    python -m benchmarks.probes
    python -m benchmarks.probes --table benchmarks/data/zeroeval.jsonl.gz --budget 11200 --replays 50

A replay holds 30 % of the prompts out, shuffles the rest and buys answers from the table: for every teacher
on the same prompts (uniform), or where a route can still change (sequential). The router that those answers
make is tried on the held-out prompts: without the guard, every prompt follows its neighbourhood; and with it.
Uniform with the same budget on other prompts is the yardstick. Differences are paired by replay, with 95 %
t intervals. Prints a table and, as its last line, one JSON object.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import t as student_t

from benchmarks.tables.fitting import bought, our_router, picks, side_by_side
from benchmarks.tables.table import DATA, Table
from router.deciding import RouteConfig

SHARE = 0.4  # of the budget, that sequential probing gets
WAYS = ("uniform", "uniform_again", "uniform_share", "sequential_share")


class Replay:
    """One split of a table, and what answers bought from its training part are good for."""

    def __init__(self, table: Table, seed: int) -> None:
        self.table, self.seed = table, seed
        self.tasks = np.array(table.tasks or ["all"] * len(table))
        order = np.random.default_rng(seed).permutation(len(table))
        held_out = int(0.3 * len(table))
        self.test, self.pool = order[:held_out], order[held_out:]

    def uniform(self, budget: int, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Rows, and their scores (n, T): every teacher on the same prompts."""
        count = budget // len(self.table.models)
        rows = np.roll(self.pool, -start)[:count]
        return rows, self.table.scores[rows]

    def sequential(self, budget: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows, and their scores (n, T), NaN where nobody asked."""
        vectors, tasks = self.table.vectors[self.pool], self.tasks[self.pool].tolist()
        return self.pool, bought(vectors, tasks, self.table.scores[self.pool], budget, self.seed)

    def quality(self, rows: np.ndarray, scores: np.ndarray, guard: bool) -> float:
        """The mean quality in percent of what the router that these answers make picks for the test."""
        vectors, tasks = self.table.vectors, self.tasks
        config = RouteConfig(guard=guard)
        router = our_router(vectors[rows], tasks[rows].tolist(), scores, self.seed, config)
        models = picks(router, vectors[self.test], tasks[self.test].tolist())
        return float(100 * self.table.scores[self.test, models].mean())


def replay(table: Table, seed: int, budget: int) -> dict[str, list[float]]:
    """By way of probing: test quality without and with the guard, and the calls it took."""
    one, share = Replay(table, seed), int(SHARE * budget)
    bought = {
        "uniform": one.uniform(budget),
        "uniform_again": one.uniform(budget, start=budget // len(table.models)),
        "uniform_share": one.uniform(share),
        "sequential_share": one.sequential(share),
    }
    return {
        way: [
            one.quality(rows, scores, guard=False),
            one.quality(rows, scores, guard=True),
            float((~np.isnan(scores)).sum()),
        ]
        for way, (rows, scores) in bought.items()
    }


def paired(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Mean difference over replays, with a 95 % t interval."""
    differences, n = ours - theirs, len(ours)
    half = float(student_t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n))
    mean = float(differences.mean())
    return {"mean": round(mean, 2), "lo": round(mean - half, 2), "hi": round(mean + half, 2)}


def run(table: Table, budget: int, replays: int) -> dict:
    """All replays of one table."""
    _ = table.vectors  # before the processes part
    found = side_by_side(replay, ((table, seed, budget) for seed in range(replays)))
    values = {way: np.array([each[way] for each in found]) for way in WAYS}  # (replays, 3)
    figures: dict = {"budget": budget, "replays": replays}
    print(f"\n{table.name}: {len(table.models)} models, {replays} replays, budget {budget:,} calls")
    print(
        f"{'':18} {'calls':>7} {'no guard':>9} {'less uniform':>22} {'guard':>9} {'less uniform':>22}"
    )
    for way in WAYS:
        at = values[way]
        cells = [f"{way:18} {at[:, 2].mean():7,.0f}"]
        figures[way] = {"calls": round(float(at[:, 2].mean()))}
        for column, guard in enumerate(("no_guard", "guard")):
            less = paired(at[:, column], values["uniform"][:, column])
            figures[way][guard] = {
                "quality": round(float(at[:, column].mean()), 2), "less_uniform": less
            }  # fmt: skip
            interval = f"{less['mean']:+.2f} [{less['lo']:+.2f}, {less['hi']:+.2f}]"
            cells.append(f"{at[:, column].mean():9.2f} {interval:>22}")
        print(" ".join(cells), flush=True)
    return figures


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, default=DATA / "llmrouter9.jsonl.gz")
    parser.add_argument("--budget", type=int, help="calls; 960 prompts for every model by default")
    parser.add_argument("--replays", type=int, default=50)
    options = parser.parse_args()
    table = Table.read(options.table)
    budget = options.budget or 960 * len(table.models)
    print(json.dumps(run(table, budget, options.replays)))


if __name__ == "__main__":
    main()
