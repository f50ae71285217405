"""Where every mark of the report's pictures stands; `charts.svg.j2` draws them.

Horizontal positions are per cent of the picture's width and vertical ones are pixels, so that a
picture fills a phone and a page alike while its lettering keeps its size. Nothing here makes
markup: Jinja escapes what the templates print.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.report.colours import Colours, task_names
from tutelage.report.data import (
    UNSURE,
    Estimate,
    Mix,
    Point,
    ReportData,
    SizePoint,
    TaskResult,
    Training,
)

MAX_POINTS = 3000
MAX_LOSS_POINTS = 600


def share(value: float, lo: float = 0.0, hi: float = 1.0) -> float:
    """`value` between `lo` and `hi` as per cent, clipped; 0 where it is no figure."""
    if not math.isfinite(value) or hi <= lo:
        return 0.0
    return round(100 * min(max((value - lo) / (hi - lo), 0.0), 1.0), 2)


def ticks(hi: float, count: int = 4) -> list[float]:
    """Round values from 0 to `hi`, about `count` of them."""
    if not math.isfinite(hi) or hi <= 0:
        return [0.0]
    raw = hi / count
    base = 10 ** math.floor(math.log10(raw))
    step = next(base * m for m in (1, 2, 2.5, 5, 10) if base * m >= raw * 0.999)
    return [round(i * step, 10) for i in range(int(hi / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class Mark:
    """A dot with its whiskers and label on the axis 0-100 %."""

    role: str  # teacher | student | baseline
    label: str
    colour: str
    y: int
    x: float
    lo: float
    hi: float
    estimate: Estimate
    anchor: str  # of the label: it ends left of the whiskers, starts right of them, or is above
    text_x: float


@dataclass(frozen=True, slots=True)
class Contest:
    """Student, teacher and baseline of one task, and the band between margin and teacher."""

    result: TaskResult
    marks: list[Mark]
    band: tuple[float, float] | None  # from (1 - within) x teacher to the teacher
    summary: str


def contests(data: ReportData, colour: Colours) -> list[Contest]:
    """The first picture: one strip per task that was evaluated."""
    return [_contest(task, data.within, colour) for task in data.tasks if task.student]


def _contest(task: TaskResult, within: float, colour: Colours) -> Contest:
    teacher = task.teacher
    band = (share((1 - within) * teacher.mean), share(teacher.mean)) if teacher else None
    first, *others = task.prompts or [task.chosen]
    label = f"{first} and {len(others)} more" if others else first
    rows = [
        ("teacher", label, colour.teacher(first), teacher),
        ("student", "student", "k-student", task.student),
        ("baseline", "baseline", "k-baseline", task.baseline),
    ]
    marks = [
        _mark(role, label, css, 20 + 26 * i, estimate, band)
        for i, (role, label, css, estimate) in enumerate(rows)
        if estimate is not None
    ]
    spoken = (f"{m.label} {100 * m.estimate.mean:.1f} %" for m in marks)
    return Contest(task, marks, band, f"{task.task}: " + ", ".join(spoken))


def _mark(
    role: str, label: str, css: str, y: int, e: Estimate, band: tuple[float, float] | None
) -> Mark:
    x, lo, hi = share(e.mean), share(e.lo), share(e.hi)
    if max(lo, 100 - hi) < 45:  # room on neither side of a phone
        return Mark(role, label, css, y, x, lo, hi, e, "middle", min(max(x, 25), 75))
    ends = lo > 100 - hi
    anchor, text_x = ("end", lo) if ends else ("start", hi)
    if band and ends and band[0] - 2 < lo < band[1] + 8:  # clear of the band
        text_x = min(lo, band[0])
    elif band and not ends and band[0] - 8 < hi < band[1] + 2:
        text_x = max(hi, band[1])
    return Mark(role, label, css, y, x, lo, hi, e, anchor, text_x)


@dataclass(frozen=True, slots=True)
class Cloud:
    """The dots of one task on the map, as two paths in a 1000 x 1000 box."""

    task: str
    colour: str
    sure: str
    faint: str  # probability below 0.9
    x: float
    y: float  # where the label stands, per cent
    shown: int


def clouds(data: ReportData, colour: Colours) -> list[Cloud]:
    """The map of prompts, thinned evenly to `MAX_POINTS`; `unsure` is drawn first, below all."""
    usable = [p for p in data.points if math.isfinite(p.x) and math.isfinite(p.y)]
    if not usable:
        return []
    step = math.ceil(len(usable) / MAX_POINTS)
    placed = _place(usable[::step])
    tasks = [UNSURE, *task_names(data), *(p.task for p in usable)]
    groups = {t: [(x, y, p) for x, y, p in placed if p.task == t] for t in dict.fromkeys(tasks)}
    return [_cloud(task, colour, dots) for task, dots in groups.items() if dots]


def _place(points: Sequence[Point]) -> list[tuple[int, int, Point]]:
    left, right = min(p.x for p in points), max(p.x for p in points)
    low, high = min(p.y for p in points), max(p.y for p in points)
    return [
        (round(share(p.x, left, right) * 9.6) + 20, 980 - round(share(p.y, low, high) * 9.6), p)
        for p in points
    ]


def _cloud(task: str, colour: Colours, dots: list[tuple[int, int, Point]]) -> Cloud:
    sure = "".join(f"M{x} {y}h0" for x, y, p in dots if p.probability >= 0.9)
    faint = "".join(f"M{x} {y}h0" for x, y, p in dots if not p.probability >= 0.9)
    xs, ys = sorted(d[0] for d in dots), sorted(d[1] for d in dots)
    middle = len(dots) // 2
    x, y = min(max(xs[middle] / 10, 12), 88), ys[middle] / 10
    return Cloud(task, colour.task(task), sure, faint, x, y, len(dots))


@dataclass(frozen=True, slots=True)
class Piece:
    """One coloured piece of a stacked bar; `x` and `width` are per cent."""

    label: str
    colour: str
    amount: int
    share: float
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One stage of the mix: its pieces by task and what it holds."""

    stage: str
    order: str
    samples: int
    tokens: int
    span: tuple[float, float]  # of the whole training, 0 to 1
    pieces: list[Piece]


def mix_bars(mix: Mix, colour: Colours) -> list[Bar]:
    """One stacked bar per stage, in the mix's own unit."""
    bars, start = [], 0.0
    for stage in mix.stages:
        cells = [c for c in mix.cells if c.stage == stage.name]
        amounts: dict[str, int] = {}
        for c in cells:
            amount = c.tokens if mix.unit == "tokens" else c.samples
            amounts[c.task] = amounts.get(c.task, 0) + amount
        samples, tokens = sum(c.samples for c in cells), sum(c.tokens for c in cells)
        span = (start, stage.until)
        bars.append(Bar(stage.name, stage.order, samples, tokens, span, _pieces(amounts, colour)))
        start = stage.until
    return bars


def _pieces(amounts: Mapping[str, int], colour: Colours) -> list[Piece]:
    total, done, pieces = sum(amounts.values()) or 1, 0, []
    for task, amount in amounts.items():
        x, end = share(done / total), share((done + amount) / total)
        width = round(end - x, 2)
        pieces.append(Piece(task, colour.task(task), amount, amount / total, x, width))
        done += amount
    return pieces


@dataclass(frozen=True, slots=True)
class Curve:
    """The loss as a path in a 1000 x 1000 box, with its ticks as (per cent, label)."""

    path: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    stages: list[tuple[float, str]]
    logarithmic: bool
    first: float
    last: float


def curve(training: Training) -> Curve | None:
    """The loss curve; the axis is logarithmic where the loss falls more than thirtyfold."""
    loss = [(s, v) for s, v in training.loss if math.isfinite(v)]
    if len(loss) < 2:
        return None
    steps = max(training.steps, loss[-1][0], 1)
    values = [v for _, v in loss]
    lo, hi = 0.0, max(values) * 1.05
    log = min(values) > 0 and max(values) / min(values) > 30
    if log:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        lo, hi = float(low), float(high)
        y_ticks = [(100 - share(e, lo, hi), f"{10.0**e:g}") for e in range(low, high + 1)]
    else:
        y_ticks = [(100 - share(t, lo, hi), f"{t:g}") for t in ticks(hi)]
    loss = [(s, math.log10(v) if log else v) for s, v in _thin(loss)]
    path = "M" + "L".join(
        f"{10 * share(s, 0, steps):.0f} {1000 - 10 * share(v, lo, hi):.0f}" for s, v in loss
    )
    x_ticks = [(share(t, 0, steps), f"{t:,.0f}") for t in ticks(steps)]
    stages = [(share(s.step, 0, steps), s.stage) for s in training.stage_starts]
    return Curve(path, x_ticks, y_ticks, stages, log, values[0], values[-1])


def _thin(loss: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Means of neighbouring points, at most `MAX_LOSS_POINTS` of them; the ends stay."""
    size = math.ceil(len(loss) / MAX_LOSS_POINTS)
    if size == 1:
        return loss
    groups = [loss[i : i + size] for i in range(1, len(loss) - 1, size)]
    means = [(g[len(g) // 2][0], sum(v for _, v in g) / len(g)) for g in groups]
    return [loss[0], *means, loss[-1]]


@dataclass(frozen=True, slots=True)
class Front:
    """The choices as dots (x, y, label) and a path through them in a 1000 x 1000 box, with ticks."""

    dots: list[tuple[float, float, str, bool]]  # the last: `chosen` says why
    chosen: str
    path: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def front(data: ReportData) -> Front | None:
    """Strength against USD per 1,000 answers; None where there is no choice."""
    if len(data.front) < 2:
        return None
    top = max(choice.usd_per_1000 for choice in data.front) * 1.1
    alpha = data.alpha or 0.0
    own = max((c for c in data.front if c.alpha_from <= alpha), key=lambda c: c.alpha_from)
    dots = [
        (
            share(choice.usd_per_1000, 0, top),
            100 - share(choice.strength),
            f"alpha from {choice.alpha_from:.2g}",
            choice is own,
        )
        for choice in data.front
    ]
    path = "M" + "L".join(f"{10 * x:.0f} {10 * y:.0f}" for x, y, *_ in dots)
    return Front(
        dots,
        "strongest" if data.alpha is None else f"alpha {data.alpha:g}",
        path,
        [(share(t, 0, top), f"{t:g}") for t in ticks(top)],
        [(100 - t, f"{t} %") for t in (0, 25, 50, 75, 100)],
    )


@dataclass(frozen=True, slots=True)
class SizeMark:
    """A model as a dot with an upright interval, in per cent of the picture; its name stands so many lines
    lower, to be clear of others'."""

    point: SizePoint
    value: float
    lines: int
    x: float
    y: float
    top: float
    bottom: float
    colour: str


@dataclass(frozen=True, slots=True)
class Sizes:
    """Score against something that is measured, with ticks as (per cent, label).

    `path` steps along the models that none is better than in both (Pareto's front), in a box of 1,000 each way.
    """

    what: str
    better: Literal["right", "left"]
    marks: list[SizeMark]
    path: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


MEASURED: tuple[tuple[str, str, Literal["right", "left"]], ...] = (
    ("tokens_per_s", "tokens per second", "right"),
    ("peak_rss_mib", "MiB of memory", "left"),
    ("usd_per_1000", "USD per 1,000", "left"),
)


def sizes(data: ReportData, colour: Colours) -> list[Sizes]:
    """The students of all sizes and their teachers, against each measure that is known of two students."""
    found = []
    for name, what, better in MEASURED:
        known = [
            (point, float(value))
            for point in data.sizes
            if (value := getattr(point, name)) is not None and math.isfinite(value)
        ]
        if sum(point.role == "student" for point, _ in known) >= 2:
            found.append(_sizes(known, what, better, colour))
    return found


def _sizes(
    known: Sequence[tuple[SizePoint, float]],
    what: str,
    better: Literal["right", "left"],
    colour: Colours,
) -> Sizes:
    top = max(value for _, value in known) * 1.15
    marks: list[SizeMark] = []
    for point, value in sorted(known, key=lambda each: each[1]):
        x, y = share(value, 0, top), 100 - share(point.score.mean)
        near = [
            m.lines
            for m in marks
            if m.point.role == "student" and x - m.x < 35 and abs(y - m.y) < 15
        ]
        colours = colour.teacher(point.model) if point.role == "teacher" else "k-student"
        ends = 100 - share(point.score.hi), 100 - share(point.score.lo)
        marks.append(SizeMark(point, value, max(near, default=-1) + 1, x, y, *ends, colours))
    return Sizes(
        what,
        better,
        sorted(marks, key=lambda mark: mark.point.role),  # teachers, whose dots are small, on top
        _steps(marks, better),
        [(share(t, 0, top), f"{t:,.0f}" if t >= 1000 else f"{t:.4g}") for t in ticks(top)],
        [(100 - t, f"{t} %") for t in (0, 25, 50, 75, 100)],
    )


def _steps(marks: Sequence[SizeMark], better: Literal["right", "left"]) -> str:
    """From the model best on the measure to the one that scores best, by those that beat all before."""
    sign = 1 if better == "right" else -1
    best: list[SizeMark] = []
    for mark in sorted(marks, key=lambda mark: (-sign * mark.x, mark.y)):
        if not best or mark.y < best[-1].y:
            best.append(mark)
    first, *others = best
    turns = [f"V{10 * mark.y:.0f}H{10 * mark.x:.0f}" for mark in others]
    return f"M{10 * first.x:.0f} {10 * first.y:.0f}" + "".join(turns)


def widths(values: Sequence[float | None]) -> list[float]:
    """Lengths of bars in a column of a table, per cent of the longest."""
    figures = [v if v is not None and math.isfinite(v) else 0.0 for v in values]
    longest = max(figures, default=0.0)
    return [share(v, 0, longest) for v in figures]
