"""How many items would do: with so many more, a student that is as good as its teacher would be found to be.

further_items(student, teacher, margin=0.05)     # -> 140, behind "not enough data"
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evals.stats import Clusters, design_effect, surely_above

Floats = NDArray[np.float64]

UNSEEN = 1.0  # pairs on which student and teacher differ, beside those that were seen
SPARE = 0.04  # by which the chance aimed at is higher: means and spread are guesses from few items
MOST = 1_000_000  # more items than these nobody will write


def further_items(
    student: Sequence[float],
    teacher: Sequence[float],
    margin: float = 0.05,
    confidence: float = 0.95,
    power: float = 0.8,
    clusters: Clusters = None,
) -> int | None:
    """The least number of further items with which the verdict would be `yes` with a chance of `power`, if the
    student is as good as its teacher; None where no number up to MOST would do.

    Further items are taken to be like those seen, and like those with student and teacher exchanged, half each:
    so both have one mean, and disagree as often as they did. One pair more on which they disagree is added,
    since a few items without any do not show that there is none. The chance is the normal distribution's for
    the sum of the further items; the verdict's bound is reckoned for the items seen together with the further
    ones at the sum's quantile, whose distribution is tilted to it exponentially. Where items share sources,
    further ones are taken to share theirs as much.
    """
    from scipy.stats import norm

    keep = 1 - margin
    seen = np.asarray(student, np.float64) - keep * np.asarray(teacher, np.float64)
    values, weights = _exchanged(student, teacher, keep)
    mean = float(weights @ values)
    spread = float(np.sqrt(weights @ (values - mean) ** 2))
    if mean <= 0:
        return None
    quantile = float(norm.ppf(power + SPARE))

    def does(number: int) -> bool:
        share = 1 / design_effect(seen.tolist(), clusters, confidence, number)
        further = _tilted(values, weights, mean - quantile * spread / (number * share) ** 0.5)
        if further is None:
            return False
        return surely_above(
            np.concatenate([seen, values]),
            np.concatenate([np.full(len(seen), share), number * share * further]),
            -keep,
            confidence,
        )

    high = 1
    while not does(high):
        high *= 2
        if high > MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if does(middle) else (middle, high)
    return high


def _exchanged(
    student: Sequence[float], teacher: Sequence[float], keep: float
) -> tuple[Floats, Floats]:
    """The differences of pairs as they are, exchanged, and of one pair that differs; and their shares."""
    one, other = np.asarray(student, np.float64), np.asarray(teacher, np.float64)
    apart = np.array([1.0, -keep])
    differences = np.round(np.concatenate([one - keep * other, other - keep * one, apart]), 9)
    counts = np.concatenate([np.ones(2 * len(one)), np.full(2, UNSEEN)])
    values, places = np.unique(differences, return_inverse=True)
    weights = np.bincount(places, counts)
    return values, weights / weights.sum()


def _tilted(values: Floats, weights: Floats, mean: float) -> Floats | None:
    """The distribution over `values` of that mean that is nearest to `weights`; None where none has it."""
    from scipy.optimize import brentq

    if not values[0] < mean < values[-1]:
        return None

    def tilt(t: float) -> Floats:
        raised = weights * np.exp(
            t * (values - values.max()) if t > 0 else t * (values - values.min())
        )
        return np.asarray(raised / raised.sum())

    end = 50 / (values[-1] - values[0])
    while (tilt(-end) @ values - mean) * (tilt(end) @ values - mean) > 0:
        end *= 2
        if end > 1e6:
            return None
    return tilt(float(brentq(lambda t: float(tilt(t) @ values) - mean, -end, end)))
