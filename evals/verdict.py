"""The verdict: is the student within its margin of the teacher: yes, no, or not enough data.

Per task d = student - (1 - margin) x teacher, paired over items. `yes` if d's one-sided 95 % lower
bound is at least 0, `no` if its upper bound is below 0. The bounds are Gaffke's (evals.stats): they
have width when all items agree, and no distribution is known on which they err more than 5 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evals.power import further_items
from evals.stats import Clusters, lower_bound, upper_bound

Decision = Literal["yes", "no", "not enough data"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A task's verdict. `difference` is the mean of d over `n` items, 0 where there is none.

    `further` is how many more items would do where there are too few, if the student is as good as its teacher;
    None where the verdict is clear, or no number would do.
    """

    decision: Decision
    difference: float
    lower: float
    upper: float
    n: int
    reason: str
    further: int | None = None


@dataclass(frozen=True, slots=True)
class Overall:
    """The verdict over all tasks: `yes` if all are, `no` if any is."""

    decision: Decision
    reason: str


def within(
    student: Sequence[float],
    teacher: Sequence[float],
    baseline: Sequence[float],
    margin: float = 0.05,
    confidence: float = 0.95,
    clusters: Clusters = None,
) -> Verdict:
    """Compares scores in 0..1 of the same items in the same order, which may share sources (evals.stats).

    Raises ValueError for a score outside 0..1.
    """
    scores = np.array([student, teacher, baseline], dtype=np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("scores lie in 0..1; one of student, teacher or baseline does not")
    n, keep = scores.shape[1], 1 - margin
    if n == 0:
        return Verdict("not enough data", 0.0, -keep, 1.0, 0, "no item was answered by all three")
    d = scores[0] - keep * scores[1]
    lower = lower_bound(d.tolist(), -keep, confidence, clusters)
    upper = upper_bound(d.tolist(), 1.0, confidence, clusters)
    decision, reason = _decide(scores.mean(axis=1).tolist(), lower, upper, keep, n)
    further = None
    if decision == "not enough data" and scores[1].mean() > scores[2].mean():
        further = further_items(student, teacher, margin, confidence, clusters=clusters)
        if further is not None:
            reason += (
                f"; about {further:,} further items would tell, if it is as good as its teacher"
            )
    return Verdict(decision, float(d.mean()), lower, upper, n, reason, further)


def overall(verdicts: Mapping[str, Verdict]) -> Overall:
    """The verdict over all tasks, naming those that decide it."""
    tasks: dict[Decision, list[str]] = {"yes": [], "no": [], "not enough data": []}
    for task, verdict in verdicts.items():
        tasks[verdict.decision].append(task)
    if tasks["no"]:
        return Overall("no", f"below the margin on {', '.join(tasks['no'])}")
    if tasks["not enough data"] or not verdicts:
        missing = ", ".join(tasks["not enough data"]) or "any task"
        return Overall("not enough data", f"not enough data on {missing}")
    return Overall("yes", f"within the margin on {', '.join(tasks['yes'])}")


def _decide(
    means: Sequence[float], lower: float, upper: float, keep: float, n: int
) -> tuple[Decision, str]:
    student, teacher, baseline = means
    figures = f"student {student:.3f}, teacher {teacher:.3f} on {n} items"
    if teacher <= baseline:
        return "not enough data", (
            f"{figures}; the teacher is not above the baseline ({baseline:.3f}), "
            "so coming close to it shows nothing"
        )
    bar = f"{keep:.2f} x the teacher's score"
    if lower >= 0:
        return "yes", f"{figures}: at least {bar}, even at the lower bound ({lower:+.3f})"
    if upper < 0:
        return "no", f"{figures}: below {bar}, even at the upper bound ({upper:+.3f})"
    return "not enough data", (
        f"{figures}: the student may lie on either side of {bar} ({lower:+.3f} to {upper:+.3f})"
    )
