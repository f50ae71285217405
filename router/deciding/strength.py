"""How strong a teacher is at a task, and how much stronger than another, each with its interval.

Strength: Wilson's score interval; for graded scores with the number of right-or-wrong probes that would
say as much (Kish 1965, the design effect), and a t quantile. Gain of one teacher over another on the same
probes: Bonett and Price (2012), "Adjusted Wald confidence interval for a difference of binomial proportions
based on paired data", J. Educ. Behav. Stat. 37(4), which Fagerland, Lydersen and Laake (2014, Stat. Med. 33)
recommend for small samples. It adds one pair in favour of each side, so it has width even where all probes
agree.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from router.deciding.strata import Grouped


@dataclass(frozen=True, slots=True)
class Strength:
    """Mean score of a teacher at a task, with its interval; `binary` if each score was 0 or 1."""

    mean: float
    lo: float
    hi: float
    n: int
    binary: bool


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean of the paired differences of two teachers' scores over `n` shared probes."""

    mean: float
    lo: float
    hi: float
    n: int


def strength(values: Sequence[float], confidence: float = 0.95) -> Strength:
    """The strength that scores in [0, 1] show; at least one is needed."""
    mean, n = fmean(values), len(values)
    binary = all(value in (0, 1) for value in values)
    lo, hi = _wilson(mean, n, z_of(confidence)) if binary else _graded(values, confidence)
    return Strength(mean, max(0.0, min(lo, mean)), min(1.0, max(hi, mean)), n, binary)


def paired_gain(ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.95) -> Gain:
    """By how much `ours` exceeds `theirs`, pair by pair; at least one pair is needed.

    For scores of 0 and 1 this is exactly Bonett and Price's interval. For graded scores the same
    two pairs, of difference +1 and -1, are added, which errs on the wide side.
    """
    differences = [our - their for our, their in zip(ours, theirs, strict=True)]
    n = len(differences)
    mean = fmean(differences)
    centre = sum(differences) / (n + 2)
    variance = (sum(d * d for d in differences) + 2) / (n + 2) - centre**2
    half = z_of(confidence) * math.sqrt(variance / (n + 2))
    return Gain(mean, max(-1.0, min(centre - half, mean)), min(1.0, max(centre + half, mean)), n)


def stratified_strength(
    values: Mapping[str, float], stratum_of: Mapping[str, int], confidence: float
) -> Strength:
    """The strength over all probes of `stratum_of` by those that a teacher was asked (see strata.py): Wilson's
    interval for as many right-or-wrong probes as have the variance of the stratified mean."""
    from scipy.stats import t

    n, grouped = len(values), Grouped.of(values, stratum_of)
    mean = grouped.mean
    if all(value in (0, 1) for value in values.values()):
        shy, variance = grouped.binary()
        z = z_of(confidence)
    else:
        shy = (n * mean + 0.5) / (n + 1)
        variance = grouped.graded(more=shy * (1 - shy))
        z = float(t.ppf(0.5 + confidence / 2, n))
    lo, hi = _wilson(mean, shy * (1 - shy) / variance, z)
    return Strength(mean, max(0.0, min(lo, mean)), min(1.0, max(hi, mean)), n, False)


def stratified_gain(
    ours: Mapping[str, float],
    theirs: Mapping[str, float],
    stratum_of: Mapping[str, int],
    confidence: float,
) -> Gain:
    """The same of the differences on shared probes, of which there must be one; with the two pairs of
    `paired_gain`."""
    differences = {key: ours[key] - theirs[key] for key in ours if key in theirs}
    grouped = Grouped.of(differences, stratum_of)
    n, mean = len(differences), grouped.mean
    centre = mean * n / (n + 2)
    half = z_of(confidence) * math.sqrt(grouped.graded(more=2.0))
    return Gain(mean, max(-1.0, min(centre - half, mean)), min(1.0, max(centre + half, mean)), n)


def z_of(confidence: float) -> float:
    """The normal quantile of a two-sided interval."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _wilson(mean: float, n: float, z: float) -> tuple[float, float]:
    centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    return centre - half, centre + half


def _graded(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Wilson's interval with n times the variance that right-or-wrong scores of this mean would have over
    that of the scores; one score of the former is added, so that equal scores do not look certain."""
    from scipy.stats import t

    n, mean = len(values), fmean(values)
    shy = (n * mean + 0.5) / (n + 1)
    binary = shy * (1 - shy)
    variance = (sum((value - mean) ** 2 for value in values) + binary) / n
    return _wilson(mean, n * binary / variance, float(t.ppf(0.5 + confidence / 2, n)))
