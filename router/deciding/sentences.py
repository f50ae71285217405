"""The reasons of routes, as a person reads them. Figures come in; nothing is computed here."""

from collections.abc import Mapping

from router.deciding.strength import Gain, Strength


def strongest(
    teacher: str,
    strength: Strength,
    runner_up: str | None,
    gain: Gain | None,
    confidence: float,
    is_best_single: bool,
) -> str:
    """Why a task goes to the teacher that was strongest there."""
    lead = f"{teacher} {_standing(strength)}"
    if runner_up is None:
        return f"{lead}, and no other teacher was probed here"
    if gain is None:
        return f"{lead}; it shares no probe with {runner_up}, the next by its mean"
    if gain.lo > 0:
        return f"{lead}, {gain.mean:.2f} above {runner_up} {_interval(gain, confidence)}"
    also = "; it is the best single teacher too" if is_best_single else ""
    if gain.mean <= 0:
        return f"{lead}, no more than {runner_up} {_interval(gain, confidence)}{also}"
    return (
        f"{lead}, {gain.mean:.2f} above {runner_up}, which is within noise "
        f"{_interval(gain, confidence)}{also}"
    )


def within_noise(
    task: str, best_single: str, nearest: str, gain: Gain | None, confidence: float
) -> str:
    """Why the guard kept a task with the best single teacher."""
    if gain is None:
        evidence = f"it shares no probe with {nearest}"
    else:
        evidence = f"{nearest} gains {gain.mean:.2f}, {_bounds(gain, confidence)}"
    return (
        f"no teacher is better than {best_single} here beyond noise ({evidence}), "
        f"so {task} goes to the best single teacher"
    )


def fixed(
    task: str,
    teacher: str,
    strength: Strength | None,
    runner_up: str | None,
    gain: Gain | None,
    confidence: float,
) -> str:
    """Says that the recipe decided, and what the probes say of it."""
    said = f"the recipe sends {task} to {teacher}"
    if strength is None:
        return said
    said = f"{said}, which {_standing(strength)}"
    if runner_up is None or gain is None:
        return said
    side = "above" if gain.mean >= 0 else "below"
    return f"{said}, {abs(gain.mean):.2f} {side} {runner_up} {_interval(gain, confidence)}"


def learnable() -> str:
    """The end of a reason under `objective: learnable`."""
    return "; scores are weighed by how likely the answers are under the student"


def priced(usd: float, runner_up: str, other: float, alpha: float) -> str:
    """The end of a reason under `cost`: figures before it are strengths less prices."""
    return (
        f"; 1,000 answers cost {usd:.2f} USD, {runner_up}'s {other:.2f}, which at {alpha:g} a dollar is "
        f"{alpha * (other - usd):+.2f} in the gain"
    )


def leaves(task: str, teacher: str, own: str, gain: Gain, confidence: float) -> str:
    """Why one prompt leaves the teacher of its task."""
    return (
        f"on probes like this one {teacher} should score {gain.mean:.2f} more than {own}, "
        f"which {task} goes to {_interval(gain, confidence)}"
    )


def stands_in(teacher: str, own: str, why: str) -> str:
    """Why one prompt goes to another teacher than its task's, which cannot take it."""
    return f"{own} cannot take it ({why}); {teacher} is the strongest here of those that can"


def explored(teacher: str, own: str, share: float) -> str:
    """Why one prompt was given to another teacher by lot."""
    return (
        f"given to {teacher} instead of {own} by lot, as the recipe wants of {100 * share:.3g} % of the "
        "prompts (`explore`)"
    )


def follow_their_task(why: str) -> str:
    """No prompt leaves its task's teacher, since there was nothing to weigh."""
    return f"every prompt goes to its task's teacher: {why}"


def weighed(follows: bool, expected: float, measured: Gain, confidence: float) -> str:
    """What the guard made of prompts that leave their task's teacher."""
    figures = (
        f"on probes that it had not seen the router's choice gains {measured.mean:+.3f} "
        f"{_interval(measured, confidence)}, {expected:+.3f} is to be expected"
    )
    may = "prompts may leave their" if follows else "no prompt leaves its"
    return f"{may} task's teacher: {figures}"


def only_teacher(teacher: str, at_task: Mapping[str, Strength]) -> str:
    """One teacher, nothing to choose."""
    standing = f", and {_standing(at_task[teacher])}" if teacher in at_task else ""
    return f"{teacher} is the only teacher{standing}"


def unsure(best_single: str, tasks: int, mean: float) -> str:
    """Where prompts of no clear task go."""
    return f"prompts of no clear task go to {best_single}, {_title(tasks, mean)}"


def undecided(task: str, best_single: str, policy: str, tasks: int, mean: float) -> str:
    """A task that neither the recipe nor a probe decides."""
    why = f"`to:` does not name {task}" if policy == "fixed" else f"no probe of {task} was scored"
    return f"{why}, so it goes to {best_single}, {_title(tasks, mean)}"


def _title(tasks: int, mean: float) -> str:
    if tasks == 0:
        return "which `to:` names most often (nothing was probed)"
    return f"the best single teacher (mean strength {mean:.2f} over {_count(tasks, 'task')})"


def _standing(strength: Strength) -> str:
    probes = _count(strength.n, "probe")
    if strength.binary:
        return f"is right on {round(strength.mean * strength.n)} of {probes}"
    return f"scores {strength.mean:.2f} on {probes}"


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def _interval(gain: Gain, confidence: float) -> str:
    return f"({_bounds(gain, confidence)})"


def _bounds(gain: Gain, confidence: float) -> str:
    return f"{100 * confidence:.4g} % interval {gain.lo:.2f} to {gain.hi:.2f}"
