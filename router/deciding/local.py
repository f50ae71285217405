"""How teachers differ near a prompt: a random-effects model over clusters of several grains.

What a teacher scores on a prompt beyond the mean of all teachers there is taken as its overall advantage,
plus an effect of the prompt's task, plus one of each cluster that the prompt lies in, plus noise. The
clusters are k-means partitions from coarse to fine, each drawn several times, so that a prompt's
neighbourhood is what it shares clusters with. Effects are normal around 0: each is shrunk by how little was
seen of it (best linear unbiased prediction: Henderson 1975, Biometrics 31; the posterior of Bayesian linear
regression: Rasmussen and Williams 2006, section 2.1). How far effects spread against the noise is what
predicts left-out probes best, in closed form (Allen 1974, Technometrics 16).
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.deciding.clusters import kmeans
from router.deciding.strength import Gain, z_of

if TYPE_CHECKING:
    import numpy as np

GRAINS = (8, 16, 32, 64, 128)  # clusters of a partition
PARTITIONS = 6  # of each grain
PROBES_PER_CLUSTER = 16  # no finer than this on average
FEWEST = GRAINS[0] * PROBES_PER_CLUSTER  # probes that make a partition
# Variance of all effects of a level together, over the variance of the noise.
TASK_SPREADS = (0.0, 0.03, 0.1, 0.3, 1.0)
LOCAL_SPREADS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.6, 2.0)
FIRST_TASK_SPREAD = 0.1  # while that of clusters is sought
CHUNK = 4_096  # prompts whose effects' covariances are in memory together
OVERALL_PRECISION = 1e-6  # of a teacher's overall advantage: as good as not shrunk


@dataclass(frozen=True, slots=True)
class Levels:
    """Which effects belong to a prompt: the overall one, its task's, and its cluster's in each partition."""

    tasks: tuple[str, ...]
    centres: "tuple[np.ndarray, ...]"  # per partition (k, D)

    @property
    def count(self) -> int:
        """Effects a teacher, C."""
        return 1 + len(self.tasks) + sum(len(centres) for centres in self.centres)

    def members(self, vectors: "np.ndarray", tasks: Sequence[str]) -> "np.ndarray":
        """The effects (N, 2 + P) of prompts (N, D), by number; an unknown task's is -1."""
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
        return np.stack(columns, axis=1)

    def scales(self, task_spread: float, local_spread: float) -> "np.ndarray":
        """The standard deviation (C,) of each effect in units of the noise's; 1 for the overall one."""
        import numpy as np

        clusters = self.count - 1 - len(self.tasks)
        each = local_spread / max(len(self.centres), 1)
        return np.sqrt(
            np.concatenate([[1.0], np.full(len(self.tasks), task_spread), np.full(clusters, each)])
        )


@dataclass(frozen=True, slots=True)
class Posterior:
    """Effects of the teachers that were probed on the same prompts, and how sure they are."""

    scales: "np.ndarray"  # (C,)
    inverse: "np.ndarray"  # (C, C), of the scaled effects' precision

    def leverage(self, members: "np.ndarray") -> "np.ndarray":
        """The variance (N,) of predictions, in units of the noise's."""
        import numpy as np

        found = np.empty(len(members))
        for start in range(0, len(members), CHUNK):
            part = members[start : start + CHUNK]
            scaled = self.scales[part] * (part >= 0)  # (n, 2 + P)
            blocks = self.inverse[part[:, :, None], part[:, None, :]]
            found[start : start + CHUNK] = np.einsum("npq,np,nq->n", blocks, scaled, scaled)
        return found


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A fitted model of `T` teachers."""

    levels: Levels
    effects: "np.ndarray"  # (C, T)
    posteriors: tuple[Posterior, ...]
    posterior_of: tuple[int, ...]  # per teacher
    noise: "np.ndarray"  # (T, T): variance of the noise in the difference of two teachers, of two alike
    spreads: tuple[float, float]  # task, local
    probes: int

    def predict(self, vectors: "np.ndarray", tasks: Sequence[str]) -> "np.ndarray":
        """The advantage (N, T) of each teacher over the mean of all, in points of score."""
        import numpy as np

        found = np.empty((len(vectors), self.effects.shape[1]))
        for start in range(0, len(vectors), CHUNK):
            part = slice(start, start + CHUNK)
            found[part] = _sums(self.effects, self.levels.members(vectors[part], tasks[part]))
        return found

    def draw(
        self, vectors: "np.ndarray", tasks: Sequence[str], draws: int, rng: "np.random.Generator"
    ) -> "np.ndarray":
        """Advantages (R, N, T) drawn from what they may be by the probes so far."""
        import numpy as np

        members = self.levels.members(vectors, tasks)
        leverage = np.stack(
            [self.posteriors[i].leverage(members) for i in self.posterior_of], axis=1
        )
        spread = np.sqrt(leverage * self.noise.diagonal() / 2)  # (N, T)
        mean = _sums(self.effects, members)
        found: np.ndarray = mean + spread * rng.standard_normal((draws, *mean.shape))
        return found

    def gains(
        self, vectors: "np.ndarray", task: str, ours: int, theirs: int, confidence: float
    ) -> list[Gain]:
        """By how much a teacher should exceed another on each of a task's prompts (N, D); `n` probes say so."""
        import numpy as np

        members = self.levels.members(vectors, [task] * len(vectors))
        difference = (self.effects[:, ours] - self.effects[:, theirs])[:, None]
        leverage = np.zeros(len(vectors))
        for one in (ours, theirs):
            leverage += self.posteriors[self.posterior_of[one]].leverage(members)
        half = z_of(confidence) * np.sqrt(self.noise[ours, theirs] * leverage / 2)
        return [
            Gain(mean, mean - width, mean + width, self.probes)
            for mean, width in zip(
                _sums(difference, members)[:, 0].tolist(), half.tolist(), strict=True
            )
        ]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a model predicts of each probe from the others, and what its effects are good for there.

    `spared` is the mean squared error that effects of tasks and clusters spare, with its standard error.
    """

    predicted: "np.ndarray"  # (N, T), of the advantage over the mean of all
    spared: float
    standard_error: float


def fit_local(
    vectors: "np.ndarray", tasks: Sequence[str], scores: "np.ndarray", seed: int
) -> "tuple[LocalModel, LeftOut]":
    """The model of probes, and what it predicts of each from the others.

    Probes are unit vectors (N, D), the task of each, and scores (N, T), NaN for what was not asked;
    every teacher needs a probe, every prompt a teacher.
    """
    import numpy as np

    levels = Levels(_names(tasks), tuple(_partitions(vectors, seed)))
    members = levels.members(vectors, tasks)
    asked = ~np.isnan(scores)  # (N, T)
    advantages = np.where(asked, scores - _difficulty(scores)[:, None], 0.0)
    patterns, posterior_of = np.unique(asked.T, axis=0, return_inverse=True)
    groups = [_Group(members[rows], levels.count, rows) for rows in patterns]
    known = np.where(asked, advantages, np.nan)
    left_out: dict[tuple[float, float], np.ndarray] = {}
    errors: dict[tuple[float, float], np.ndarray] = {}

    def best_of(tried: Iterable[tuple[float, float]]) -> tuple[float, float]:
        for spreads in tried:
            if spreads not in errors:
                left_out[spreads] = _left_out(
                    groups, posterior_of, levels.scales(*spreads), advantages
                )
                errors[spreads] = np.nanmean((left_out[spreads] - known) ** 2, axis=1)
        return min(errors, key=lambda each: float(errors[each].mean()))

    first = FIRST_TASK_SPREAD if levels.tasks else 0.0
    _, local = best_of(
        [(0.0, 0.0), *((first, s) for s in (LOCAL_SPREADS if levels.centres else (0.0,)))]
    )
    spreads = best_of((task, local) for task in (TASK_SPREADS if levels.tasks else (0.0,)))
    spared = errors[0.0, 0.0] - errors[spreads]  # (N,)
    effects, posteriors = _solved(groups, posterior_of, levels.scales(*spreads), advantages)
    model = LocalModel(
        levels,
        effects,
        posteriors,
        tuple(int(i) for i in posterior_of),
        _noise(known - left_out[spreads]),
        spreads,
        len(members),
    )
    predicted = np.where(asked, left_out[spreads], _sums(effects, members))
    return model, LeftOut(predicted, float(spared.mean()), float(spared.std() / len(spared) ** 0.5))


class _Group:
    """Teachers that were probed on the same prompts: their normal equations are the same."""

    def __init__(self, members: "np.ndarray", count: int, rows: "np.ndarray") -> None:
        import numpy as np
        from scipy.sparse import csr_array

        self.members, self.rows = members, rows
        known = members >= 0
        at = np.repeat(np.arange(len(members)), known.sum(axis=1))
        self.design = csr_array(
            (np.ones(len(at)), (at, members[known])), shape=(len(members), count)
        )
        self.gram = (self.design.T @ self.design).toarray()

    def posterior(self, scales: "np.ndarray") -> Posterior:
        import numpy as np
        from scipy.linalg import inv

        precision = self.gram * np.outer(scales, scales)
        diagonal = np.arange(len(scales))
        precision[diagonal, diagonal] += 1.0
        precision[0, 0] += OVERALL_PRECISION - 1.0
        return Posterior(scales, inv(precision, assume_a="pos"))

    def left_out(self, scales: "np.ndarray", values: "np.ndarray") -> "np.ndarray":
        """What the other values predict of each (n, t).

        By the covariance of values where it is smaller than that of effects: both say the same (Rasmussen
        and Williams 2006, section 5.4.2).
        """
        import numpy as np
        from scipy.linalg import inv

        if len(values) >= len(scales):
            posterior = self.posterior(scales)
            residuals = values - self.design @ self.effects(posterior, values)
            own = 1 - posterior.leverage(self.members)
        else:
            variances = scales**2
            variances[0] /= OVERALL_PRECISION
            covariance = ((self.design * variances) @ self.design.T).toarray()
            diagonal = np.arange(len(values))
            covariance[diagonal, diagonal] += 1.0
            precision = inv(covariance, assume_a="pos")
            residuals, own = precision @ values, precision.diagonal()
        found: np.ndarray = values - residuals / np.maximum(own, 1e-6)[:, None]
        return found

    def effects(self, posterior: Posterior, values: "np.ndarray") -> "np.ndarray":
        """The effects (C, t) that values (n, t) of this group's prompts show."""
        scales = posterior.scales[:, None]
        found: np.ndarray = scales * (posterior.inverse @ (scales * (self.design.T @ values)))
        return found


def _left_out(
    groups: Sequence[_Group],
    posterior_of: "np.ndarray",
    scales: "np.ndarray",
    advantages: "np.ndarray",
) -> "np.ndarray":
    """What the other probes of a teacher predict of each of its own (N, T), NaN where it was not asked."""
    import numpy as np

    found = np.full(advantages.shape, np.nan)
    for i, group in enumerate(groups):
        cells = np.ix_(group.rows, np.flatnonzero(posterior_of == i))
        found[cells] = group.left_out(scales, advantages[cells])
    return found


def _solved(
    groups: Sequence[_Group],
    posterior_of: "np.ndarray",
    scales: "np.ndarray",
    advantages: "np.ndarray",
) -> "tuple[np.ndarray, tuple[Posterior, ...]]":
    """The effects (C, T), and each group's posterior."""
    import numpy as np

    effects = np.zeros((len(scales), advantages.shape[1]))
    posteriors = tuple(group.posterior(scales) for group in groups)
    for i, (group, posterior) in enumerate(zip(groups, posteriors, strict=True)):
        teachers = np.flatnonzero(posterior_of == i)
        effects[:, teachers] = group.effects(posterior, advantages[np.ix_(group.rows, teachers)])
    return effects, posteriors


def _noise(errors: "np.ndarray") -> "np.ndarray":
    """The variance (T, T) of the difference of two teachers' errors (N, T), where both were probed.

    Two teachers that share no prompt get the sum of their own.
    """
    import numpy as np

    own = np.nanmean(errors**2, axis=0)
    noise = own[:, None] + own[None, :]
    for one, two in itertools.combinations(range(errors.shape[1]), 2):
        both = ~np.isnan(errors[:, one] + errors[:, two])
        if both.any():
            noise[one, two] = noise[two, one] = np.mean(
                (errors[both, one] - errors[both, two]) ** 2
            )
    return noise


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


def _difficulty(scores: "np.ndarray") -> "np.ndarray":
    """What a prompt (N,) scores over and above its teachers, so that those of hard prompts compare.

    Least squares for prompt plus teacher, which is the prompt's mean where all were asked.
    """
    import numpy as np

    asked = ~np.isnan(scores)
    if asked.all():
        mean: np.ndarray = scores.mean(axis=1)
        return mean
    teachers = np.nanmean(scores, axis=0)
    teachers -= teachers.mean()
    for _ in range(50):
        prompts: np.ndarray = np.nanmean(scores - teachers, axis=1)
        moved = np.nanmean(scores - prompts[:, None], axis=0)
        moved -= moved.mean()
        if np.abs(moved - teachers).max() < 1e-9:
            break
        teachers = moved
    return prompts


def _sums(effects: "np.ndarray", members: "np.ndarray") -> "np.ndarray":
    """Each prompt's effects (N, T) added up."""
    import numpy as np

    total = np.zeros((len(members), effects.shape[1]))
    for column in members.T:
        total += effects[column] * (column >= 0)[:, None]
    return total
