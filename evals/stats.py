"""How sure a score is: intervals and bounds for means of scores, and paired tests.

Every interval has width when all items agree. Where items share a source (a passage, a repository),
`clusters` names each one's, in the items' order: then they count as the fewer independent ones that they are
worth. scipy is imported when a figure is asked for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Clusters = Sequence[str] | None

PERMUTATIONS = 9_999
UNSEEN_CLUSTERS = 0.1  # clusters whose items are all off the mean by 1, beside those seen
BINS = 15  # of confidence, for the calibration error
ALPHA = 0.05  # below which an adjusted p-value counts as a difference


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over `n` items with a two-sided interval."""

    mean: float
    lo: float
    hi: float
    n: int


@dataclass(frozen=True, slots=True)
class PairedTest:
    """On how many items the first did better, worse or the same, and the two-sided p-value.

    `method` is "McNemar" where all scores are 0 or 1, else "permutation". `adjusted` is the p-value after
    Holm's correction where several tests were made together, else the same.
    """

    better: int
    worse: int
    same: int
    p_value: float
    adjusted: float
    method: Literal["McNemar", "permutation"]

    @property
    def differs(self) -> bool:
        """Whether the two differ beyond noise."""
        return self.adjusted < ALPHA

    @property
    def is_worse(self) -> bool:
        """Whether the first is worse beyond noise."""
        return self.differs and self.worse > self.better


def design_effect(
    scores: Sequence[float], clusters: Clusters, level: float, further: float = 0
) -> float:
    """How many clustered items are worth one independent one, for a bound at that level (0.95 one-sided, 0.975
    for a two-sided interval of 95 %); 1 where no two share a cluster, infinite where all share one.

    With so many `further` items in clusters like those seen, as far as is known.

    1 + (size - 1) x ICC (Kish, Survey Sampling, 1965), with the size that an item's cluster has on average and
    the intraclass correlation by analysis of variance, to whose mean square between clusters UNSEEN_CLUSTERS
    are added. Times the squared ratio of Student's quantile for the clusters' number to the normal one (Korn
    and Graubard, Survey Methodology 24, 1998).
    """
    from scipy.stats import norm, t

    if clusters is None or len(set(clusters)) == len(clusters):
        return 1.0
    places = np.unique(np.asarray(clusters), return_inverse=True)[1]
    values, sizes = np.asarray(scores, np.float64), np.bincount(places)
    n, count = len(values), len(sizes)
    then = count + further * count / n  # clusters
    if then <= 1:
        return math.inf
    few = float((t.ppf(level, then - 1) / norm.ppf(level)) ** 2)
    size = float((sizes**2).sum() / n)
    if count < 2:
        return size * few
    shared = (n - size) / (count - 1)  # the size that the mean squares are weighed with
    means = np.bincount(places, values) / sizes
    between = float((sizes * (means - values.mean()) ** 2).sum()) + UNSEEN_CLUSTERS * shared
    between /= count - 1
    inside = float(((values - means[places]) ** 2).sum()) / (n - count)
    alike = max(0.0, (between - inside) / (between + (shared - 1) * inside))
    return (1 + (size - 1) * alike) * few


def wilson(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion, of whole items or parts of them; none give the whole 0..1."""
    from statsmodels.stats.proportion import proportion_confint

    if n == 0:
        return Interval(0.0, 0.0, 1.0, 0)
    lo, hi = proportion_confint(successes, n, 1 - confidence, method="wilson")
    mean = successes / n
    return Interval(mean, min(float(lo), mean), max(float(hi), mean), int(n))


def mean_interval(
    scores: Sequence[float], confidence: float = 0.95, clusters: Clusters = None
) -> Interval:
    """A score interval for the mean of graded scores in 0..1: Wilson's, where all are 0 or 1.

    It holds the means m with n (mean - m)^2 <= z^2 v(m). v(m) is the variance of the distribution
    over the scores seen, 0 and 1 that makes the scores likeliest among those of mean m (Owen,
    Empirical Likelihood, 2001, ch. 2, with the ends added to the support).
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    values, counts = _distinct(np.round(scores, 9))
    items, level = len(scores), 0.5 + confidence / 2
    effect = design_effect(scores, clusters, level)
    if math.isinf(effect):
        return Interval(float(np.mean(scores)), 0.0, 1.0, items)
    counts /= effect
    if values.size == 0 or np.isin(values, (0.0, 1.0)).all():
        return replace(wilson(float(values @ counts), float(counts.sum()), confidence), n=items)
    n, mean, z = counts.sum(), float(values @ counts / counts.sum()), norm.ppf(level)

    def outside(m: float) -> float:
        return float(n * (mean - m) ** 2 - z**2 * _likeliest_variance(values, counts, m))

    def end(inner: float, outer: float) -> float:
        return outer if outside(outer) <= 0 else float(brentq(outside, inner, outer))

    tiny = 1e-9
    lo = end(mean * (1 - tiny), mean * tiny)
    hi = end(mean + (1 - mean) * tiny, min(1 - (1 - mean) * tiny, float(np.nextafter(1, 0))))
    return Interval(mean, lo, hi, items)


def lower_bound(
    values: Sequence[float], floor: float, confidence: float = 0.95, clusters: Clusters = None
) -> float:
    """A one-sided lower bound for the mean of items of which none can be below `floor`.

    Gaffke's bound (Phan, Thomas, Learned-Miller, Towards Practical Mean Bounds for Small Samples,
    ICML 2021): weigh the items and one imagined item at the floor by Dirichlet(1, ..., 1), and take
    the quantile of the weighted mean. For scores of 0 and 1 that is Clopper-Pearson's exact bound.
    No items give `floor`.
    """
    from scipy.optimize import brentq

    weight = 1 / design_effect(values, clusters, confidence)
    distinct, counts = _weighted([floor, *values], [1.0, *[weight] * len(values)])
    if distinct[0] < floor:
        raise ValueError(f"the item {distinct[0]} lies below the floor {floor}")
    if distinct.size == 1:
        return floor
    span = distinct[-1] - floor

    def excess(x: float) -> float:
        return _chance_below_zero(distinct - x, counts) - (1 - confidence)

    least = floor + 1e-9 * span
    if excess(least) >= 0:  # a few clusters may be worth less than the imagined item
        return floor
    return float(brentq(excess, least, distinct[-1] - 1e-9 * span, xtol=1e-12))


def surely_above(values: Floats, weights: Floats, floor: float, confidence: float = 0.95) -> bool:
    """Whether Gaffke's lower bound is at least 0, for values that occur so many times (parts of times too)."""
    return _chance_below_zero(*_weighted([floor, *values], [1.0, *weights])) <= 1 - confidence


def upper_bound(
    values: Sequence[float], ceiling: float, confidence: float = 0.95, clusters: Clusters = None
) -> float:
    """The mirror image of `lower_bound`: no item can be above `ceiling`."""
    return -lower_bound([-value for value in values], -ceiling, confidence, clusters)


def paired_test(
    first: Sequence[float], second: Sequence[float], clusters: Clusters = None
) -> PairedTest:
    """Whether the first did better than the second on the same items: McNemar's exact test for scores of 0 and
    1, else a permutation test of the mean difference, which exchanges the two on items drawn at random
    (seeded); on whole clusters, where items share them.
    """
    gaps = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    better, worse = int((gaps > 0).sum()), int((gaps < 0).sum())
    binary = bool(np.isin([*first, *second], (0.0, 1.0)).all())
    same = len(gaps) - better - worse
    shared = clusters is not None and len(set(clusters)) < len(clusters)
    if shared:
        gaps = np.round(
            np.bincount(np.unique(np.asarray(clusters), return_inverse=True)[1], gaps), 9
        )
        binary = False
    p_value = _mcnemar(better, worse) if binary else _permutation(gaps[gaps != 0])
    return PairedTest(better, worse, same, p_value, p_value, "McNemar" if binary else "permutation")


def holm(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """The tests with p-values adjusted for their number (Holm 1979): all together err as one."""
    from statsmodels.stats.multitest import multipletests

    if not tests:
        return []
    adjusted = multipletests([test.p_value for test in tests], method="holm")[1]
    return [replace(test, adjusted=float(p)) for test, p in zip(tests, adjusted, strict=True)]


def calibration_error(confidence: Floats, right: NDArray[np.bool_]) -> float:
    """The expected calibration error: the mean gap of confidence and accuracy over BINS equal bins of
    confidence, by how many lie in each (Guo et al., On Calibration of Modern Neural Networks, 2017).
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return float(
        sum(
            abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
            for b in np.unique(bins)
        )
    )


def _mcnemar(better: int, worse: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def _permutation(gaps: Floats) -> float:
    from scipy.stats import permutation_test

    if gaps.size < 2:  # one sign is as likely as the other
        return 1.0
    found = permutation_test(
        (gaps,),
        lambda signed, axis: signed.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        rng=0,
    )
    return float(found.pvalue)


def _weighted(
    values: Sequence[float] | Floats, weights: Sequence[float] | Floats
) -> tuple[Floats, Floats]:
    """The distinct values, ascending, and the sum of each one's weights; those without weight are left out."""
    distinct, places = np.unique(np.asarray(values, np.float64), return_inverse=True)
    total = np.zeros(len(distinct))
    np.add.at(total, places, np.asarray(weights, np.float64))
    return distinct[total > 0], total[total > 0]


def _distinct(values: Sequence[float] | Floats) -> tuple[Floats, Floats]:
    """The distinct values, ascending, and how often each occurs."""
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    return distinct, counts.astype(np.float64)


def _likeliest_variance(values: Floats, counts: Floats, mean: float) -> float:
    """The variance of the likeliest distribution of that mean over `values`, 0 and 1.

    A value has weight count / (n + t (value - mean)). Where even the largest t that keeps all
    weights positive leaves the mean off, the end of the range takes the weight that is missing.
    """
    from scipy.optimize import brentq

    n, gaps = counts.sum(), values - mean

    def pull(t: float) -> float:
        return float((counts * gaps / (n + t * gaps)).sum())

    t_least, t_most = -n / (1 - mean) * (1 - 1e-12), n / mean * (1 - 1e-12)
    if pull(t_least) <= 0:
        t, end = t_least, 1 - mean
    elif pull(t_most) >= 0:
        t, end = t_most, mean
    else:
        t, end = brentq(pull, t_least, t_most), 0.0
    weights = counts / (n + t * gaps)
    return float(weights @ gaps**2 + max(0.0, 1 - weights.sum()) * end**2)


def _chance_below_zero(values: Floats, counts: Floats) -> float:
    """P(sum of value x Gamma(count) < 0), the gammas independent: the Dirichlet mean's, unscaled.

    The generating function is inverted along a line through the saddle point (Daniels, Saddlepoint
    Approximations in Statistics, 1954), by the trapezoid rule in y = width x sinh(u), which
    converges geometrically here: 200 points leave an error below 1e-9.
    """
    from scipy.optimize import brentq

    if values[0] >= 0 or values[-1] <= 0:
        return float(values[-1] <= 0)

    def slope(s: float) -> float:
        return float((counts * values / (1 - s * values)).sum())

    left, right = 1 / values[0] * (1 - 1e-12), 1 / values[-1] * (1 - 1e-12)
    s = brentq(slope, left, right)
    # The integrand has a pole at 0: a line at half the sum's standard deviation keeps clear of it.
    clear = 0.5 / np.sqrt(counts @ values**2)
    if abs(s) < clear:
        s = clear if s >= 0 else -clear
    width = 1 / np.sqrt(counts @ (values / (1 - s * values)) ** 2)
    step = 0.06
    u = np.arange(200) * step
    line = s + 1j * width * np.sinh(u)
    heights = np.exp(-(counts * np.log(1 - line[:, None] * values)).sum(axis=1)) / line
    heights = heights.real * width * np.cosh(u)
    area = step * (heights.sum() - heights[0] / 2) / np.pi
    return float(1 - area if s > 0 else -area)
