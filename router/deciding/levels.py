"""Which effects a prompt has: its task's, those of the clusters around it, and slopes across the embedding."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from router.deciding.clusters import kmeans

if TYPE_CHECKING:
    import numpy as np
    from scipy.sparse import csr_array

GRAINS = (8, 16, 32, 64, 128)  # clusters of a partition
PARTITIONS = 6  # of each grain
PROBES_PER_CLUSTER = 16  # no finer than this on average
FEWEST = GRAINS[0] * PROBES_PER_CLUSTER  # probes that make a partition
MOST_SLOPES = 384  # principal axes

Spreads = tuple[float, float, float]  # of tasks, clusters and slopes


@dataclass(frozen=True, slots=True)
class Design:
    """Which effects N prompts have: of the first C those of their groups, of the last S all, each as strongly
    as the prompt lies along its axis."""

    members: "np.ndarray"  # (N, M) int, each group's number, -1 for none
    slopes: "np.ndarray"  # (N, S)
    grouped: int  # C

    def only(self, rows: "np.ndarray") -> "Design":
        """That of some prompts."""
        return Design(self.members[rows], self.slopes[rows], self.grouped)

    def indicators(self) -> "csr_array":
        """1 for each effect (N, C) that a prompt has."""
        import numpy as np
        from scipy.sparse import csr_array

        known = self.members >= 0
        starts = np.concatenate([[0], known.sum(axis=1).cumsum()])
        places = self.members[known]
        shape = (len(self.members), self.grouped)
        return csr_array((np.ones(len(places)), places, starts), shape=shape)

    def sums(self, effects: "np.ndarray") -> "np.ndarray":
        """Each prompt's effects (C + S, T) added up (N, T)."""
        found: np.ndarray = self.indicators() @ effects[: self.grouped]
        if self.slopes.shape[1]:
            found += self.slopes @ effects[self.grouped :]
        return found

    def gram(self) -> "np.ndarray":
        """The products (C + S, C + S) of effects' columns."""
        import numpy as np

        indicators = self.indicators()
        cross = indicators.T @ self.slopes
        own = (indicators.T @ indicators).toarray()
        return np.block([[own, cross], [cross.T, self.slopes.T @ self.slopes]])

    def covariance(self, variances: "np.ndarray") -> "np.ndarray":
        """How prompts (N, N) go together, effects having these variances (C + S,)."""
        indicators = self.indicators()
        found: np.ndarray = ((indicators * variances[: self.grouped]) @ indicators.T).toarray()
        return found + (self.slopes * variances[self.grouped :]) @ self.slopes.T

    def weighted(self, values: "np.ndarray") -> "np.ndarray":
        """Values (N, T) summed by effect (C + S, T)."""
        import numpy as np

        return np.concatenate([self.indicators().T @ values, self.slopes.T @ values])


@dataclass(frozen=True, slots=True)
class Slopes:
    """Where prompts lie along the probes' principal axes, from their mean."""

    origin: "np.ndarray"  # (D,)
    axes: "np.ndarray"  # (S, D), such that the mean square distance from the origin is 1

    @classmethod
    def of(cls, vectors: "np.ndarray", seed: int) -> "Slopes":
        """Those of probes (N, D)."""
        from sklearn.decomposition import PCA

        found = PCA(min(MOST_SLOPES, *vectors.shape), random_state=seed).fit(vectors)
        return cls(found.mean_, found.components_ / found.explained_variance_.sum() ** 0.5)

    def along(self, vectors: "np.ndarray") -> "np.ndarray":
        """Of prompts (N, D), the places (N, S)."""
        found: np.ndarray = ((vectors - self.origin) @ self.axes.T).astype(float)
        return found


@dataclass(frozen=True, slots=True)
class Levels:
    """The effects that there are: the overall one, each task's, each cluster's of each partition, and the
    slopes if any."""

    tasks: tuple[str, ...]
    centres: "tuple[np.ndarray, ...]"  # per partition (k, D)
    slopes: Slopes | None

    @classmethod
    def of(cls, vectors: "np.ndarray", tasks: Sequence[str], seed: int) -> "Levels":
        """Those of probes (N, D) of these tasks, without slopes."""
        return cls(_names(tasks), tuple(_partitions(vectors, seed)), None)

    def with_slopes(self, vectors: "np.ndarray", seed: int) -> "Levels":
        """The same and slopes, of probes (N, D)."""
        return replace(self, slopes=Slopes.of(vectors, seed))

    @property
    def grouped(self) -> int:
        """Effects a teacher that groups of prompts have, all but slopes: C."""
        return 1 + len(self.tasks) + sum(len(centres) for centres in self.centres)

    def design(self, vectors: "np.ndarray", tasks: Sequence[str]) -> Design:
        """That of prompts (N, D); an unknown task has no effect."""
        import numpy as np

        place = {task: 1 + i for i, task in enumerate(self.tasks)}
        columns = [
            np.zeros(len(vectors), int),
            np.array([place.get(task, -1) for task in tasks], int),
        ]
        start = 1 + len(self.tasks)
        for centres in self.centres:
            near = vectors @ centres.T - (centres**2).sum(axis=1) / 2
            columns.append(start + near.argmax(axis=1))
            start += len(centres)
        slopes = self.slopes.along(vectors) if self.slopes else np.zeros((len(vectors), 0))
        return Design(np.stack(columns, axis=1), slopes, self.grouped)

    def scales(self, spreads: Spreads) -> "np.ndarray":
        """The standard deviation (C + S,) of each effect in units of the noise's; 1 for the overall one."""
        import numpy as np

        task, local, slope = spreads
        clusters = sum(len(centres) for centres in self.centres)
        each = local / max(len(self.centres), 1)
        slopes = len(self.slopes.axes) if self.slopes else 0
        variances = [[1.0], [task] * len(self.tasks), [each] * clusters, [slope] * slopes]
        return np.sqrt(np.concatenate(variances))


def _names(tasks: Sequence[str]) -> tuple[str, ...]:
    """The tasks that have effects of their own: none where there is only one."""
    names = sorted(set(tasks))
    return tuple(names) if len(names) > 1 else ()


def _partitions(vectors: "np.ndarray", seed: int) -> "list[np.ndarray]":
    """Centres (k, D) of each partition."""
    import numpy as np

    distinct = len(np.unique(vectors, axis=0))
    return [
        kmeans(vectors, grain, seed + 1000 * draw + grain).cluster_centers_
        for grain in GRAINS
        if grain * PROBES_PER_CLUSTER <= len(vectors) and grain <= distinct
        for draw in range(PARTITIONS)
    ]
