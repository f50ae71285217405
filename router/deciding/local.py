"""How teachers differ near a prompt: a random-effects model over clusters of several grains.

What a teacher scores on a prompt beyond the mean of all teachers there is taken as its overall advantage,
plus an effect of the prompt's task, plus one of each cluster that the prompt lies in, plus noise. The
clusters are k-means partitions from coarse to fine, each drawn several times, so that a prompt's
neighbourhood is what it shares clusters with. Where that serves left-out probes better, a slope along each
principal axis of the embeddings is added, for what rises from one end of the topics to the other.
Effects are normal around 0: each is shrunk by how little was seen of it (best linear unbiased prediction:
Henderson 1975, Biometrics 31; the posterior of Bayesian linear regression: Rasmussen and Williams 2006,
section 2.1). How far effects spread against the noise is what predicts left-out probes best, in closed form
(Allen 1974, Technometrics 16).
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from router.deciding.levels import Design, Levels, Spreads
from router.deciding.strength import Gain, paired_gain, z_of

if TYPE_CHECKING:
    import numpy as np

# Variance of all effects of a level together, over the variance of the noise.
TASK_SPREADS = (0.0, 0.03, 0.1, 0.3, 1.0)
LOCAL_SPREADS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.6, 2.0)
SLOPE_SPREADS = (0.05, 0.2, 0.6, 2.0)
LEAST_LOCAL_SPREAD = 0.02  # of clusters beside slopes, in intervals
ONE_STANDARD_ERROR = 0.68  # as confidence
FIRST_TASK_SPREAD = 0.1  # while that of clusters is sought
CHUNK = 4_096  # prompts whose effects' covariances are in memory together
OVERALL_PRECISION = 1e-6  # of a teacher's overall advantage: as good as not shrunk


@dataclass(frozen=True, slots=True)
class Posterior:
    """Effects of the teachers that were probed on the same prompts, and how sure they are."""

    scales: "np.ndarray"  # (C + S,)
    inverse: "np.ndarray"  # (C + S, C + S), of the scaled effects' precision

    def leverage(self, design: Design) -> "np.ndarray":
        """The variance (N,) of predictions, in units of the noise's."""
        import numpy as np

        found = np.empty(len(design.members))
        grouped = design.grouped
        for start in range(0, len(found), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(found)))
            part = design.only(rows)
            scaled = self.scales[part.members] * (part.members >= 0)  # (n, M)
            blocks = self.inverse[part.members[:, :, None], part.members[:, None, :]]
            found[rows] = np.einsum("npq,np,nq->n", blocks, scaled, scaled)
            if part.slopes.shape[1]:
                slopes = part.slopes * self.scales[grouped:]
                groups = part.indicators() * self.scales[:grouped]
                cross = groups @ self.inverse[:grouped, grouped:]
                own = slopes @ self.inverse[grouped:, grouped:]
                found[rows] += ((2 * cross + own) * slopes).sum(axis=1)
        return found


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A fitted model of `T` teachers."""

    levels: Levels
    effects: "np.ndarray"  # (C + S, T)
    posteriors: tuple[Posterior, ...]
    posterior_of: tuple[int, ...]  # per teacher
    noise: "np.ndarray"  # (T, T): variance of the noise in the difference of two teachers, of two alike
    spreads: Spreads
    probes: int

    def predict(self, vectors: "np.ndarray", tasks: Sequence[str]) -> "np.ndarray":
        """The advantage (N, T) of each teacher over the mean of all, in points of score."""
        import numpy as np

        found = np.empty((len(vectors), self.effects.shape[1]))
        for start in range(0, len(vectors), CHUNK):
            part = slice(start, start + CHUNK)
            found[part] = self.levels.design(vectors[part], tasks[part]).sums(self.effects)
        return found

    def draw(
        self, vectors: "np.ndarray", tasks: Sequence[str], draws: int, rng: "np.random.Generator"
    ) -> "np.ndarray":
        """Advantages (R, N, T) drawn from what they may be by the probes so far."""
        import numpy as np

        design = self.levels.design(vectors, tasks)
        by_posterior = [posterior.leverage(design) for posterior in self.posteriors]
        leverage = np.stack([by_posterior[i] for i in self.posterior_of], axis=1)
        spread = np.sqrt(leverage * self.noise.diagonal() / 2)  # (N, T)
        mean = design.sums(self.effects)
        found: np.ndarray = mean + spread * rng.standard_normal((draws, *mean.shape))
        return found

    def gains(
        self, vectors: "np.ndarray", task: str, ours: int, theirs: int, confidence: float
    ) -> list[Gain]:
        """By how much a teacher should exceed another on each of a task's prompts (N, D); `n` probes say so."""
        import numpy as np

        design = self.levels.design(vectors, [task] * len(vectors))
        difference = (self.effects[:, ours] - self.effects[:, theirs])[:, None]
        leverage = np.zeros(len(vectors))
        for one in (ours, theirs):
            leverage += self.posteriors[self.posterior_of[one]].leverage(design)
        half = z_of(confidence) * np.sqrt(self.noise[ours, theirs] * leverage / 2)
        return [
            Gain(mean, mean - width, mean + width, self.probes)
            for mean, width in zip(
                design.sums(difference)[:, 0].tolist(), half.tolist(), strict=True
            )
        ]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a model predicts of each probe from the others, and what its effects are good for there.

    `spared` is the mean squared error that all effects but the overall one spare, with its standard error.
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
    advantages = scores - _difficulty(scores)[:, None]
    levels = Levels.of(vectors, tasks, seed)
    flat = _Candidates(levels, levels.design(vectors, tasks), advantages)
    nothing = flat.left_out((0.0, 0.0, 0.0)).error
    first = FIRST_TASK_SPREAD if levels.tasks else 0.0
    _, local, _ = flat.best_of(
        (first, each, 0.0) for each in (LOCAL_SPREADS if levels.centres else (0.0,))
    )
    task, local, _ = flat.best_of(
        (each, local, 0.0) for each in (TASK_SPREADS if levels.tasks else (0.0,))
    )
    spreads = (task, local, 0.0)
    if levels.centres:
        levels = levels.with_slopes(vectors, seed)
        steep = _Candidates(levels, levels.design(vectors, tasks), advantages)
        sloped = steep.best_of(
            (task, each, slope) for each in {local, 0.0} for slope in SLOPE_SPREADS
        )
        if _is_better(steep.left_out(sloped), flat.left_out(spreads), scores):
            cautious = (task, local or LEAST_LOCAL_SPREAD, sloped[2])
            return steep.fitted(sloped, cautious, nothing)
    return flat.fitted(spreads, spreads, nothing)


def _is_better(ours: "_Tried", theirs: "_Tried", scores: "np.ndarray") -> bool:
    """Whether predictions err less, and the teachers that they put highest, of those that were asked, score
    higher by more than a standard error."""
    import numpy as np

    if ours.error.mean() >= theirs.error.mean():
        return False
    rows = np.arange(len(scores))
    mine, other = (
        scores[rows, np.nan_to_num(each.predicted, nan=-np.inf).argmax(axis=1)]
        for each in (ours, theirs)
    )
    return paired_gain(mine.tolist(), other.tolist(), ONE_STANDARD_ERROR).lo > 0


@dataclass(frozen=True, slots=True)
class _Tried:
    """What the other probes of a teacher predict of each of its own (N, T), NaN where it was not asked, and
    the mean squared error of that (N,)."""

    predicted: "np.ndarray"
    error: "np.ndarray"


class _Candidates:
    """Models of the same effects, which differ in how far these spread."""

    def __init__(self, levels: Levels, design: Design, advantages: "np.ndarray") -> None:
        import numpy as np

        self.levels, self.design, self.known = levels, design, advantages
        self.asked = ~np.isnan(advantages)  # (N, T)
        self.values = np.where(self.asked, advantages, 0.0)
        patterns, self.posterior_of = np.unique(self.asked.T, axis=0, return_inverse=True)
        self.groups = [_Group(design.only(rows), rows) for rows in patterns]
        self.tried: dict[Spreads, _Tried] = {}

    def best_of(self, spreads: Iterable[Spreads]) -> Spreads:
        """Those that predict left-out probes best, of these and all that were tried before."""
        for each in spreads:
            self.left_out(each)
        return min(self.tried, key=lambda each: float(self.tried[each].error.mean()))

    def left_out(self, spreads: Spreads) -> _Tried:
        """What a model of these predicts of left-out probes."""
        import numpy as np

        if spreads not in self.tried:
            scales = self.levels.scales(spreads)
            predicted = np.full(self.known.shape, np.nan)
            for i, group in enumerate(self.groups):
                cells = self._cells(i)
                predicted[cells] = group.left_out(scales, self.values[cells])
            error = np.nanmean((predicted - self.known) ** 2, axis=1)
            self.tried[spreads] = _Tried(predicted, error)
        return self.tried[spreads]

    def fitted(
        self, spreads: Spreads, cautious: Spreads, nothing: "np.ndarray"
    ) -> tuple[LocalModel, LeftOut]:
        """The model of these. Intervals are those of `cautious` ones: a straight line that leaves out clusters
        is surer of itself than it is right. `nothing` is the error (N,) of a model without effects but the
        overall ones."""
        import numpy as np

        scales = self.levels.scales(spreads)
        posteriors, effects = [], np.zeros((len(scales), self.known.shape[1]))
        for i, group in enumerate(self.groups):
            posterior = group.posterior(scales)
            values = self.values[self._cells(i)]
            effects[:, self.posterior_of == i] = group.effects(posterior, values)
            if cautious != spreads:
                posterior = group.posterior(self.levels.scales(cautious))
            posteriors.append(posterior)
        tried = self.left_out(spreads)
        model = LocalModel(
            self.levels,
            effects,
            tuple(posteriors),
            tuple(int(i) for i in self.posterior_of),
            _noise(self.known - tried.predicted),
            spreads,
            len(self.known),
        )
        predicted = np.where(self.asked, tried.predicted, self.design.sums(effects))
        spared = nothing - tried.error  # (N,)
        standard_error = float(spared.std() / len(spared) ** 0.5)
        return model, LeftOut(predicted, float(spared.mean()), standard_error)

    def _cells(self, group: int) -> "tuple[np.ndarray, ...]":
        """The probes of a group and its teachers, as an index."""
        import numpy as np

        return np.ix_(self.groups[group].rows, np.flatnonzero(self.posterior_of == group))


class _Group:
    """Teachers that were probed on the same prompts: their normal equations are the same."""

    def __init__(self, design: Design, rows: "np.ndarray") -> None:
        self.design, self.rows = design, rows

    @cached_property
    def gram(self) -> "np.ndarray":
        """The products of effects' columns: few probes are left out without it."""
        return self.design.gram()

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
            residuals = values - self.design.sums(self.effects(posterior, values))
            own = 1 - posterior.leverage(self.design)
        else:
            variances = scales**2
            variances[0] /= OVERALL_PRECISION
            covariance = self.design.covariance(variances)
            diagonal = np.arange(len(values))
            covariance[diagonal, diagonal] += 1.0
            precision = inv(covariance, assume_a="pos")
            residuals, own = precision @ values, precision.diagonal()
        found: np.ndarray = values - residuals / np.maximum(own, 1e-6)[:, None]
        return found

    def effects(self, posterior: Posterior, values: "np.ndarray") -> "np.ndarray":
        """The effects (C + S, t) that values (n, t) of this group's prompts show."""
        scales = posterior.scales[:, None]
        found: np.ndarray = scales * (posterior.inverse @ (scales * self.design.weighted(values)))
        return found


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


def _difficulty(scores: "np.ndarray") -> "np.ndarray":
    """What a prompt (N,) scores over and above its teachers, so that those of hard prompts compare.

    Least squares for prompt plus teacher, by the normal equations of teachers: the prompt's mean where all were
    asked. Teachers that nothing connects, no shared prompt and no third teacher, count as equal on average.
    """
    import numpy as np

    asked = ~np.isnan(scores)
    share = asked / asked.sum(axis=1, keepdims=True)  # of a prompt's mean
    beyond = np.nan_to_num(scores - np.nanmean(scores, axis=1, keepdims=True)).sum(axis=0)
    equations = np.diag(asked.sum(axis=0)) - share.T @ asked
    teachers = np.linalg.lstsq(equations, beyond, rcond=1e-9)[0]
    found: np.ndarray = np.nanmean(scores - teachers, axis=1)
    return found
