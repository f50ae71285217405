"""Tells a prompt's task from its embedding, with probabilities that can be believed, or says `unsure`.

Logistic regression on few examples ranks well and is shy or bold about it. One temperature mends that
(Guo et al. 2017, "On Calibration of Modern Neural Networks"), fitted on logits that each example got from
a classifier that had not seen it, with the smoothing of one mistake more than were seen (after Platt
1999), since a handful of right answers does not prove certainty.

A prompt is `unsure` in two cases. Its probability is below a threshold that keeps the share of prompts with
a wrong task at the error rate that was asked for (conformal risk control: Angelopoulos et al. 2022, here on
the same cross-fitted logits). Or it is novel: less like any known prompt than the oddest of these is like
the others, which one in n + 1 prompts of their kind would be.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.errors import InputError
from ledger.keys import content_key

if TYPE_CHECKING:
    import numpy as np

UNSURE = "unsure"
FOLDS = 10
# Vectors have length 1, so that scikit-learn's default of 1.0 would hardly fit them at all.
INVERSE_REGULARISATION = 10.0
TEMPERATURES = (0.02, 20.0)
CHUNK = 4_096  # prompts whose similarities are in memory together


class UnusableExamples(InputError):
    """The examples of the tasks do not make a classifier."""


@dataclass(frozen=True, slots=True)
class Label:
    """The task of a prompt, or `unsure`; `probability` is that of `best_task`, calibrated.

    `novel` means that nothing like it is among the examples and probes.
    """

    task: str
    probability: float
    best_task: str
    novel: bool


@dataclass(frozen=True, slots=True)
class TaskClassifier:
    """A fitted classifier; `version` is a key over all that it stood on."""

    tasks: tuple[str, ...]
    weights: "np.ndarray"  # (D, K) float64
    bias: "np.ndarray"  # (K,)
    temperature: float
    sure_from: float  # the probability from which a task counts
    known: "np.ndarray"  # (M, D) examples and probes
    like_from: float  # the cosine with the nearest of `known` from which a prompt is not novel
    version: str

    def probabilities(self, vectors: "np.ndarray") -> "np.ndarray":
        """Calibrated probabilities (N, K), in the order of `tasks`."""
        return _softmax((vectors @ self.weights + self.bias) / self.temperature)

    def predict(self, vectors: "np.ndarray") -> list[Label]:
        """One label for each of the vectors (N, D)."""
        found = self.probabilities(vectors)
        best, novel = found.argmax(axis=1), _likeness(vectors, self.known) < self.like_from
        labels = []
        for row, place, new in zip(found, best.tolist(), novel.tolist(), strict=True):
            task, probability = self.tasks[place], float(row[place])
            sure = probability >= self.sure_from and not new
            labels.append(Label(task if sure else UNSURE, probability, task, new))
        return labels


def fit(
    vectors: "np.ndarray",
    tasks: Sequence[str],
    seed: int,
    error_rate: float = 0.1,
    probes: "np.ndarray | None" = None,
) -> TaskClassifier:
    """Fits a classifier to examples: unit vectors (N, D) and the task of each.

    At most a share of `error_rate` of prompts like the examples gets a wrong task; the others are right
    or `unsure`. `probes` (M, D) are more prompts that are not novel. With one task everything else is
    that task. Raises UnusableExamples without examples, where a task has only one among several tasks,
    or where there are too few to promise the error rate.
    """
    import numpy as np

    names = names_in(tasks, error_rate)
    known = vectors if probes is None else np.concatenate([vectors, probes])
    version = content_key(
        {
            "vectors": hashlib.sha256(np.ascontiguousarray(known, "<f4").tobytes()).hexdigest(),
            "tasks": list(tasks),
            "seed": seed,
            "error_rate": error_rate,
            "settings": [INVERSE_REGULARISATION, FOLDS, list(TEMPERATURES)],
        }
    )
    targets = np.array([names.index(task) for task in tasks])
    weights, bias = _regression(vectors, targets, len(names))
    temperature, sure_from = 1.0, 0.0
    if len(names) > 1:
        logits = _cross_fitted(vectors, targets, len(names), seed)
        temperature = _temperature(logits, targets)
        sure_from = _threshold(_softmax(logits / temperature), targets, error_rate)
    return TaskClassifier(
        names, weights, bias, temperature, sure_from, known, _floor(known), version
    )


def names_in(tasks: Sequence[str], error_rate: float) -> tuple[str, ...]:
    """The names of the tasks that examples have. Raises UnusableExamples where a classifier cannot be fitted on
    them that keeps the error rate."""
    counts = Counter(tasks)
    if not counts:
        raise UnusableExamples("there are no examples of any task: give a few prompts per task.")
    if UNSURE in counts:
        raise UnusableExamples(
            f"the examples name a task {UNSURE!r}, which is the word for prompts of no clear task: "
            "give that task another name."
        )
    lonely = sorted(task for task, count in counts.items() if count < 2)
    if lonely and len(counts) > 1:
        raise UnusableExamples(
            f"the task {lonely[0]!r} has 1 example, and calibration needs 2 at least: "
            "give 5 or more."
        )
    needed = math.ceil(1 / error_rate - 1)
    if len(counts) > 1 and len(tasks) < needed:
        raise UnusableExamples(
            f"{len(tasks)} examples cannot promise an error rate of {error_rate:g}, {needed} can: give "
            "more, or raise `tasks.error_rate`."
        )
    return tuple(sorted(counts))


def _regression(
    vectors: "np.ndarray", targets: "np.ndarray", tasks: int, share: float = 1.0
) -> tuple["np.ndarray", "np.ndarray"]:
    """Weights (D, K) and bias (K,); equally many examples a task are pretended.

    Where the examples are a `share` of all, their loss weighs as much against the weights as that of all
    would: logits of a fold would be smaller otherwise, and a threshold on them too low.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    if tasks == 1:
        return np.zeros((vectors.shape[1], 1)), np.zeros(1)
    model = LogisticRegression(
        C=INVERSE_REGULARISATION / share, class_weight="balanced", max_iter=1000, tol=1e-6
    ).fit(vectors.astype(np.float64), targets)
    if tasks == 2:  # scikit-learn keeps one row there: the second task's advantage
        half = model.coef_[0] / 2
        half_bias = model.intercept_[0] / 2
        return np.stack([-half, half], axis=1), np.array([-half_bias, half_bias])
    return model.coef_.T.copy(), model.intercept_.copy()


def _cross_fitted(
    vectors: "np.ndarray", targets: "np.ndarray", tasks: int, seed: int
) -> "np.ndarray":
    """Logits (N, K) of each example from a classifier that has not seen it."""
    import numpy as np
    from sklearn.model_selection import StratifiedKFold

    folds = min(FOLDS, int(np.bincount(targets).min()))
    logits = np.empty((len(targets), tasks))
    split = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32)
    for seen, unseen in split.split(vectors, targets):
        share = len(seen) / len(targets)
        weights, bias = _regression(vectors[seen], targets[seen], tasks, share)
        logits[unseen] = vectors[unseen] @ weights + bias
    return logits


def _temperature(logits: "np.ndarray", targets: "np.ndarray") -> float:
    """The temperature of least cross-entropy against targets with one mistake in N + 2 smoothed in."""
    import numpy as np
    from scipy.optimize import minimize_scalar

    rows, tasks = logits.shape
    share = 1 / (rows + 2)
    smooth = np.full((rows, tasks), share / (tasks - 1))
    smooth[np.arange(rows), targets] = 1 - share

    def loss(log_temperature: float) -> float:
        probabilities = _softmax(logits / np.exp(log_temperature))
        return float(-(smooth * np.log(np.maximum(probabilities, 1e-300))).sum())

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(found.x))


def _threshold(probabilities: "np.ndarray", targets: "np.ndarray", error_rate: float) -> float:
    """The lowest probability from which tasks may count, so that at most `error_rate` of prompts like
    these get a wrong one: wrong and counted, plus one, over N + 1 (Angelopoulos et al. 2022, eq. 4)."""
    import numpy as np

    confidence = probabilities.max(axis=1)
    wrong = np.sort(confidence[probabilities.argmax(axis=1) != targets])[::-1]
    allowed = int(error_rate * (len(targets) + 1) + 1e-9) - 1
    if len(wrong) <= allowed:
        return 0.0
    return float(np.nextafter(wrong[allowed], 2.0))


def _floor(known: "np.ndarray") -> float:
    """The likeness (cosine) of the oddest of the known vectors to the nearest other one."""
    import numpy as np

    if len(known) < 2:
        return -1.0
    nearest = np.empty(len(known))
    for start in range(0, len(known), CHUNK):
        part = known[start : start + CHUNK] @ known.T
        part[np.arange(len(part)), start + np.arange(len(part))] = -1.0
        nearest[start : start + CHUNK] = part.max(axis=1)
    return float(nearest.min())


def _likeness(vectors: "np.ndarray", known: "np.ndarray") -> "np.ndarray":
    """The cosine (N,) of each unit vector (N, D) with the nearest known one (M, D)."""
    import numpy as np

    found = np.empty(len(vectors))
    for start in range(0, len(vectors), CHUNK):
        found[start : start + CHUNK] = (vectors[start : start + CHUNK] @ known.T).max(axis=1)
    return found


def _softmax(logits: "np.ndarray") -> "np.ndarray":
    import numpy as np

    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return out
