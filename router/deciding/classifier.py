"""Tells a prompt's task from its embedding: logistic regression with calibrated probabilities.

Few examples give a classifier that ranks well and is shy or bold about it. One temperature mends
that (Guo et al. 2017, "On Calibration of Modern Neural Networks"), fitted on logits that each
example got from a classifier that had not seen it, against targets smoothed as in Platt (1999),
since a handful of right answers does not prove certainty.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.errors import InputError
from ledger.keys import content_key

if TYPE_CHECKING:
    import numpy as np

UNSURE = "unsure"
FOLDS = 5
# Vectors have length 1, so that scikit-learn's default of 1.0 would hardly fit them at all.
INVERSE_REGULARISATION = 10.0
TEMPERATURES = (0.02, 20.0)


class UnusableExamples(InputError):
    """The examples of the tasks do not make a classifier."""


@dataclass(frozen=True, slots=True)
class Label:
    """The task of a prompt, or `unsure`; `probability` is that of `best_task`, calibrated."""

    task: str
    probability: float
    best_task: str


@dataclass(frozen=True, slots=True)
class TaskClassifier:
    """A fitted classifier; `version` is a key over all that it stood on."""

    tasks: tuple[str, ...]
    weights: "np.ndarray"  # (D, K) float64
    bias: "np.ndarray"  # (K,)
    temperature: float
    unsure_below: float
    version: str

    def probabilities(self, vectors: "np.ndarray") -> "np.ndarray":
        """Calibrated probabilities (N, K), in the order of `tasks`."""
        return _softmax((vectors @ self.weights + self.bias) / self.temperature)

    def predict(self, vectors: "np.ndarray") -> list[Label]:
        """One label for each of the vectors (N, D)."""
        labels = []
        for row in self.probabilities(vectors):
            best = int(row.argmax())
            task, probability = self.tasks[best], float(row[best])
            sure = probability >= self.unsure_below
            labels.append(Label(task if sure else UNSURE, probability, task))
        return labels


def fit(
    vectors: "np.ndarray", tasks: Sequence[str], seed: int, unsure_below: float = 0.5
) -> TaskClassifier:
    """Fits a classifier to examples: vectors (N, D) and the task of each.

    With one task everything is that task. Raises UnusableExamples without examples, or where a task
    has only one among several tasks.
    """
    import numpy as np

    names = _checked(tasks)
    version = content_key(
        {
            "vectors": hashlib.sha256(np.ascontiguousarray(vectors, "<f4").tobytes()).hexdigest(),
            "tasks": list(tasks),
            "seed": seed,
            "unsure_below": unsure_below,
            "settings": [INVERSE_REGULARISATION, FOLDS, list(TEMPERATURES)],
        }
    )
    targets = np.array([names.index(task) for task in tasks])
    weights, bias = _regression(vectors, targets, len(names))
    temperature = 1.0
    if len(names) > 1:
        temperature = _temperature(_cross_fitted(vectors, targets, len(names), seed), targets)
    return TaskClassifier(names, weights, bias, temperature, unsure_below, version)


def _checked(tasks: Sequence[str]) -> tuple[str, ...]:
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
    return tuple(sorted(counts))


def _regression(
    vectors: "np.ndarray", targets: "np.ndarray", tasks: int
) -> tuple["np.ndarray", "np.ndarray"]:
    """Weights (D, K) and bias (K,); equally many examples a task are pretended."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    if tasks == 1:
        return np.zeros((vectors.shape[1], 1)), np.zeros(1)
    model = LogisticRegression(
        C=INVERSE_REGULARISATION, class_weight="balanced", max_iter=1000, tol=1e-6
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
        weights, bias = _regression(vectors[seen], targets[seen], tasks)
        logits[unseen] = vectors[unseen] @ weights + bias
    return logits


def _temperature(logits: "np.ndarray", targets: "np.ndarray") -> float:
    """The temperature of least cross-entropy against Platt's smoothed targets."""
    import numpy as np
    from scipy.optimize import minimize_scalar

    rows, tasks = logits.shape
    share = 1 / (np.bincount(targets, minlength=tasks) + 2)[targets]
    smooth = np.repeat(share[:, None] / (tasks - 1), tasks, axis=1)
    smooth[np.arange(rows), targets] = 1 - share

    def loss(log_temperature: float) -> float:
        probabilities = _softmax(logits / np.exp(log_temperature))
        return float(-(smooth * np.log(np.maximum(probabilities, 1e-300))).sum())

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(found.x))


def _softmax(logits: "np.ndarray") -> "np.ndarray":
    import numpy as np

    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return out
