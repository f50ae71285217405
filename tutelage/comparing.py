"""compare and gate: runs against one another on the same test items, and a run against what is asked of it.

compare_runs([Path("runs/a"), Path("runs/b")])
gate_run(Path("runs/a"), "within=5%,regress=0")
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import InputError
from ledger.keys import write_atomically
from tutelage.testitems import ExaminedItem, read_items
from tutelage.workspace import open_run

if TYPE_CHECKING:
    from evals.stats import Clusters, Interval, PairedTest

MOST_CHANGED = 200  # items that are shown
ASKED = ("within", "regress", "recovered")
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(\s*%)?")

Items = dict[str, dict[str, ExaminedItem]]  # by task and prompt key


@dataclass(frozen=True, slots=True)
class TaskComparison:
    """A task: each run's student on the items that all runs have, and every further one against the first, by
    tests that are adjusted over the tasks.
    """

    task: str
    items: int
    students: "list[Interval]"
    differences: "list[PairedTest]"


@dataclass(frozen=True, slots=True)
class ChangedItem:
    """An item on which the last run's student scores otherwise than the first's; scores and answers by run."""

    task: str
    prompt: str
    reference: str | None
    scores: list[float]
    answers: list[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several runs on the same items; the first is what the others are held against.

    `changed` are, of the `differing` items, those that got worse most, then those that got better most.
    """

    runs: list[str]
    tasks: list[TaskComparison]
    differing: int
    changed: list[ChangedItem]
    alone: dict[str, int]  # test items of each run that not all have

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def lines(self) -> list[Any]:
        """For the terminal."""
        from tutelage.terminal import as_table, estimate

        rows = []
        for task in self.tasks:
            rows.append(
                [task.task, f"{task.items:,}", *(estimate(asdict(each)) for each in task.students)]
            )
        notes = [
            f"{run} against {self.runs[0]} on {task.task}: {_said(test)}"
            for task in self.tasks
            for run, test in zip(self.runs[1:], task.differences, strict=True)
        ]
        notes += [
            f"left out of {run}: {count:,} test items that not all runs have, or grade alike"
            for run, count in self.alone.items()
            if count
        ]
        return [as_table("students", ["task", "items", *self.runs], rows), "", *notes]


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a run is what was asked of it: each condition with whether it holds, in words."""

    run: str
    conditions: dict[str, bool]
    reasons: dict[str, str]

    @property
    def holds(self) -> bool:
        """Whether all conditions do."""
        return all(self.conditions.values())

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self), "holds": self.holds}

    def lines(self) -> list[Any]:
        """One line."""
        told = "; ".join(
            f"{name} {'holds' if holds else 'FAILS'} ({self.reasons[name]})"
            for name, holds in self.conditions.items()
        )
        return [f"{'passed' if self.holds else 'failed'}: {self.run}: {told}"]


def compare_runs(runs: Sequence[Path], page: Path | None = None) -> Comparison:
    """Holds runs' students against one another, on the items that all of them were tested on; `page` is
    where an HTML page of it is written.

    Raises InputError where a run has not come through `evaluate`, or no item is common to all.
    """
    if len(runs) < 2:
        raise InputError("compare takes two runs at least: `tutelage compare runs/a runs/b`")
    found = _compared([str(run) for run in runs], [_items(run) for run in runs])
    if page is not None:
        from tutelage.report.page import render_comparison

        write_atomically(page, render_comparison(found, comparison_sentence(found)).encode())
    return found


def comparison_sentence(found: Comparison) -> str:
    """What the tests say of the last run against the first."""
    first, last = found.runs[0], found.runs[-1]
    said: dict[str, list[str]] = {"better": [], "worse": []}
    for task in found.tasks:
        if task.differences[-1].differs:
            said["worse" if task.differences[-1].is_worse else "better"].append(task.task)
    parts = [f"{word} on {', '.join(tasks)}" for word, tasks in said.items() if tasks]
    if not parts:
        return f"The student of {last} is as good as that of {first} on every task, within noise."
    return f"The student of {last} is {' and '.join(parts)} than that of {first}, beyond noise."


def gate_run(run: Path, require: str, against: Path | None = None) -> Gate:
    """Whether a run's student is good enough, for continuous integration.

    `require` holds conditions, commas between: `within=5%` asks for the verdict yes at that margin on every
    task, `regress=N` for no more than N tasks on which the student is worse beyond noise than before its
    training (or than the student of the run `against`), `recovered=90%` for a recovery over all tasks of at
    least so much. Raises InputError.
    """
    asked = _asked(require)
    items = _items(run)
    conditions: dict[str, bool] = {}
    reasons: dict[str, str] = {}
    for name, value in asked.items():
        if name == "within":
            conditions[name], reasons[name] = _within(items, value)
        elif name == "regress":
            conditions[name], reasons[name] = _regressed(str(run), items, value, against)
        else:
            conditions[name], reasons[name] = _recovered(items, value)
    return Gate(str(run), conditions, reasons)


def _items(run: Path) -> Items:
    found: Items = {}
    for item in read_items(open_run(run)):
        found.setdefault(item.task, {})[item.key] = item
    return found


def _compared(names: list[str], runs: list[Items]) -> Comparison:
    from evals.stats import holm, mean_interval, paired_test

    shared: dict[str, list[str]] = {}
    for task in runs[0]:
        keys = [
            key
            for key, item in runs[0][task].items()
            if all(_is_the_same(items.get(task, {}).get(key), item) for items in runs)
        ]
        if keys:
            shared[task] = keys
    if not shared:
        raise InputError(
            f"{' and '.join(names)} have no test item in common: compare runs with the same `evaluate:` items, "
            "scorers and seed."
        )
    scores = {task: [_scores(items, task, keys) for items in runs] for task, keys in shared.items()}
    clusters = {
        task: _clusters([runs[0][task][key] for key in keys]) for task, keys in shared.items()
    }
    tests = {
        task: [paired_test(other, first, clusters[task]) for other in others]
        for task, (first, *others) in scores.items()
    }
    adjusted = [holm(list(column)) for column in zip(*tests.values(), strict=True)]
    tasks = [
        TaskComparison(
            task,
            len(keys),
            [mean_interval(each, clusters=clusters[task]) for each in scores[task]],
            [column[number] for column in adjusted],
        )
        for number, (task, keys) in enumerate(shared.items())
    ]
    common = sum(map(len, shared.values()))
    alone = {
        name: sum(map(len, items.values())) - common
        for name, items in zip(names, runs, strict=True)
    }
    changed = _changed(shared, runs)
    return Comparison(names, tasks, len(changed), changed[:MOST_CHANGED], alone)


def _changed(shared: dict[str, list[str]], runs: list[Items]) -> list[ChangedItem]:
    found = []
    for task, keys in shared.items():
        for key in keys:
            given = [items[task][key].student for items in runs]
            students = [student for student in given if student is not None]
            scores = [student.score for student in students]
            if scores[0] != scores[-1]:
                item, answers = runs[0][task][key], [student.answer for student in students]
                found.append(ChangedItem(task, item.prompt, item.reference, scores, answers))
    return sorted(found, key=lambda item: item.scores[-1] - item.scores[0])


def _is_the_same(found: ExaminedItem | None, item: ExaminedItem) -> bool:
    """Whether a run's student was graded on the item as the first run's was."""
    if found is None or found.student is None or item.student is None:
        return False
    return (found.reference, found.scorer) == (item.reference, item.scorer)


def _scores(items: Items, task: str, keys: Sequence[str]) -> list[float]:
    students = [items[task][key].student for key in keys]
    return [student.score for student in students if student is not None]


def _clusters(items: Iterable[ExaminedItem]) -> "Clusters":
    """What items share; None where none shares anything."""
    from evals.summary import clusters_of

    by_key = {item.key: item.cluster for item in items}
    shared = {key: cluster for key, cluster in by_key.items() if cluster is not None}
    return clusters_of(list(by_key), shared)


@dataclass(frozen=True, slots=True)
class _Trio:
    """Scores of student, teacher and baseline on the items that all three answered, and what these share."""

    scores: tuple[list[float], list[float], list[float]]
    clusters: "Clusters"


def _trio(items: dict[str, ExaminedItem]) -> _Trio:
    answered, rows = [], []
    for item in items.values():
        if item.student is not None and item.teacher is not None and item.baseline is not None:
            answered.append(item)
            rows.append((item.student.score, item.teacher.score, item.baseline.score))
    student, teacher, baseline = ([row[place] for row in rows] for place in range(3))
    return _Trio((student, teacher, baseline), _clusters(answered))


def _within(items: Items, margin: float) -> tuple[bool, str]:
    from evals.verdict import overall, within

    trios = {task: _trio(found) for task, found in items.items()}
    verdicts = {
        task: within(*trio.scores, margin, clusters=trio.clusters) for task, trio in trios.items()
    }
    said = overall(verdicts)
    return said.decision == "yes", f"{said.decision}: {said.reason}"


def _regressed(run: str, items: Items, most: float, against: Path | None) -> tuple[bool, str]:
    from evals.stats import holm, paired_test

    if against is not None:
        tasks = _compared([str(against), run], [_items(against), items]).tasks
        tests = {task.task: task.differences[0] for task in tasks}
        than = f"than in {against}"
    else:
        trios = {task: _trio(found) for task, found in items.items()}
        adjusted = holm(
            [paired_test(trio.scores[0], trio.scores[2], trio.clusters) for trio in trios.values()]
        )
        tests, than = dict(zip(trios, adjusted, strict=True)), "than before training"
    worse = [task for task, test in tests.items() if test.is_worse]
    told = f"worse {than} on {', '.join(worse)}" if worse else f"on no task worse {than}"
    return len(worse) <= most, told


def _recovered(items: Items, least: float) -> tuple[bool, str]:
    from evals.recovery import overall_recovery

    trios = [_trio(each) for each in items.values()]
    found = overall_recovery(
        [trio.scores for trio in trios], clusters=[trio.clusters for trio in trios]
    )
    if found.value is None:
        return False, f"undefined: {found.reason}"
    return found.value >= least, f"{100 * found.value:.1f} %"


def _said(test: "PairedTest") -> str:
    if not test.differs:
        return f"no difference beyond noise (p = {test.adjusted:.3f})"
    return f"{'worse' if test.is_worse else 'better'} (p = {test.adjusted:.3g})"


def _asked(require: str) -> dict[str, float]:
    """The conditions by name. Raises InputError."""
    found: dict[str, float] = {}
    for part in require.split(","):
        name, _, text = (each.strip() for each in part.partition("="))
        number = _NUMBER.fullmatch(text)
        if name not in ASKED or number is None:
            raise InputError(
                f"--require {part.strip()!r}: conditions are within=5%, regress=0 and "
                "recovered=90%, commas between"
            )
        value = float(number[1]) / (100 if number[2] else 1)
        if name in found:
            raise InputError(f"--require names {name} twice; once will do")
        if name == "recovered" and value > 1 and not number[2]:
            raise InputError(f"--require recovered={text}: say {text}% or a part of 1, such as 0.9")
        if name == "within" and not 0 <= value < 1:
            raise InputError(f"--require within={text}: the margin must be below 100%, such as 5%")
        if name == "regress" and (number[2] or value != int(value)):
            raise InputError(f"--require regress={text}: give a number of tasks, such as 0")
        found[name] = value
    return found
