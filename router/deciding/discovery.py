"""Tasks without examples: from one sentence each, or from how the prompts themselves fall apart.

Both end in examples, prompts with a task, on which the classifier (classifier.py) is fitted as on anybody's.

Discovered tasks are k-means clusters. Their number is, of those that two halves of the prompts agree on
(prediction strength: Tibshirani and Walther 2005, "Cluster validation by prediction strength", J. Comput.
Graph. Stat. 14; the mean over clusters), the one whose clusters are best apart (silhouette: Rousseeuw 1987,
J. Comput. Appl. Math. 20). Described tasks begin with the prompts nearest to each sentence, and a classifier
of these finds those that it is surest of, twice.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.errors import InputError
from router.deciding.classifier import fit
from router.deciding.clusters import kmeans
from router.deciding.terms import names_of

if TYPE_CHECKING:
    import numpy as np

MOST_TASKS = 16
FEWEST_PROMPTS = 40  # prompts that can be split
SAMPLE = 4_000  # prompts that clusters are sought in
SPLITS = 4  # into halves, for every number of clusters
STABLE = 0.75  # prediction strength from which halves agree
STARTS = 5  # of k-means
SAME = 0.98  # cosine of two sentences from which they say the same
EXAMPLES = 60  # of each task
ROUNDS = 2  # in which the examples of described tasks are found anew
SILHOUETTES = 2_000  # prompts whose silhouettes are taken
SMALLEST = 8  # prompts of a cluster that may be a task


class NothingToDiscover(InputError):
    """The prompts do not make tasks."""


@dataclass(frozen=True, slots=True)
class Split:
    """How good a number of clusters is: `strength` and `apart` are 1 at best."""

    tasks: int
    strength: float
    apart: float


@dataclass(frozen=True, slots=True)
class Discovered:
    """Prompts (by number) that stand for each task, the task of each, and what was tried."""

    rows: "np.ndarray"  # (E,)
    tasks: tuple[str, ...]  # (E,)
    tried: tuple[Split, ...]


def refuse_few_prompts(prompts: int, tasks: int | None) -> None:
    """Raises NothingToDiscover for fewer than 40 prompts, or 20 a task where their number is given."""
    if prompts < FEWEST_PROMPTS:
        raise NothingToDiscover(
            f"{prompts} prompts are too few to discover tasks in, {FEWEST_PROMPTS} would do: give "
            "`examples:` or `describe:`."
        )
    least = (tasks or 0) * FEWEST_PROMPTS // 2
    if prompts < least:
        raise NothingToDiscover(
            f"{prompts} prompts are too few for {tasks:,} tasks, {least:,} would do: discover fewer, or `auto`."
        )


def discover(
    vectors: "np.ndarray", texts: Sequence[str], seed: int, tasks: int | None = None
) -> Discovered:
    """Splits prompts, unit vectors (N, D) and their texts, into `tasks` tasks, by stability where None.

    Raises NothingToDiscover for fewer than 40 prompts, or 20 a task, and where a task would have fewer than
    two. Prompts that fall apart in no stable way are one task.
    """
    import numpy as np

    refuse_few_prompts(len(vectors), tasks)
    rng = np.random.default_rng(seed)
    sample = rng.permutation(len(vectors))[:SAMPLE]
    seen = vectors[sample]
    distinct = len(np.unique(seen, axis=0))
    tried: tuple[Split, ...] = ()
    if tasks is None:
        most = min(MOST_TASKS, len(seen) // (FEWEST_PROMPTS // 2), distinct)
        tried = tuple(_split(seen, count, seed) for count in range(2, most + 1))
        stable = [split for split in tried if split.strength >= STABLE]
        tasks = max(stable, key=lambda split: split.apart).tasks if stable else 1
    clusters = _clusters(seen, min(tasks, distinct), seed)
    if (smallest := np.bincount(clusters, minlength=tasks).min()) < 2:
        raise NothingToDiscover(
            f"the prompts do not fall into {tasks:,} tasks: the smallest would have {smallest} of them, and 2 "
            "is the least; discover fewer, or `auto`."
        )
    names = names_of(
        [[texts[sample[i]] for i in np.flatnonzero(clusters == c)] for c in range(tasks)]
    )
    rows = np.concatenate(
        [rng.permutation(np.flatnonzero(clusters == c))[:EXAMPLES] for c in range(tasks)]
    )
    return Discovered(sample[rows], tuple(names[clusters[row]] for row in rows), tried)


def refuse_few_for_sentences(prompts: int, tasks: int) -> None:
    """Raises NothingToDiscover for fewer than two prompts a described task."""
    if prompts < 2 * tasks:
        raise NothingToDiscover(
            f"{prompts} prompts are too few for {tasks} described tasks: add prompts."
        )


def from_descriptions(
    vectors: "np.ndarray", described: Mapping[str, "np.ndarray"], seed: int
) -> Discovered:
    """Prompts, unit vectors (N, D), that stand for tasks of which a sentence's unit vector (D,) is given.

    Raises NothingToDiscover for fewer than two prompts a task, and where two sentences say the same.
    """
    import numpy as np

    names = sorted(described)
    refuse_few_for_sentences(len(vectors), len(names))
    for one, two in itertools.combinations(names, 2):
        if float(described[one] @ described[two]) > SAME:
            raise NothingToDiscover(
                f"the sentences of {one!r} and {two!r} say the same, so chance would choose between them: say "
                "what sets them apart, or make one task of them."
            )
    each = max(2, min(EXAMPLES // 2, len(vectors) // (2 * len(names))))
    near = vectors @ np.stack([described[name] for name in names]).T  # (N, K)
    # What all sentences share with a prompt tells nothing, and one sentence may be nearer to everything.
    scores = near - near.mean(axis=0)
    for _ in range(ROUNDS):
        rows, tasks = _surest(scores, names, each)
        classifier = fit(vectors[rows], tasks, seed, error_rate=0.5)
        scores = vectors @ classifier.weights + classifier.bias
    rows, tasks = _surest(scores, names, 2 * each)
    return Discovered(rows, tuple(tasks), ())


def _surest(
    scores: "np.ndarray", names: Sequence[str], each: int
) -> "tuple[np.ndarray, list[str]]":
    """The prompts that a task's score (N, K) is furthest ahead on, and their tasks; no prompt twice."""
    import numpy as np

    if len(names) == 1:
        rows = np.argsort(-scores[:, 0], kind="stable")[:each]
        return rows, [names[0]] * len(rows)
    top = np.sort(scores, axis=1)
    ahead = np.where(scores == top[:, -1:], scores - top[:, -2:-1], scores - top[:, -1:])  # (N, K)
    taken: dict[int, int] = {}
    order = np.argsort(-ahead, axis=0, kind="stable")
    for turn in range(
        each * len(names)
    ):  # in turn: a task without prompts of its own gets some too
        task = turn % len(names)
        row = next((row for row in order[:, task].tolist() if row not in taken), None)
        if row is not None:
            taken[row] = task
    rows = np.array(sorted(taken))
    return rows, [names[taken[row]] for row in rows.tolist()]


def _split(vectors: "np.ndarray", count: int, seed: int) -> Split:
    import numpy as np
    from sklearn.metrics import silhouette_score

    clusters = _clusters(vectors, count, seed)
    part = clusters[:SILHOUETTES]
    if np.bincount(clusters, minlength=count).min() < SMALLEST or len(set(part.tolist())) < 2:
        return Split(count, 0.0, 0.0)
    strengths = [_agreement(vectors, count, seed + draw) for draw in range(SPLITS)]
    apart = silhouette_score(vectors[:SILHOUETTES], part, metric="cosine")
    return Split(count, float(np.mean(strengths)), float(apart))


def _agreement(vectors: "np.ndarray", count: int, seed: int) -> float:
    """Prediction strength: of two prompts in one cluster of a half, how often the other half's centres put
    them together; the mean over clusters."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(vectors))
    halves = [vectors[part] for part in np.array_split(order, 2)]
    ours, theirs = (kmeans(half, count, seed, starts=2) for half in halves)
    predicted = theirs.predict(halves[0])
    found = []
    for cluster in range(count):
        together = np.bincount(predicted[ours.labels_ == cluster], minlength=count)
        pairs = together.sum() * (together.sum() - 1)
        found.append(float((together * (together - 1)).sum() / pairs) if pairs else 0.0)
    return float(np.mean(found))


def _clusters(vectors: "np.ndarray", count: int, seed: int) -> "np.ndarray":
    """The cluster (N,) of each prompt."""
    found: np.ndarray = kmeans(vectors, count, seed, STARTS).labels_
    return found
