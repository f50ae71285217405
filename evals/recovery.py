"""Recovery: how much of the way from its baseline to its teacher a student has gone, and how sure that is.

recovery(student, teacher, baseline)                 # of one task: 0.93 [0.88, 0.99]
overall_recovery([(student, teacher, baseline), …])  # of all tasks, which count alike
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.stats import Clusters

Floats = NDArray[np.float64]
Scores = tuple[Sequence[float], Sequence[float], Sequence[float]]  # student, teacher, baseline

# Items on which student and teacher differ, one each way, that count for the variance beside those seen: a few
# items on which all agree do not show that there is no other.
UNSEEN = np.array([[1.0, 0.0], [0.0, 1.0]])
ALL_THREE = np.array(
    [[1.0, 1.0], [0.0, 0.0]]
)  # and on which the baseline does, where all items are alike


@dataclass(frozen=True, slots=True)
class Recovery:
    """(student - baseline) / (teacher - baseline) over `n` items: 1 is as good as the teacher, 0 has learnt
    nothing.

    `value`, `lo` and `hi` are None where it is undefined, and `reason` says why.
    """

    value: float | None
    lo: float | None
    hi: float | None
    n: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Gains:
    """Mean gains of student and teacher over the baseline, and the covariance of these two means."""

    means: Floats
    covariance: Floats
    n: int
    units: int  # clusters, or items where none share one


def recovery(
    student: Sequence[float],
    teacher: Sequence[float],
    baseline: Sequence[float],
    confidence: float = 0.95,
    clusters: Clusters = None,
) -> Recovery:
    """Of one task, from the same items' scores in the same order, which may share sources (evals.stats).

    The interval is Fieller's for a ratio of paired means (Fieller, Some Problems in Interval Estimation,
    Journal of the Royal Statistical Society B 16, 1954), with Student's quantile. It is undefined where the
    teacher's gain may be none, for then every ratio is possible.
    """
    gains = _gains((student, teacher, baseline), clusters)
    return _fieller(gains, confidence, df=gains.units - 1)


def overall_recovery(
    tasks: Sequence[Scores],
    confidence: float = 0.95,
    clusters: Sequence[Clusters] | None = None,
) -> Recovery:
    """Of several tasks that count alike: the ratio of the mean gains, over tasks without items in common.

    `clusters` are by task.
    """
    by_task = clusters or [None] * len(tasks)
    found = [_gains(scores, shared) for scores, shared in zip(tasks, by_task, strict=True)]
    if not found:
        return Recovery(None, None, None, 0, "there are no tasks")
    joined = _Gains(
        np.mean([each.means for each in found], axis=0),
        np.sum([each.covariance for each in found], axis=0) / len(found) ** 2,
        sum(each.n for each in found),
        min(each.units for each in found),
    )
    return _fieller(joined, confidence, df=joined.units - 1)


def _gains(scores: Scores, clusters: Clusters) -> _Gains:
    student, teacher, baseline = (np.asarray(each, np.float64) for each in scores)
    n, units = len(student), len(set(clusters)) if clusters else len(student)
    if units < 2:
        return _Gains(np.zeros(2), np.full((2, 2), np.inf), n, units)
    gains_n_2 = np.stack([student - baseline, teacher - baseline], axis=1)
    means = gains_n_2.mean(axis=0)
    gaps = gains_n_2 - means
    if units < n:
        places = np.unique(np.asarray(clusters), return_inverse=True)[1]
        gaps = np.stack([np.bincount(places, column) for column in gaps.T], axis=1)
    unseen = UNSEEN if gaps.any() else np.concatenate([UNSEEN, ALL_THREE])
    gaps = np.concatenate([gaps, (unseen - unseen.mean(axis=0)) * n / units])
    return _Gains(means, gaps.T @ gaps * units / (units - 1) / n**2, n, units)


def _fieller(gains: _Gains, confidence: float, df: int) -> Recovery:
    from scipy.stats import t

    if gains.n < 2 or df < 1:
        return Recovery(None, None, None, gains.n, "there are too few items")
    own, its = gains.means
    if its <= 0:
        return Recovery(None, None, None, gains.n, "the teacher is no better than the baseline")
    square = float(t.ppf(0.5 + confidence / 2, df)) ** 2
    (own_variance, both), (_, its_variance) = square * gains.covariance
    a, b, c = its**2 - its_variance, own * its - both, own**2 - own_variance
    if a <= 0:
        why = "the teacher is not clearly better than the baseline"
        return Recovery(None, None, None, gains.n, why)
    half = float(np.sqrt(max(0.0, b**2 - a * c)))
    return Recovery(float(own / its), float((b - half) / a), float((b + half) / a), gains.n)
