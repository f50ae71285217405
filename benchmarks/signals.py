"""Does a signal help? The quickstart's student by hard, logit, feature and all three, on more and more samples.

    python -m benchmarks.signals --folder runs/signals --picture docs/signals.svg

Same teachers, prompts, steps and settings; a size is so many samples of the quickstart's mix, its shares kept,
drawn anew by each seed, and passed over as often as makes the same number of positions. Scores are the
student's on the quickstart's test items, the mean over tasks; KL(teacher, student) in nats a token is exact,
over the whole vocabulary, on the routed teachers' own answers to those items. `samples to 90 %` is where the
score crosses .9 of the teachers', between sizes on a logarithmic line. Intervals are 95 % t ones over seeds,
differences from `hard` paired by seed. Trainings run in processes of one thread; each is put down in the folder
when it ends, so a run that was cut off goes on. Last line: one JSON object.
"""

import argparse
import asyncio
import json
import math
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.quickstart import interval, recipe_fields

SIGNALS: dict[str, list[str]] = {
    "hard": ["hard"],
    "logit": ["logit"],
    "feature": ["feature"],
    "mixed": ["hard", "logit", "feature"],
}
COLOURS = {"hard": "#6b7280", "logit": "#2563eb", "feature": "#d97706", "mixed": "#059669"}
GOAL = 0.9  # of the teachers' score
RESULTS = "results.jsonl"


@dataclass(frozen=True)
class Job:
    """One training."""

    signal: str
    size: int
    seed: int
    steps: int
    folder: str

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"{self.signal}-{self.size}-{self.seed}-{self.steps}"


def write_recipe(folder: Path) -> Path:
    """The quickstart with every signal, so that one run has mix and records for all of them."""
    fields = recipe_fields()
    fields["student"]["signal"] = SIGNALS["mixed"]
    fields["run"] = str(folder / "quickstart")
    path = folder / "signals.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


def prepare(folder: Path) -> None:
    """Answers, mix and records, and what the teachers say of the test items."""
    from tutelage.pipeline import run_recipe
    from tutelage.workspace import open_run

    run_recipe(write_recipe(folder), until="capture")
    workspace = open_run(folder / "quickstart")
    items = workspace.pools.test
    scores: dict[str, float] = {}
    rows, told = [], []
    for task in workspace.pools.tasks:
        own = [item for item in items if item.task == task]
        teacher = workspace.open_teacher(workspace.routed.by_task[task])
        texts = answered(teacher, own, workspace.sampling)
        scores[task] = mean_score(texts, own)
        ids = [encoded(teacher, item, text) for item, text in zip(own, texts, strict=True)]
        size = len(teacher.tokenizer().get_vocab())  # type: ignore[attr-defined]
        top = asyncio.run(teacher.top_k(ids, size, size, 1.0))  # type: ignore[attr-defined]
        told += [whole(*each) for each in top]
        rows += [[task, *each] for each in ids]
    np.savez(folder / "teachers.npz", told=np.concatenate(told))
    (folder / "teachers.json").write_text(json.dumps({"scores": scores, "rows": rows}))


def whole(ids_T_V: np.ndarray, p_T_V: np.ndarray) -> np.ndarray:
    """Probabilities (T, V) by token from those by rank."""
    found = np.zeros_like(p_T_V)
    np.put_along_axis(found, ids_T_V, p_T_V, axis=1)
    return found


def answered(model: Any, items: list[Any], sampling: Any, at_once: int = 128) -> list[str]:
    """A local model's answers."""

    async def ask() -> list[str]:
        texts: list[str] = []
        for start in range(0, len(items), at_once):
            prompts = [item.prompt for item in items[start : start + at_once]]
            assert not any(await model.check(prompts, sampling))
            texts += [answer.text for answer in await model.answer(prompts, sampling)]
        return texts

    return asyncio.run(ask())


def mean_score(texts: list[str], items: list[Any]) -> float:
    """By reasoning-gym's own scorers."""
    from evals.scorers import score

    found = [
        score("reasoning_gym", text, item.reference, item.meta).value
        for text, item in zip(texts, items, strict=True)
    ]
    return float(np.mean(found))


def encoded(teacher: Any, item: Any, text: str) -> tuple[list[int], int]:
    """Ids of prompt and answer, and where the answer begins."""
    from trainer.signals.hard import ChatFormat, Example

    (found,) = ChatFormat(teacher.tokenizer()).encode([Example(item.prompt.messages, text)])
    return found.ids, found.start


def draw_mix(whole_mix: Path, folder: Path, job: Job) -> list[str]:
    """A mix of the job's size, with the whole one's shares; returns the samples' keys."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ledger.mixes import MixStage, order_schema, write_mix

    table = pq.read_table(whole_mix / "samples.parquet")
    dice = np.random.default_rng(job.seed)
    tasks = np.array(table["task"].to_pylist())
    taken: list[int] = []
    for task in sorted(set(tasks.tolist())):
        rows = np.flatnonzero(tasks == task)
        taken += dice.permutation(rows)[: round(job.size * len(rows) / len(tasks))].tolist()
    taken.sort()
    places = dice.permutation(len(taken)).tolist()
    order = {
        "position": list(range(len(taken))),
        "stage": ["all"] * len(taken),
        "row": places,
        "repeat": [0] * len(taken),
    }
    stages = [MixStage("all", 0, len(taken), "shuffled")]
    samples = table.take(taken)
    write_mix(
        folder, samples, pa.table(order, schema=order_schema()), {}, stages,
        seed=job.seed, unit="samples",
    )  # fmt: skip
    return [str(key) for key in samples["sample"].to_pylist()]


def train_one(job: Job) -> dict[str, Any]:
    """Trains and measures one student, in a process of its own."""
    import torch

    from benchmarks.training import put_samples
    from ledger.store import Ledger
    from router.teachers.opening import open_local
    from trainer.config import StudentConfig
    from trainer.run import train
    from tutelage.featuring import feature_teachers
    from tutelage.workspace import open_run

    torch.set_num_threads(1)
    started = time.monotonic()
    workspace = open_run(Path(job.folder) / "quickstart")
    folder = Path(job.folder) / job.name
    shutil.rmtree(folder, ignore_errors=True)
    keys = draw_mix(workspace.mix_folder, folder / "mix", job)
    fields = workspace.recipe.student.model_dump()
    epochs = max(1, round(job.steps * fields["batch_size"] / len(keys)))
    fields |= {"signal": SIGNALS[job.signal], "epochs": epochs, "checkpoint_every": 10**6}
    ledger = Ledger(folder / "ledger")
    with ledger.writing("benchmark"):
        ledger.put("prompt", [{"key": key, "source": "x", "chars": 1} for key in keys])
        put_samples(ledger, keys)
        student = train(
            StudentConfig.model_validate(fields), folder / "mix", folder / "student",
            base_dir=workspace.base, seed=job.seed, ledger=ledger, run="benchmark", key="benchmark",
            teachers={}, records=workspace.records_folder,
            features=feature_teachers(workspace.teachers, 10**6),
        )  # fmt: skip
    model = open_local("student", student.path)
    tasks = workspace.pools.tasks
    own = {task: [item for item in workspace.pools.test if item.task == task] for task in tasks}
    found = {
        **asdict(job),
        "steps": student.steps,
        "samples": len(keys),
        "scores": {
            task: mean_score(answered(model, items, workspace.sampling), items)
            for task, items in own.items()
        },
        "kl": divergence(Path(job.folder), model),
        "training_s": student.seconds,
        "seconds": round(time.monotonic() - started, 1),
    }
    shutil.rmtree(folder)
    return found


def divergence(folder: Path, model: Any) -> dict[str, float]:
    """By task KL(teacher, student), nats a token."""
    rows = json.loads((folder / "teachers.json").read_text())["rows"]
    told = np.load(folder / "teachers.npz")["told"].astype(np.float64)
    size = told.shape[1]
    ids = [(row[1], row[2]) for row in rows]
    found = asyncio.run(model.top_k(ids, size, size, 1.0))
    own = np.concatenate([whole(*each) for each in found]).astype(np.float64)
    kl = (told * (np.log(told.clip(1e-12)) - np.log(own.clip(1e-12)))).sum(axis=1)
    tasks = np.repeat([row[0] for row in rows], [len(each[0]) for each in found])
    return {task: float(kl[tasks == task].mean()) for task in sorted(set(tasks.tolist()))}


def needed(sizes: list[int], scores: list[float], goal: float) -> float | None:
    """Samples at which the score crosses the goal; None where it does not."""
    for i, score in enumerate(scores):
        if score >= goal:
            if i == 0:
                return float(sizes[0])
            part = (goal - scores[i - 1]) / (score - scores[i - 1])
            return float(
                math.exp(math.log(sizes[i - 1]) + part * math.log(sizes[i] / sizes[i - 1]))
            )
    return None


def summarise(rows: list[dict[str, Any]], teachers: dict[str, float]) -> dict[str, Any]:
    """By signal and size: score, KL, difference from hard; and samples needed."""
    sizes, seeds = (sorted({row[name] for row in rows}) for name in ("size", "seed"))
    at = {(row["signal"], row["size"], row["seed"]): row for row in rows}
    teacher = float(np.mean(list(teachers.values())))

    def mean(signal: str, size: int, seed: int, what: str) -> float:
        return float(np.mean(list(at[signal, size, seed][what].values())))

    figures: dict[str, Any] = {"teacher": round(teacher, 4), "sizes": sizes, "seeds": seeds}
    for signal in SIGNALS:
        curves = [[mean(signal, size, seed, "scores") for size in sizes] for seed in seeds]
        reached = [needed(sizes, curve, GOAL * teacher) for curve in curves]
        figures[signal] = {
            "samples_to_goal": [None if n is None else round(n) for n in reached],
            "by_size": {
                size: {
                    "score": interval([mean(signal, size, seed, "scores") for seed in seeds]),
                    "kl": interval([mean(signal, size, seed, "kl") for seed in seeds]),
                    "less_hard": interval([
                        mean(signal, size, seed, "scores") - mean("hard", size, seed, "scores")
                        for seed in seeds
                    ]),
                    "tasks": {
                        task: interval([at[signal, size, seed]["scores"][task] for seed in seeds])
                        for task in teachers
                    },
                    "seconds": round(
                        float(np.median([at[signal, size, seed]["training_s"] for seed in seeds])), 1
                    ),
                }
                for size in sizes
            },
        }  # fmt: skip
    return figures


def show(figures: dict[str, Any]) -> None:
    """The table."""
    print(f"\nteachers {figures['teacher']:.3f}; {len(figures['seeds'])} seeds")
    print(f"{'samples':>8} {'signal':8} {'score':>22} {'less hard':>26} {'KL':>22} {'s':>6}")
    for size in figures["sizes"]:
        for signal in SIGNALS:
            row = figures[signal]["by_size"][size]
            score, less, kl = row["score"], row["less_hard"], row["kl"]
            print(
                f"{size:8,} {signal:8} {score['mean']:.3f} [{score['lo']:.3f}, {score['hi']:.3f}]"
                f"  {less['mean']:+.3f} [{less['lo']:+.3f}, {less['hi']:+.3f}]"
                f"  {kl['mean']:.3f} [{kl['lo']:.3f}, {kl['hi']:.3f}] {row['seconds']:6.0f}"
            )
    for signal in SIGNALS:
        print(f"samples to 90 % by {signal}: {figures[signal]['samples_to_goal']}")


def picture(figures: dict[str, Any]) -> str:
    """Score and KL by samples, a line a signal with its interval shaded."""
    sizes = figures["sizes"]
    highest = max(figures[s]["by_size"][n]["kl"]["hi"] for s in SIGNALS for n in sizes)
    panels = [
        panel(figures, 70, "score", 1.0, "score on the test items (mean of tasks)"),
        panel(figures, 490, "kl", highest, "KL(teacher, student), nats a token"),
    ]
    legend = "".join(
        f'<g transform="translate({70 + 110 * i},22)"><rect width="14" height="4" y="-5" '
        f'fill="{COLOURS[signal]}"/><text x="20">{signal}</text></g>'
        for i, signal in enumerate(SIGNALS)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 360" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="#fff"/>{legend}{"".join(panels)}</svg>\n'
    )


def panel(figures: dict[str, Any], left: int, what: str, top: float, title: str) -> str:
    """One of both charts, 340 wide and 230 high."""
    sizes = figures["sizes"]
    first, last = math.log(sizes[0]), math.log(sizes[-1])

    def x(size: int) -> float:
        return left + 340 * (math.log(size) - first) / max(last - first, 1e-9)

    def y(value: float) -> float:
        return 300 - 230 * min(max(value / top, 0.0), 1.0)

    parts = [f'<text x="{left}" y="55" font-weight="bold">{title}</text>']
    for i in range(5):
        value = top * i / 4
        parts.append(
            f'<line x1="{left}" x2="{left + 340}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#e5e7eb"/>'
            f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>'
        )
    parts += [
        f'<text x="{x(size):.1f}" y="322" text-anchor="middle">{size:,}</text>' for size in sizes
    ]
    parts.append(f'<text x="{left + 170}" y="346" text-anchor="middle">samples in the mix</text>')
    if what == "score":
        goal = y(GOAL * figures["teacher"])
        parts.append(
            f'<line x1="{left}" x2="{left + 340}" y1="{goal:.1f}" y2="{goal:.1f}" stroke="#111" '
            f'stroke-dasharray="4 3"/><text x="{left + 4}" y="{goal - 5:.1f}">90 % of the teachers</text>'
        )
    for signal in SIGNALS:
        rows = [figures[signal]["by_size"][size][what] for size in sizes]
        upper = [f"{x(n):.1f},{y(row['hi']):.1f}" for n, row in zip(sizes, rows, strict=True)]
        lower = [f"{x(n):.1f},{y(row['lo']):.1f}" for n, row in zip(sizes, rows, strict=True)]
        line = [f"{x(n):.1f},{y(row['mean']):.1f}" for n, row in zip(sizes, rows, strict=True)]
        parts.append(
            f'<polygon points="{" ".join(upper + lower[::-1])}" fill="{COLOURS[signal]}" fill-opacity=".13"/>'
            f'<polyline points="{" ".join(line)}" fill="none" stroke="{COLOURS[signal]}" stroke-width="2"/>'
        )
    return "".join(parts)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/signals"))
    parser.add_argument("--sizes", default="600,1200,2400,4800")
    parser.add_argument("--seeds", default="7,8,9")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "teachers.json").exists():
        prepare(folder)
    path = folder / RESULTS
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row["signal"], row["size"], row["seed"]) for row in rows}
    jobs = [
        Job(signal, int(size), int(seed), options.steps, str(folder))
        for seed in options.seeds.split(",")
        for size in options.sizes.split(",")
        for signal in SIGNALS
    ]
    left = [job for job in jobs if (job.signal, job.size, job.seed) not in done]
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(train_one, job) for job in left]):
            rows.append(future.result())
            with path.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(f"{len(rows)}/{len(jobs)} {rows[-1]}", flush=True)
    wanted = {(job.signal, job.size, job.seed) for job in jobs}
    rows = [row for row in rows if (row["signal"], row["size"], row["seed"]) in wanted]
    figures = summarise(rows, json.loads((folder / "teachers.json").read_text())["scores"])
    show(figures)
    if options.picture:
        options.picture.write_text(picture(figures))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
