"""Does it pay to route by what the student can learn? The quickstart, routed in three ways.

    python -m benchmarks.learnable --seeds 7,8,9

`strength` routes by the scores of the probes, `learnable` by what they are worth to the student, `nearest`
sends each task to the teacher whose answers are nearest to the student's reach, of those at least half as
strong as the strongest. Same prompts, tokens and steps; where two ways end in the same mix, one training
counts for both. Scores are the student's on the test items; differences from `strength` are paired by seed,
with 95 % t intervals. Prints a table and, as its last line, one JSON object.
"""

import argparse
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.quickstart import interval, recipe_fields
from tutelage.pipeline import run_recipe
from tutelage.workspace import open_run

WAYS = ("strength", "learnable", "nearest")


def recipe(run: str, seed: int, route: dict[str, Any], total: int | None) -> Path:
    """The quickstart, routed as told, under a name of its own."""
    fields = recipe_fields()
    fields["evaluate"]["speed"] = {"prompts": 0}
    if total is not None:
        fields["mix"]["total"] = total
    path = Path(f"{run}.yaml")
    path.write_text(yaml.safe_dump({**fields, "run": f"runs/{run}", "seed": seed, "route": route}))
    return path


def nearest(run: str) -> dict[str, Any]:
    """A route to the teachers whose answers the student finds likeliest, by what a run measured."""
    measured = open_run(Path("runs") / run).outputs["probe"]
    near, strengths = measured["learnability"], measured["strengths"]
    to = {}
    for task in sorted({task for at in near.values() for task in at}):
        means = {name: at[task]["mean"] for name, at in strengths.items() if task in at}
        strong = [name for name, mean in means.items() if mean >= max(means.values()) / 2]
        to[task] = max(strong, key=lambda name: math.prod(near[name][task]))
    return {"policy": "fixed", "to": to}


def one_seed(seed: int, total: int | None) -> dict[str, dict[str, Any]]:
    """By way: where tasks went, and the student's scores on their test items."""
    found: dict[str, dict[str, Any]] = {}
    trained: dict[str, dict[str, float]] = {}  # lock of a mix -> scores of the student of it
    for way in WAYS:
        run = f"{way}-{seed}"
        route = nearest(f"learnable-{seed}") if way == "nearest" else {"objective": way}
        path = recipe(run, seed, route, total)
        stages = run_recipe(path, until="mix")["stages"]
        routes = {task: at["teacher"] for task, at in stages["route"]["routes"].items()}
        lock = stages["mix"]["lock_sha"]
        if lock not in trained:
            tasks = run_recipe(path, until="evaluate")["stages"]["evaluate"]["tasks"]
            trained[lock] = {task: at["models"]["student"]["mean"] for task, at in tasks.items()}
        routes.pop("unsure")
        found[way] = {"routes": routes, "mix": lock, "scores": trained[lock]}
        print(f"seed {seed} {way}: {routes} {trained[lock]}", flush=True)
    return found


def difference(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Mean paired difference, with a 95 % t interval over seeds."""
    return interval(np.subtract(ours, theirs).tolist())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="7,8,9")
    parser.add_argument("--total", type=int, help="samples in the mix; the quickstart's by default")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        found = [one_seed(seed, options.total) for seed in seeds]
    means = {
        way: [float(np.mean(list(by_way[way]["scores"].values()))) for by_way in found]
        for way in WAYS
    }
    figures: dict[str, Any] = {"seeds": seeds}
    print(f"\n{'':10} {'student':>8} {'less strength':>26}  routes of seed {seeds[0]}")
    for way in WAYS:
        less = difference(means[way], means["strength"])
        figures[way] = {
            "score": round(float(np.mean(means[way])), 4),
            "less_strength": less,
            "tasks": {
                task: round(float(np.mean([by_way[way]["scores"][task] for by_way in found])), 4)
                for task in found[0][way]["scores"]
            },
            "routes": [by_way[way]["routes"] for by_way in found],
            "same_mix_as_strength": [
                by_way[way]["mix"] == by_way["strength"]["mix"] for by_way in found
            ],
        }
        interval = f"{less['mean']:+.3f} [{less['lo']:+.3f}, {less['hi']:+.3f}]"
        routes = ", ".join(f"{t} -> {name}" for t, name in found[0][way]["routes"].items())
        print(f"{way:10} {figures[way]['score']:8.3f} {interval:>26}  {routes}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
