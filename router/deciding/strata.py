"""Strength where who was asked what followed from scores: means over strata of a task's probes.

Probes that are bought one by one go to the teachers that are in question near them, so what a teacher was
asked is mostly what suits it, and the plain mean of its scores there is too high. The strata are k-means
clusters of a task's probes. A teacher's scores are averaged in each, and each mean weighs as much as there
are probes in the stratum, asked or not: post-stratification (Holt and Smith 1979, "Post stratification",
J. R. Stat. Soc. A 142), with the variance of Cochran (1977, "Sampling Techniques", 5A.9).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from router.deciding.clusters import kmeans

if TYPE_CHECKING:
    import numpy as np

STRATA = 8  # of a task at most
PROBES_PER_STRATUM = 16

Strata = Mapping[str, Mapping[str, int]]  # task -> key of each of its probes -> stratum


def strata_of(
    keys: Sequence[str], vectors: "np.ndarray", tasks: Sequence[str], seed: int
) -> dict[str, dict[str, int]]:
    """The stratum of each probe in its task, whatever the order of the probes; unit vectors (N, D)."""
    import numpy as np

    rows_of: dict[str, list[int]] = defaultdict(list)
    for row in sorted(range(len(keys)), key=lambda row: keys[row]):
        rows_of[tasks[row]].append(row)
    found = {}
    for task, rows in rows_of.items():
        distinct = len(np.unique(vectors[rows], axis=0))
        count = max(min(STRATA, len(rows) // PROBES_PER_STRATUM, distinct), 1)
        labels = kmeans(vectors[rows], count, seed).labels_.tolist() if count > 1 else None
        found[task] = {keys[row]: labels[i] if labels else 0 for i, row in enumerate(rows)}
    return found


def stratified(
    values: Mapping[str, float], stratum_of: Mapping[str, int], more: float
) -> tuple[float, float]:
    """The mean of values by probe key over all probes of `stratum_of`, and the variance of that mean.

    At least one value is needed. Each stratum has a variance of its own, to which the others lend one value.
    `more` is added to the squares of all, so that equal values do not look certain. A stratum without any value
    counts as the others do, and is as sure as one with one value.
    """
    by_stratum: dict[int, list[float]] = defaultdict(list)
    for key, value in values.items():
        by_stratum[stratum_of[key]].append(value)
    sizes: dict[int, int] = defaultdict(int)
    for stratum in stratum_of.values():
        sizes[stratum] += 1
    means = {stratum: sum(some) / len(some) for stratum, some in by_stratum.items()}
    seen = sum(sizes[stratum] for stratum in means)
    mean = sum(sizes[stratum] * means[stratum] for stratum in means) / seen
    squares = {s: sum((value - means[s]) ** 2 for value in some) for s, some in by_stratum.items()}
    within = (more + sum(squares.values())) / max(len(values) - len(means), 1)
    between = sum(sizes[s] * (means[s] - mean) ** 2 for s in means) / seen
    total = len(stratum_of)
    variance = between / total
    for stratum, size in sizes.items():
        n = len(by_stratum.get(stratum, ())) or 1
        spread = (squares.get(stratum, 0.0) + within + between) / n
        variance += (size / total) ** 2 * spread / n
    return mean, variance
