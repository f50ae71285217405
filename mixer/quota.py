"""From shares to whole numbers: what each stage takes of each task, and what to buy for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from ledger.errors import InputError
from mixer.config import MixConfig, Stage
from mixer.errors import InfeasibleMix, Shortfall, UnknownTask

UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Quota:
    """One stage in whole numbers of the mix's unit. `amounts` sum to `amount`."""

    stage: str
    until: float
    order: str
    amount: int
    shares: dict[str, float]
    amounts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Need:
    """Distinct usable answers of one task that the mix can use; to buy more is waste.

    `samples` None: as many as `tokens` takes. `tokens` None: the mix counts samples. Below
    `at_least` (in the mix's unit) the mix is infeasible; in between, answers are repeated.
    """

    samples: int | None
    tokens: int | None
    at_least: int

    def answers(self, tokens_each: float) -> int:
        """How many answers that is, where an answer has `tokens_each` tokens on average."""
        if self.tokens is None:
            return self.samples or 0
        wanted = ceil(self.tokens / max(tokens_each, 1.0))
        return wanted if self.samples is None else min(wanted, self.samples)


def apportion(total: int, weights: Mapping[str, float | Fraction]) -> dict[str, int]:
    """Whole numbers that sum to `total`, by largest remainder; a tie goes to the first name.

    A weight means the decimal that is written: three times 0.1 is 0.3 here.
    """
    exact = {name: Fraction(str(weight)) for name, weight in weights.items()}
    whole = sum(exact.values())
    parts = {name: total * weight / whole for name, weight in exact.items()}
    counts = {name: int(part) for name, part in parts.items()}
    by_remainder = sorted(parts, key=lambda name: (counts[name] - parts[name], name))
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def quotas(config: MixConfig, tasks: Sequence[str]) -> list[Quota]:
    """The stages in whole numbers. Raises UnknownTask, and InputError where a stage gets nothing.

    `tasks` are all tasks of the recipe. Without shares they count equally, `unsure` left out.
    """
    for task in sorted(config.named_tasks - set(tasks)):
        raise UnknownTask(task, sorted(tasks))
    sizes = _stage_sizes(config)
    return [_quota(stage, sizes[stage.name], tasks) for stage in config.curriculum]


def _stage_sizes(config: MixConfig) -> dict[str, int]:
    begin = Fraction(0)
    parts = {}
    for stage in config.curriculum:
        end = Fraction(str(stage.until or 1))
        parts[stage.name] = end - begin
        begin = end
    sizes = apportion(config.total, parts)
    for name, size in sizes.items():
        if size == 0:
            raise InputError(
                f"mix stage {name!r} is {float(parts[name]):g} of {config.total:,} {config.unit}, "
                "which rounds to nothing: raise `total` or give the stage a larger part."
            )
    return sizes


def _quota(stage: Stage, amount: int, tasks: Sequence[str]) -> Quota:
    if stage.shares is not None:
        shares = {task: share.share for task, share in sorted(stage.shares.items())}
        weights: Mapping[str, float | Fraction] = shares
    else:
        equal = sorted(set(tasks) - {UNSURE})
        if not equal:
            raise InputError(
                f"mix stage {stage.name!r} has no shares, and there is no task to share."
            )
        weights = dict.fromkeys(equal, Fraction(1, len(equal)))
        shares = {task: float(weight) for task, weight in weights.items()}
    return Quota(
        stage=stage.name,
        until=stage.until or 1.0,
        order=stage.order,
        amount=amount,
        shares=shares,
        amounts=apportion(amount, weights),
    )


def task_amounts(stages: Sequence[Quota]) -> dict[str, int]:
    """What the whole mix takes of each task, in its unit; tasks that get nothing are left out."""
    totals: dict[str, int] = {}
    for quota in stages:
        for task, amount in quota.amounts.items():
            totals[task] = totals.get(task, 0) + amount
    return {task: amount for task, amount in sorted(totals.items()) if amount}


def needs(config: MixConfig, tasks: Sequence[str]) -> dict[str, Need]:
    """Per task, the distinct usable answers that the mix can use. Nothing needs to be bought yet.

    Raises UnknownTask, and InfeasibleMix where the caps alone forbid the shares.
    """
    stages = quotas(config, tasks)
    wanted = task_amounts(stages)
    if config.unit == "samples":
        short = [gap for task in wanted if (gap := _capped_below(config, stages, task))]
        if short:
            raise InfeasibleMix(short)
    return {task: _need(config, task, amount) for task, amount in wanted.items()}


def _need(config: MixConfig, task: str, amount: int) -> Need:
    cap = config.max_samples(task)
    at_least = ceil(amount / config.max_repeats(task))
    if config.unit == "tokens":
        return Need(samples=cap, tokens=amount, at_least=at_least)
    return Need(samples=min(amount, cap or amount), tokens=None, at_least=at_least)


def _capped_below(config: MixConfig, stages: Sequence[Quota], task: str) -> Shortfall | None:
    cap, repeats = config.max_samples(task), config.max_repeats(task)
    if cap is None:
        return None
    return shortfall(config, stages, task, distinct=cap, room=cap * repeats, binding="max_samples")


def shortfall(
    config: MixConfig,
    stages: Sequence[Quota],
    task: str,
    *,
    distinct: int,
    room: float,
    binding: str,
    answers: int | None = None,
    found: int = 0,
    drops: Mapping[str, int] | None = None,
) -> Shortfall | None:
    """The first stage whose share of `task` goes beyond `room` (in the unit), or None."""
    needed = 0
    for quota in stages:
        asked = quota.amounts.get(task, 0)
        needed += asked
        if asked and needed > room:
            return Shortfall(
                stage=quota.stage,
                task=task,
                unit=config.unit,
                share=quota.shares[task],
                stage_amount=quota.amount,
                asked=asked,
                needed=needed,
                whole=sum(each.amounts.get(task, 0) for each in stages),
                fitting_total=_total_that_fits(config, stages, task, room),
                distinct=distinct,
                max_repeats=config.max_repeats(task),
                max_samples=config.max_samples(task),
                binding=binding,
                answers=answers,
                found=found,
                drops=drops or {},
            )
    return None


def _total_that_fits(config: MixConfig, stages: Sequence[Quota], task: str, room: float) -> int:
    """A total, near the largest, whose quotas of `task` fit into `room`; 0 if there is none."""
    tasks = sorted({name for quota in stages for name in quota.amounts})
    whole = task_amounts(stages)[task]
    total = int(config.total * room) // whole
    while total > 0:
        try:
            smaller = quotas(config.model_copy(update={"total": total}), tasks)
        except InputError:  # a stage gets nothing of so small a mix
            return 0
        excess = task_amounts(smaller).get(task, 0) - room
        if excess <= 0:
            return total
        total -= max(1, int(excess * config.total) // whole)
    return 0
