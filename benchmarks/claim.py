"""Does routing pay? One student, trained on the answers of routed teachers, of one, of any, and of all.

    python -m benchmarks.claim --folder runs/claim --picture docs/claim.svg

The quickstart four times a seed, with the same prompts, base, settings, steps and trained tokens; only who
answers the training prompts differs:

- `routed`: each task's strongest teacher by the probes, as the recipe routes;
- `best_single`: the teacher that is strongest over all tasks together, for every prompt;
- `random`: every teacher equally likely, by lot and prompt;
- `pooled`: every teacher answers each prompt, and the mix draws from all answers.

A teacher asked for what it never learnt answers in fewer tokens. So that a step holds as many trained tokens
in every way, the batch of each way is the recipe's, larger by as much as its answers are shorter, to the whole
sample. The mix holds as many batches in every way, and there are epochs for as many steps as the recipe has.

Scores are the student's on the recipe's test items. Intervals are 95 % t ones over seeds, differences from
`routed` paired by seed. The folder keeps every run: one that was cut off goes on. `--recipe smollm2` does the
same on the SmolLM2 recipe, its server running (`make smollm2` says how), which takes hours. Prints a table and,
as its last line, one JSON object.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.quickstart import interval, recipe_fields
from tutelage.pipeline import run_recipe

# Samples of which the worst way has enough.
RECIPES = {"quickstart": 7_200, "smollm2": 540}
STRONGEST = {"policy": "strongest"}
WAYS = ("routed", "best_single", "random", "pooled")
COLOURS = {"routed": "#2563eb", "best_single": "#d97706", "random": "#6b7280", "pooled": "#059669"}


def one_seed(fields: dict[str, Any], samples: int, seed: int) -> dict[str, dict[str, Any]]:
    """By way: the student's scores by task, and the samples, tokens and steps that it took."""
    large = {**fields, "mix": {**fields["mix"], "total": samples}}
    usual = fields.get("route", STRONGEST)
    mixed = {"routed": run({**large, "route": usual}, "routed", seed, until="mix")}
    routes = mixed["routed"]["route"]["routes"]
    tasks = [task for task in routes if task != "unsure"]
    best = str(routes["unsure"]["teacher"])  # of no task: the best single one
    teachers = len(mixed["routed"]["probe"]["strengths"])
    by_way = {
        "best_single": {"policy": "fixed", "to": dict.fromkeys(tasks, best)},
        "random": {**usual, "level": "task", "explore": (teachers - 1) / teachers},
        "pooled": {"policy": "all"},
    }
    for way, route in by_way.items():
        mixed[way] = run({**large, "route": route}, way, seed, until="mix")
    lengths = {way: at["mix"]["tokens"] / at["mix"]["samples"] for way, at in mixed.items()}
    found: dict[str, dict[str, Any]] = {}
    for way, size in sized(fields, samples, lengths).items():
        route = by_way.get(way, usual)
        stages = run({**fields, **size, "route": route}, way, seed, until="evaluate")
        scores, trained = stages["evaluate"]["tasks"], stages["train"]
        found[way] = {
            "scores": {task: scores[task]["models"]["student"]["mean"] for task in tasks},
            "samples": size["mix"]["total"],
            "batch_size": size["student"]["batch_size"],
            "steps": trained["steps"],
            "tokens": trained["tokens"],
            "training_s": trained["training_s"],
        }
        print(f"seed {seed} {way}: {found[way]}", flush=True)
        if way == "routed":
            routed = {task: str(routes[task]["teacher"]) for task in tasks}
            taught = {task: scores[task]["models"][routed[task]]["mean"] for task in tasks}
            found["teachers"] = {"routed": taught, "routes": routed, "best_single": best}
    return found


def sized(
    fields: dict[str, Any], samples: int, lengths: dict[str, float]
) -> dict[str, dict[str, Any]]:
    """By way, the recipe's sections `mix` and `student` in which a step of each has as many tokens.

    `samples`: how many every way has at least; `lengths`: trained tokens a sample, by way.
    """
    mix, student = fields["mix"], fields["student"]
    batches = {
        way: round(student["batch_size"] * lengths["routed"] / length)
        for way, length in lengths.items()
    }
    steps = samples // max(batches.values())
    epochs = mix["total"] * student["epochs"] // (student["batch_size"] * steps)
    return {
        way: {
            "mix": {**mix, "total": steps * batch},
            "student": {**student, "batch_size": batch, "epochs": epochs},
        }
        for way, batch in batches.items()
    }


def run(fields: dict[str, Any], way: str, seed: int, until: str) -> dict[str, Any]:
    """The recipe for one way; what its stages up to `until` put out."""
    name = f"{way}-{seed}"
    path = Path(f"{name}.yaml")
    path.write_text(yaml.safe_dump({**fields, "run": f"runs/{name}", "seed": seed}))
    stages: dict[str, Any] = run_recipe(path, until=until)["stages"]
    return stages


def summarise(by_seed: dict[int, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """By way: score over all tasks and by task, and how much less than `routed`."""
    seeds = list(by_seed.values())
    tasks = list(seeds[0]["routed"]["scores"])

    def means(way: str) -> list[float]:
        return [float(np.mean(list(found[way]["scores"].values()))) for found in seeds]

    figures: dict[str, Any] = {
        "seeds": list(by_seed),
        "teachers": {
            task: interval([found["teachers"]["routed"][task] for found in seeds]) for task in tasks
        },
        "routes": [found["teachers"]["routes"] for found in seeds],
        "best_single_teacher": [found["teachers"]["best_single"] for found in seeds],
    }
    for way in WAYS:
        figures[way] = {
            "score": interval(means(way)),
            "less_routed": interval(np.subtract(means(way), means("routed")).tolist()),
            "tasks": {
                task: interval([found[way]["scores"][task] for found in seeds]) for task in tasks
            },
            "samples": [found[way]["samples"] for found in seeds],
            "batch_size": [found[way]["batch_size"] for found in seeds],
            "steps": [found[way]["steps"] for found in seeds],
            "tokens": [found[way]["tokens"] for found in seeds],
        }
    return figures


def show(figures: dict[str, Any]) -> None:
    """The table."""
    tasks = list(figures["teachers"])
    print(f"\n{len(figures['seeds'])} seeds; best single teacher {figures['best_single_teacher']}")
    print(f"{'student of':12} {'mean of tasks':>21} {'less routed':>25}  " + "  ".join(tasks))
    for way in WAYS:
        row = figures[way]
        score, less = row["score"], row["less_routed"]
        print(
            f"{way:12} {score['mean']:.3f} [{score['lo']:.3f}, {score['hi']:.3f}]"
            f"  {less['mean']:+.3f} [{less['lo']:+.3f}, {less['hi']:+.3f}]  "
            + "  ".join(f"{row['tasks'][task]['mean']:.3f}".rjust(len(task)) for task in tasks)
            + f"  {np.mean(row['tokens']):,.0f} tokens in {np.mean(row['steps']):,.0f} steps"
        )
    teachers = figures["teachers"]
    print(
        f"{'its teachers':12} {np.mean([at['mean'] for at in teachers.values()]):.3f}".ljust(62)
        + "  ".join(f"{teachers[task]['mean']:.3f}".rjust(len(task)) for task in tasks)
    )


def picture(figures: dict[str, Any]) -> str:
    """A dot with its interval for each way, a column a task and one for all of them."""
    tasks = list(figures["teachers"])
    columns = ["all tasks", *tasks]
    width = 150 + 190 * len(columns)
    parts = []
    for i, column in enumerate(columns):
        left = 130 + 190 * i
        parts.append(f'<text x="{left}" y="28" font-weight="bold">{column}</text>')
        for tick in (0, 0.5, 1):
            x = left + 160 * tick
            parts.append(
                f'<line x1="{x}" x2="{x}" y1="40" y2="172" stroke="#e5e7eb"/>'
                f'<text x="{x}" y="190" text-anchor="middle" fill="#6b7280">{tick:g}</text>'
            )
        taught = [figures["teachers"][task]["mean"] for task in tasks]
        teacher = float(np.mean(taught)) if i == 0 else taught[i - 1]
        x = left + 160 * teacher
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="40" y2="172" stroke="#111" stroke-dasharray="4 3"/>'
        )
        for k, way in enumerate(WAYS):
            found = figures[way]["score"] if i == 0 else figures[way]["tasks"][column]
            parts.append(_dot(found, left, 58 + 32 * k, COLOURS[way]))
    labels = "".join(
        f'<text x="112" y="{62 + 32 * k}" text-anchor="end" fill="{COLOURS[way]}">'
        f"{way.replace('_', ' ')}</text>"
        for k, way in enumerate(WAYS)
    )
    note = "score of the student on test items; mean and 95 % interval over seeds; dashed: the routed teachers"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 222" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="#fff"/>{labels}{"".join(parts)}'
        f'<text x="130" y="212" fill="#6b7280">{note}</text></svg>\n'
    )


def _dot(found: dict[str, float], left: int, y: int, colour: str) -> str:
    lo, mean, hi = (left + 160 * min(max(found[name], 0), 1) for name in ("lo", "mean", "hi"))
    return (
        f'<line x1="{lo:.1f}" x2="{hi:.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3" '
        f'stroke-opacity=".4"/><circle cx="{mean:.1f}" cy="{y}" r="5" fill="{colour}"/>'
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", choices=RECIPES, default="quickstart")
    parser.add_argument("--folder", type=Path, default=Path("runs/claim"))
    parser.add_argument("--seeds", default="7,8,9")
    parser.add_argument(
        "--samples", type=int, help=f"as many as every way has; by recipe {RECIPES}"
    )
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    target = options.picture.resolve() if options.picture else None
    options.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(options.folder)
    fields = recipe_fields(options.recipe)
    fields["evaluate"]["speed"] = {"prompts": 0}
    samples = options.samples or RECIPES[options.recipe]
    seeds = [int(seed) for seed in options.seeds.split(",")]
    figures = summarise({seed: one_seed(fields, samples, seed) for seed in seeds})
    show(figures)
    if target:
        target.write_text(picture(figures))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
