"""Where a student fails: its failures in groups of like prompts, and how much of the mix lies near each.

groups(vectors)                     # -> [[0, 3, 7], [1, 2]], numbers of failures, the largest group first
near(vectors[group], samples)       # -> how many samples of the mix are about as near as they are to each other
"""

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating[Any]]

MOST_GROUPS = 5
SMALLEST = 4  # failures of a group, in the mean
APART = 0.25  # silhouette from which groups are worth telling apart: below it there is no structure
WITHIN = 0.9  # the share of a group that is as near to its middle as what counts as near


def groups(vectors: Vectors) -> list[list[int]]:
    """Failures, unit vectors (N, D) of their prompts, in groups: by average linkage of their cosines, as many
    as are best apart (silhouette: Rousseeuw 1987), one where none are."""
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.metrics import silhouette_score

    best, labels = APART, np.zeros(len(vectors), int)
    for count in range(2, min(MOST_GROUPS, len(vectors) // SMALLEST) + 1):
        tried = AgglomerativeClustering(count, metric="cosine", linkage="average").fit_predict(
            vectors
        )
        apart = float(silhouette_score(vectors, tried, metric="cosine"))
        if apart > best:
            best, labels = apart, tried
    found: dict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(labels.tolist()):
        found[label].append(row)
    return sorted(found.values(), key=len, reverse=True)


def near(group: Vectors, samples: Vectors) -> int:
    """How many samples (M, D) are as near to the group's middle as nine tenths of the group (n, D) are.

    Unit vectors of prompts; nearness is the cosine.
    """
    if not len(samples):
        return 0
    middle = group.mean(axis=0)
    reach = float(np.quantile(group @ middle, 1 - WITHIN))
    return int((samples @ middle >= reach - 1e-6).sum())
