"""Decides which teacher answers which task.

`strongest` is guarded: a task leaves the best single teacher (the one of highest mean over all
tasks, each task counting the same) only for a teacher whose paired gain there has a lower bound
above 0. Where that fails, not to route is the better bet. The interval is that of one comparison:
it does not correct for having picked the highest of several teachers. `cost` does the same with utilities:
strength less alpha times the USD of 1,000 answers there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from ledger.errors import InputError
from router.deciding.classifier import UNSURE
from router.deciding.config import RouteConfig
from router.deciding.routes import Route
from router.deciding.sentences import (
    fixed,
    learnable,
    only_teacher,
    priced,
    strongest,
    undecided,
    unsure,
    within_noise,
)
from router.deciding.strata import Strata
from router.deciding.strength import (
    Gain,
    Strength,
    paired_gain,
    stratified_gain,
    stratified_strength,
    strength,
)

if TYPE_CHECKING:
    import numpy as np

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
Usd = Mapping[str, Mapping[str, float]]  # task -> teacher -> USD per 1,000 answers


class UnroutableTask(InputError):
    """No teacher can be named for a task."""


HALF_KNOWN = 30  # probes with which a task has half its weight in the best single teacher's mean


@dataclass(frozen=True, slots=True)
class Evidence:
    """What probes say: `scores[task][teacher][prompt key]`, and the strengths that follow."""

    config: RouteConfig
    teachers: Sequence[str]
    scores: Scores
    strengths: Mapping[str, Mapping[str, Strength]]  # task -> teacher, in the recipe's order
    usd: Usd
    strata: Strata

    def overall(self, teacher: str) -> tuple[int, float]:
        """Tasks on which a teacher was probed, and its mean utility over them: each counts by how well it is
        known, so that three probes do not outvote a hundred.
        """
        tasks = [task for task, at in self.strengths.items() if teacher in at]
        if not tasks:
            return 0, 0.0
        probes = [max(map(len, self.scores[task].values())) for task in tasks]
        weights = [count / (count + HALF_KNOWN) for count in probes]
        return len(tasks), fmean([self.utility(task, teacher) for task in tasks], weights)

    def utility(self, task: str, teacher: str) -> float:
        """What a teacher is worth at a task: its strength, less its price under `cost`."""
        return self.strengths[task][teacher].mean - self.price(task, teacher)

    def price(self, task: str, teacher: str) -> float:
        """What a teacher's price weighs, in points of strength: 0 but under `cost`."""
        if self.config.alpha is None:
            return 0.0
        return self.config.alpha * self.usd[task][teacher]

    def gain(self, task: str, ours: str, theirs: str) -> Gain | None:
        """The paired gain over the probes that both answered; None if there is none."""
        mine, other = self.scores[task][ours], self.scores[task][theirs]
        shared = sorted(mine.keys() & other.keys())
        if not shared:
            return None
        mine, other = ({key: at[key] for key in shared} for at in (mine, other))
        confidence = self.config.confidence
        if len(shared) < len(self.strata.get(task, ())):
            gain = stratified_gain(mine, other, self.strata[task], confidence)
        else:
            gain = paired_gain(list(mine.values()), list(other.values()), confidence)
        dearer = self.price(task, ours) - self.price(task, theirs)
        return Gain(gain.mean - dearer, gain.lo - dearer, gain.hi - dearer, gain.n)


def utilities(
    config: RouteConfig,
    tasks: Sequence[str],
    teachers: Sequence[str],
    scores: "np.ndarray",
    usd: Usd | None,
) -> "np.ndarray":
    """What scores (N, T) on prompts of these tasks are worth: less the teachers' prices, under `cost`."""
    import numpy as np

    if config.alpha is None or usd is None:
        return scores
    prices = np.array([[usd[task].get(teacher, 0.0) for teacher in teachers] for task in tasks])
    found: np.ndarray = scores - config.alpha * prices
    return found


def decide(
    config: RouteConfig,
    tasks: Sequence[str],
    teachers: Sequence[str],
    scores: Scores,
    usd: Usd | None = None,
    strata: Strata | None = None,
) -> list[Route]:
    """One route for each of `tasks` and one for `unsure`, last. `usd` is needed under `cost`, `strata` (see
    `strata_of`) where who was asked what followed from scores.

    `scores[task][teacher][prompt key]` are probe scores in [0, 1], under `objective: learnable` what they are
    worth to the student; teachers are paired by prompt.
    Equal teachers are told apart by the order of `teachers`, the best single one before all. Raises
    UnroutableTask if the recipe names an unknown task or teacher, or `strongest` has no score at
    all.
    """
    _check_names(config, tasks, teachers)
    strengths = strengths_of(scores, tasks, teachers, config.confidence, strata)
    evidence = Evidence(config, teachers, scores, strengths, usd or {}, strata or {})
    best_single = _best_single(evidence)
    named = [task for task in tasks if task != UNSURE]
    return [_route(evidence, task, best_single) for task in [*named, UNSURE]]


def strengths_of(
    scores: Scores,
    tasks: Sequence[str],
    teachers: Sequence[str],
    confidence: float,
    strata: Strata | None = None,
) -> dict[str, dict[str, Strength]]:
    """task -> teacher -> strength, where there are scores; over the task's strata if these are given."""

    def one(task: str, values: Mapping[str, float]) -> Strength:
        if strata and len(values) < len(strata.get(task, ())):
            return stratified_strength(values, strata[task], confidence)
        return strength(list(values.values()), confidence)

    return {
        task: {
            teacher: one(task, scores[task][teacher])
            for teacher in teachers
            if scores.get(task, {}).get(teacher)
        }
        for task in tasks
    }


def _check_names(config: RouteConfig, tasks: Sequence[str], teachers: Sequence[str]) -> None:
    for task, teacher in config.to.items():
        if task not in tasks and task != UNSURE:
            raise UnroutableTask(
                f"route.to names the task {task!r}, but the tasks are {', '.join(tasks)}."
            )
        if teacher not in teachers:
            raise UnroutableTask(
                f"route.to sends {task!r} to {teacher!r}, but the teachers are "
                f"{', '.join(teachers)}."
            )


def _best_single(evidence: Evidence) -> str:
    """Most tasks probed first, then the mean over them, then the recipe's order."""
    teachers = evidence.teachers
    if not any(evidence.strengths.values()):
        if len(teachers) == 1:
            return teachers[0]
        if evidence.config.policy != "fixed":
            raise UnroutableTask(
                f"no probe of any teacher was scored, so `policy: {evidence.config.policy}` has "
                "nothing to go by: "
                "see why the probes failed, or use `policy: fixed` with `to:`."
            )
        chosen = list(evidence.config.to.values())
        return max(teachers, key=lambda teacher: (chosen.count(teacher), -teachers.index(teacher)))
    return max(teachers, key=lambda teacher: (*evidence.overall(teacher), -teachers.index(teacher)))


def _route(evidence: Evidence, task: str, best_single: str) -> Route:
    at_task = evidence.strengths.get(task, {})
    if task in evidence.config.to:
        return _fixed(evidence, task, best_single)
    if len(evidence.teachers) == 1:
        return _plain(evidence, task, best_single, only_teacher(best_single, at_task))
    if task == UNSURE:
        second = _second(evidence, best_single)
        reason = unsure(best_single, *evidence.overall(best_single))
        return _compared(evidence, task, best_single, second, None, reason, best_single)
    if not at_task or evidence.config.policy == "fixed":
        overall = evidence.overall(best_single)
        reason = undecided(task, best_single, evidence.config.policy, *overall)
        return _plain(evidence, task, best_single, reason)
    return _strongest(evidence, task, best_single)


def _second(evidence: Evidence, first: str) -> str:
    """The best teacher over all tasks besides `first`."""
    others = [name for name in evidence.teachers if name != first]
    return max(others, key=lambda name: (*evidence.overall(name), -evidence.teachers.index(name)))


def _plain(evidence: Evidence, task: str, teacher: str, reason: str) -> Route:
    return _compared(evidence, task, teacher, None, None, reason, teacher)


def _fixed(evidence: Evidence, task: str, best_single: str) -> Route:
    teacher = evidence.config.to[task]
    at_task = evidence.strengths.get(task, {})
    others = _ranked(evidence, task, best_single, without=teacher)
    runner_up = others[0] if others and teacher in at_task else None
    if task == UNSURE and len(evidence.teachers) > 1:
        runner_up = _second(evidence, teacher)
    gain = evidence.gain(task, teacher, runner_up) if runner_up and task != UNSURE else None
    reason = fixed(task, teacher, at_task.get(teacher), runner_up, gain, evidence.config.confidence)
    return _compared(evidence, task, teacher, runner_up, gain, reason, best_single)


def _strongest(evidence: Evidence, task: str, best_single: str) -> Route:
    confidence = evidence.config.confidence
    at_task = evidence.strengths[task]
    ranked = _ranked(evidence, task, best_single)
    top = _better_known(evidence, task, ranked, best_single)
    others = [name for name in ranked if name != top]
    over_best = evidence.gain(task, top, best_single) if best_single in at_task else None
    leaves = top != best_single
    if leaves and evidence.config.guard and not (over_best and over_best.lo > 0):
        reason = within_noise(task, best_single, top, over_best, confidence)
        back = evidence.gain(task, best_single, top) if over_best else None
        return _compared(evidence, task, best_single, top, back, reason, best_single, guarded=True)
    runner_up = others[0] if others else None
    gain = evidence.gain(task, top, runner_up) if runner_up else None
    reason = strongest(top, at_task[top], runner_up, gain, confidence, top == best_single)
    return _compared(
        evidence, task, top, runner_up, gain, reason, best_single, over_best if leaves else None
    )


def _better_known(evidence: Evidence, task: str, ranked: Sequence[str], best_single: str) -> str:
    """The highest of `ranked` that the guard lets through, if those above it share fewer probes with the best
    single teacher: what is not known of them says nothing of this one. Else the highest."""
    if not evidence.config.guard or best_single not in ranked:
        return ranked[0]
    known = 0
    for name in ranked[: ranked.index(best_single)]:
        gain = evidence.gain(task, name, best_single)
        if gain and gain.n > known:
            if gain.lo > 0:
                return name
            known = gain.n
    return ranked[0]


def _ranked(
    evidence: Evidence, task: str, best_single: str, without: str | None = None
) -> list[str]:
    """Worthiest first. The sort is stable, so equal ones keep the recipe's order."""
    names = [name for name in evidence.strengths.get(task, {}) if name != without]
    return sorted(names, key=lambda name: (-evidence.utility(task, name), name != best_single))


def _ranking(evidence: Evidence, task: str, best_single: str) -> tuple[str, ...]:
    """All teachers: those that were probed at the task, worthiest first, then the others by all tasks."""
    at_task = _ranked(evidence, task, best_single)
    others = sorted(
        (name for name in evidence.teachers if name not in at_task),
        key=lambda name: [-value for value in evidence.overall(name)],
    )
    return (*at_task, *others)


def _compared(
    evidence: Evidence,
    task: str,
    teacher: str,
    runner_up: str | None,
    gain: Gain | None,
    reason: str,
    best_single: str,
    over_best_single: Gain | None = None,
    guarded: bool = False,
) -> Route:
    return Route(
        task=task,
        teacher=teacher,
        runner_up=runner_up,
        margin=gain.mean if gain else None,
        margin_lo=gain.lo if gain else None,
        margin_hi=gain.hi if gain else None,
        reason=reason + _weighed(evidence) + _priced(evidence, task, teacher, runner_up),
        policy=evidence.config.policy,
        guarded=guarded,
        best_single=best_single,
        ranking=_ranking(evidence, task, best_single),
        over_best_single=over_best_single,
        strengths=dict(evidence.strengths.get(task, {})),
    )


def _weighed(evidence: Evidence) -> str:
    """Says where figures are not plain scores."""
    return learnable() if evidence.config.objective == "learnable" and evidence.scores else ""


def _priced(evidence: Evidence, task: str, teacher: str, runner_up: str | None) -> str:
    """What price had to do with it, under `cost`."""
    usd = evidence.usd.get(task, {})
    if evidence.config.alpha is None or not {teacher, runner_up} <= usd.keys():
        return ""
    assert runner_up is not None
    return priced(usd[teacher], runner_up, usd[runner_up], evidence.config.alpha)
