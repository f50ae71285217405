"""What can go wrong with a mix, all of it a person's to mend.

InputError
├── UnknownTask         a share names a task that the recipe does not have
├── UnlicensedSamples   selected answers whose teacher or prompt source has no licence
└── InfeasibleMix       shares that cannot be met from what there is, under the caps
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from ledger.errors import InputError


class UnknownTask(InputError):
    """A share names a task that the recipe does not have."""

    def __init__(self, task: str, known: Sequence[str]) -> None:
        near = get_close_matches(task, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        super().__init__(
            f"mix: shares name task {task!r}, but the tasks are "
            f"{', '.join(known) or '(none)'}{hint}"
        )


class UnlicensedSamples(InputError):
    """Selected answers without a licence; `count` of them."""

    def __init__(self, count: int, teachers: Mapping[str, int], sources: Mapping[str, int]) -> None:
        self.count = count
        owners = [f"teacher {name!r} ({n:,})" for name, n in sorted(teachers.items())]
        owners += [f"prompts {name!r} ({n:,})" for name, n in sorted(sources.items())]
        super().__init__(
            f"mix: {count:,} answers have no licence and cannot enter: {', '.join(owners)}. Give "
            "each a `licence:` ('unknown' is accepted and reported), or leave them out with "
            "`mix.from`."
        )


@dataclass(frozen=True, slots=True)
class Shortfall:
    """One stage and task that cannot be met. Amounts are in the mix's unit."""

    stage: str
    task: str
    unit: str
    share: float
    stage_amount: int
    asked: int
    needed: int  # by the task up to and including this stage
    whole: int  # by the task in the whole mix
    fitting_total: int  # of a mix that this task could meet, all else equal
    distinct: int  # usable distinct answers, in the unit, under max_samples
    max_repeats: int
    max_samples: int | None = None
    binding: str = "answers"  # or "max_samples": what has to give
    answers: int | None = None  # usable distinct answers before max_samples; None: not bought yet
    found: int = 0  # before the filters
    drops: Mapping[str, int] = field(default_factory=dict)

    @property
    def available(self) -> int:
        """What the task can give to the whole mix."""
        return self.distinct * self.max_repeats

    def __str__(self) -> str:
        before = self.needed - self.asked
        after = f" after the {before:,} of earlier stages" if before else ""
        return (
            f"mix stage {self.stage!r} asks for {self.asked:,} {self.unit} of task {self.task!r} "
            f"(share {self.share:g} of {self.stage_amount:,}){after}, but the task can give "
            f"{self.available:,} in all: {self._why()}. Ways out: {self._ways_out()}."
        )

    def _why(self) -> str:
        repeats = f"max_repeats {self.max_repeats}"
        if self.binding == "max_samples":
            return f"max_samples {self.max_samples:,} and {repeats} bind"
        dropped = " and ".join(f"{n:,} as {name}" for name, n in self.drops.items() if n)
        filters = f"{self.found:,} found, dropped {dropped}" if dropped else "none dropped"
        distinct = f"{self.answers or 0:,} distinct answers ({filters})"
        amount = "" if self.unit == "samples" else f" of {self.distinct:,} tokens"
        return f"{distinct}{amount} under {repeats}"

    def _ways_out(self) -> str:
        capped = self.binding == "max_samples"
        ways = ["a higher max_samples" if capped else "more prompts of this task"]
        if self.distinct:
            ways.append(f"max_repeats {math.ceil(self.whole / self.distinct)}")
        left = max(0, self.available - (self.needed - self.asked))
        if share := math.floor(1e4 * left / self.stage_amount) / 1e4:
            ways.append(f"a share of at most {share:g}")
        if self.fitting_total:
            ways.append(f"a total of {self.fitting_total:,}")
        return ", or ".join([", ".join(ways[:-1]), ways[-1]]) if len(ways) > 1 else ways[0]


class InfeasibleMix(InputError):
    """Shares that cannot be met; `shortfalls` says which, by how much, and what binds."""

    def __init__(self, shortfalls: Sequence[Shortfall]) -> None:
        self.shortfalls = list(shortfalls)
        super().__init__("\n".join(map(str, shortfalls)))
