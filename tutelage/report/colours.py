"""One colour per teacher and task through the whole page.

Colours are classes `k0`-`k7` (and `k-unsure`), which the style sheet gives a light and a dark value
each. Any two of the nine are at least 17 apart in CIELAB with red-green blindness, 12 with
blue-yellow blindness (Machado et al. 2009), and each has a contrast of 3:1 with the paper.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tutelage.report.data import UNSURE, ReportData

COLOURS = 8


@dataclass(frozen=True, slots=True)
class Colours:
    """The colour class of each teacher and each task."""

    teachers: dict[str, str]
    tasks: dict[str, str]

    def teacher(self, name: str) -> str:
        return self.teachers.get(name, "k-unsure")

    def task(self, name: str) -> str:
        return self.tasks.get(name, "k-unsure")


def colours(data: ReportData) -> Colours:
    """Teachers in recipe order; a task wears its teacher's colour where that is still free."""
    teachers = {name: f"k{i % COLOURS}" for i, name in enumerate(teacher_names(data))}
    routed = {t.task: t.chosen for t in data.tasks}
    tasks: dict[str, str] = {}
    free = [f"k{i}" for i in range(COLOURS) if f"k{i}" not in teachers.values()]
    for i, task in enumerate(task_names(data)):
        own = teachers.get(routed.get(task, ""), "")
        if not own or own in tasks.values():
            own = free.pop(0) if free else f"k{i % COLOURS}"
        tasks[task] = own
    return Colours(teachers, tasks)


def teacher_names(data: ReportData) -> list[str]:
    """Every teacher that the data name, the recipe's order first."""
    named: Iterable[str] = (
        *data.teachers,
        *(s.teacher for s in data.strengths),
        *(f.teacher for f in data.flow),
        *(c.teacher for c in (data.mix.cells if data.mix else ())),
    )
    return list(dict.fromkeys(named))


def task_names(data: ReportData) -> list[str]:
    """Every task but `unsure`, in the order of the results."""
    named = (
        *(t.task for t in data.tasks),
        *(s.task for s in data.strengths),
        *(c.task for c in data.prompts),
        *(f.task for f in data.flow),
    )
    return [name for name in dict.fromkeys(named) if name != UNSURE]
