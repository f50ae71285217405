"""The figures of a mix. Preview, lock and report all show these; nobody counts again."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.mixes import LOCK, read_manifest
from mixer.config import MixConfig
from mixer.filters import Candidate
from mixer.plan import Plan, StagePlan

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Cell:
    """What one teacher gave to one task of one stage; `samples` and `tokens` count repeats too."""

    stage: str
    task: str
    teacher: str
    samples: int
    tokens: int
    repeats: int


@dataclass(frozen=True, slots=True)
class TaskBlend:
    """One task of a stage: asked against met. `asked` is in the mix's unit."""

    task: str
    share: float
    asked: int
    samples: int
    tokens: int
    met: float  # share of the stage that came out, in the mix's unit


@dataclass(frozen=True, slots=True)
class StageBlend:
    """One stage, repeats included."""

    name: str
    until: float
    order: str
    asked: int
    samples: int
    tokens: int
    tasks: list[TaskBlend]


@dataclass(frozen=True, slots=True)
class Blend:
    """All figures of a mix: `samples` is the number of positions, `distinct` + `repeats`."""

    unit: str
    total: int
    samples: int
    distinct: int
    tokens: int
    repeats: int
    stages: list[StageBlend]
    cells: list[Cell]
    found: dict[str, int]  # per task: selected answers before the filters
    drops: dict[str, dict[str, int]]  # per task and filter
    unused: dict[str, int]  # per task: usable answers that no stage took
    not_selected: int  # answers of other teachers, licences or tasks
    teachers: dict[str, dict[str, int]]  # name: {licence: distinct samples}
    sources: dict[str, dict[str, int]]  # name: {licence: distinct samples}

    @property
    def dropped(self) -> dict[str, int]:
        """Drops per filter, over all tasks."""
        totals: Counter[str] = Counter()
        for counts in self.drops.values():
            totals.update(counts)
        return dict(sorted(totals.items()))

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "Blend":
        """The inverse of `as_dict`."""
        stages = [
            StageBlend(**{**stage, "tasks": [TaskBlend(**task) for task in stage["tasks"]]})
            for stage in fields["stages"]
        ]
        cells = [Cell(**cell) for cell in fields["cells"]]
        return cls(**{**fields, "stages": stages, "cells": cells})


def read_blend(folder: Path) -> Blend:
    """The figures of a mix that was built. Raises MixDamaged where the mix is not whole."""
    read_manifest(folder)
    return Blend.of(json.loads((folder / LOCK).read_text("utf-8"))["blend"])


def count(config: MixConfig, plan: Plan) -> Blend:
    """Counts a plan; no text is read."""
    import numpy as np

    tokens = np.asarray([c.tokens for c in plan.samples], np.int64)
    cells = [cell for stage in plan.stages for cell in _cells(stage, plan.samples, tokens)]
    samples = sum(cell.samples for cell in cells)
    used = Counter(c.task for c in plan.samples)
    usable = Counter(c.task for c in plan.filtered.kept)
    return Blend(
        unit=config.unit,
        total=config.total,
        samples=samples,
        distinct=len(plan.samples),
        tokens=sum(cell.tokens for cell in cells),
        repeats=samples - len(plan.samples),
        stages=[_stage(config.unit, stage, cells) for stage in plan.stages],
        cells=cells,
        found=plan.filtered.found,
        drops=plan.filtered.drops,
        unused={task: usable[task] - used[task] for task in sorted(usable)},
        not_selected=plan.filtered.not_selected,
        teachers=_licences((c.teacher, c.licence) for c in plan.samples),
        sources=_licences((c.source, c.source_licence) for c in plan.samples),
    )


def _cells(stage: StagePlan, samples: list[Candidate], tokens: "np.ndarray") -> list[Cell]:
    import numpy as np

    names = sorted({(samples[row].task, samples[row].teacher) for row in np.unique(stage.members)})
    number = {name: index for index, name in enumerate(names)}
    kinds = np.asarray([number[samples[row].task, samples[row].teacher] for row in stage.members])
    kinds = kinds.astype(np.int64)
    counts = np.bincount(kinds, minlength=len(names))
    sums = np.bincount(kinds, weights=tokens[stage.members], minlength=len(names))
    repeats = np.bincount(kinds[stage.repeats > 0], minlength=len(names))
    return [
        Cell(stage.quota.stage, task, teacher, int(counts[i]), int(sums[i]), int(repeats[i]))
        for i, (task, teacher) in enumerate(names)
    ]


def _stage(unit: str, stage: StagePlan, cells: list[Cell]) -> StageBlend:
    quota = stage.quota
    mine = [cell for cell in cells if cell.stage == quota.stage]
    samples, tokens = sum(c.samples for c in mine), sum(c.tokens for c in mine)
    whole = tokens if unit == "tokens" else samples
    tasks = []
    for task, asked in quota.amounts.items():
        got_samples = sum(c.samples for c in mine if c.task == task)
        got_tokens = sum(c.tokens for c in mine if c.task == task)
        got = got_tokens if unit == "tokens" else got_samples
        met = round(got / whole, 6) if whole else 0.0
        tasks.append(TaskBlend(task, quota.shares[task], asked, got_samples, got_tokens, met))
    return StageBlend(
        name=quota.stage,
        until=quota.until,
        order=quota.order,
        asked=quota.amount,
        samples=samples,
        tokens=tokens,
        tasks=tasks,
    )


def _licences(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for (name, licence), n in sorted(Counter(pairs).items()):
        table.setdefault(name, {})[licence] = n
    return table
