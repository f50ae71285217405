"""How near a model's distributions over the next token are to its teacher's, on the teacher's own answers.

    matching([Told(ids_T_K, p_T_K, labels_T, held), …])      # one for each answer

Both sides are the teacher's `K` likeliest tokens and one outcome more, the tail, for all others: coarser than
the vocabulary, so that divergences are bounds from below. Dimensions: T tokens of an answer, K kept ones. nats.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evals.stats import Interval, calibration_error
from router.teachers.local import Foretelling

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

LEAST = 1e-12  # a probability's floor, so that no divergence is infinite
Z = 1.959964  # of the 95 % interval
NEVER_BELOW_0 = ("kl", "reverse_kl", "js", "nll", "top1")
MEASURES = ("kl", "reverse_kl", "js", "top1", "entropy_gap", "nll_gap", "nll")


@dataclass(frozen=True, slots=True)
class Told:
    """An answer's tokens: the teacher's likeliest ids and probabilities, 0 where it tells none; and the
    model's.
    """

    ids_T_K: Ids
    p_T_K: Floats
    labels_T: Ids
    held: Foretelling


@dataclass(frozen=True, slots=True)
class Matching:
    """By measure the mean over tokens with its interval, and the expected calibration error over all tokens.

    `kl` is KL(teacher, model), `reverse_kl` the other way round, `js` Jensen-Shannon's divergence; `top1` the
    share of tokens at which both have the same likeliest one; `entropy_gap` and `nll_gap` are the model's
    entropy and negative log-likelihood of the answer less the teacher's, `nll` the model's own.
    """

    figures: dict[str, Interval]
    calibration_error: float | None
    tokens: int
    covered: int  # of them, with a distribution of the teacher's


def matching(answers: Sequence[Told]) -> Matching:
    """The figures over all answers of a task."""
    by_answer = [_measured(each) for each in answers]
    tokens = sum(len(each.labels_T) for each in answers)
    figures = {}
    for name in MEASURES:
        clusters = [each[name] for each in by_answer if len(each[name])]
        if len(clusters) > 1:  # one alone says nothing of how sure it is
            found = clustered(clusters)
            least = 0.0 if name in NEVER_BELOW_0 else found.lo
            figures[name] = replace(found, lo=max(found.lo, least))
    covered = sum(len(each["kl"]) for each in by_answer)
    return Matching(figures, _calibration_error(answers), tokens, covered)


def clustered(clusters: Sequence[Floats]) -> Interval:
    """The mean over all values, with the 95 % interval of a ratio estimator over clusters (Cochran, Sampling
    Techniques, 1977, section 6.3): variance from the clusters' sums less the mean times their sizes. Takes two
    clusters at least.
    """
    sums = np.array([each.sum() for each in clusters])
    sizes = np.array([len(each) for each in clusters], np.float64)
    mean = float(sums.sum() / sizes.sum())
    count = len(clusters)
    gaps = sums - mean * sizes
    half = Z * float(np.sqrt(count / (count - 1) * (gaps @ gaps))) / float(sizes.sum())
    return Interval(mean, mean - half, mean + half, int(sizes.sum()))


def _measured(told: Told) -> dict[str, Floats]:
    """Each measure at those tokens at which it is defined."""
    known_T = told.p_T_K.sum(axis=1) > 0
    p = _with_tail(told.p_T_K[known_T])
    q = _with_tail(np.where(told.p_T_K > 0, np.exp(told.held.logprobs_T_K), 0.0)[known_T])
    middle = (p + q) / 2
    label_T = told.labels_T[known_T]
    is_label = (told.ids_T_K[known_T] == label_T[:, None]) & (told.p_T_K[known_T] > 0)
    has_label = is_label.any(axis=1)
    teacher_nll = -np.log(np.maximum((told.p_T_K[known_T] * is_label).sum(axis=1), LEAST))[
        has_label
    ]
    own_nll = -told.held.next_T[known_T]
    return {
        "kl": _kl(p, q),
        "reverse_kl": _kl(q, p),
        "js": (_kl(p, middle) + _kl(q, middle)) / 2,
        "top1": (told.ids_T_K[known_T, 0] == told.held.best_T[known_T]).astype(np.float64),
        "entropy_gap": _entropy(q) - _entropy(p),
        "nll_gap": own_nll[has_label] - teacher_nll,
        "nll": -told.held.next_T,
    }


def _with_tail(p_T_K: Floats) -> Floats:
    tail_T = np.maximum(0.0, 1.0 - p_T_K.sum(axis=1))
    return np.concatenate([p_T_K, tail_T[:, None]], axis=1)


def _kl(p: Floats, q: Floats) -> Floats:
    ratio = np.log(np.maximum(p, LEAST)) - np.log(np.maximum(q, LEAST))
    return np.asarray((p * ratio).sum(axis=1))


def _entropy(p: Floats) -> Floats:
    return np.asarray(-(p * np.log(np.maximum(p, LEAST))).sum(axis=1))


def _calibration_error(answers: Sequence[Told]) -> float | None:
    if not any(len(each.labels_T) for each in answers):
        return None
    confidence = np.concatenate([each.held.confidence_T for each in answers])
    right = np.concatenate([each.held.best_T == each.labels_T for each in answers])
    return calibration_error(confidence, right)
