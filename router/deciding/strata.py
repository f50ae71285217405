"""Strength where who was asked what followed from scores: means over strata of a task's probes.

Probes that are bought one by one go to the teachers that are in question near them, so what a teacher was
asked is mostly what suits it, and the plain mean of its scores there is too high. The strata are k-means
clusters of a task's probes. A teacher's scores are averaged in each, and each mean weighs as much as there
are probes in the stratum, asked or not: post-stratification (Holt and Smith 1979, "Post stratification",
J. R. Stat. Soc. A 142), with the variance of Cochran (1977, "Sampling Techniques", 5A.9).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
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


@dataclass(frozen=True, slots=True)
class Grouped:
    """Values by stratum, the share of all probes that each stratum holds, and how many probes there are.

    A stratum without any value has a share too; it counts as the others do, as sure as one value is.
    """

    values: Mapping[int, Sequence[float]]
    shares: Mapping[int, float]
    probes: int

    @classmethod
    def of(cls, values: Mapping[str, float], stratum_of: Mapping[str, int]) -> "Grouped":
        """Values by probe key, of which there must be one; `stratum_of` names the stratum of every probe."""
        found: dict[int, list[float]] = defaultdict(list)
        for key, value in values.items():
            found[stratum_of[key]].append(value)
        probes = len(stratum_of)
        shares = {s: count / probes for s, count in Counter(stratum_of.values()).items()}
        return cls(dict(found), shares, probes)

    @property
    def mean(self) -> float:
        """The mean over all probes."""
        seen = sum(self.shares[s] for s in self.values)
        return sum(self.shares[s] * fmean(some) for s, some in self.values.items()) / seen

    def binary(self) -> tuple[float, float]:
        """The mean of values of 0 or 1, and its variance, by the rate in each stratum. So that no rate is 0
        or 1, each stratum gets a value more: the rate of all, half a right and half a wrong one added."""
        all_ = [value for some in self.values.values() for value in some]
        overall = (sum(all_) + 0.5) / (len(all_) + 1)
        rates = {
            s: (sum(some := self.values.get(s, ())) + overall) / (len(some) + 1)
            for s in self.shares
        }
        return self._varying(rates, {s: rate * (1 - rate) for s, rate in rates.items()})

    def graded(self, more: float) -> float:
        """The variance of the mean of any values: each stratum has its own, to which the others lend one value.
        `more` is added to all their squares, so that equal values do not look certain."""
        means = {s: fmean(some) for s, some in self.values.items()}
        count = sum(map(len, self.values.values()))
        squares = {
            s: sum((v - means[s]) ** 2 for v in some) + more * len(some) / count
            for s, some in self.values.items()
        }
        within = sum(squares.values()) / max(count - len(means), 1)
        centre = self.mean
        rates = {s: means.get(s, centre) for s in self.shares}
        between = sum(share * (rates[s] - centre) ** 2 for s, share in self.shares.items())
        lent = within + between
        spreads = {
            s: (squares.get(s, 0.0) + lent) / max(len(self.values.get(s, ())), 1)
            for s in self.shares
        }
        return self._varying(rates, spreads)[1]

    def _varying(
        self, rates: Mapping[int, float], spreads: Mapping[int, float]
    ) -> tuple[float, float]:
        """Their mean, and the variance of it, by the variance of one value in each stratum."""
        mean = sum(share * rates[s] for s, share in self.shares.items())
        variance = sum(share * (rates[s] - mean) ** 2 for s, share in self.shares.items())
        variance /= self.probes
        for stratum, share in self.shares.items():
            variance += share**2 * spreads[stratum] / max(len(self.values.get(stratum, ())), 1)
        return mean, variance
