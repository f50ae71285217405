"""The recipe's `mix:` section: how many samples, of which tasks, in which order."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ledger.section import Section

DropWord = Literal[
    "empty", "truncated", "too_short", "too_long", "unverified", "duplicate", "not_best"
]
SHARES_TOLERANCE = 1e-6


class Share(Section):
    """How much of a stage one task gets. Both caps hold over the whole mix, all stages together."""

    share: float = Field(ge=0, le=1, description="Part of the stage, 0 to 1.")
    max_samples: int | None = Field(
        default=None,
        gt=0,
        description="At most so many distinct samples of this task in the whole mix.",
    )
    max_repeats: int | None = Field(
        default=None,
        gt=0,
        le=32_767,  # the order file counts repeats in 16 bits
        description="How often one sample may stand in the whole mix, counting the first time; "
        "1 unless this or another stage says otherwise. Repeats begin once every sample is used.",
    )


def _spelled_out(value: Any) -> Any:
    """A bare number is short for `{share: number}`, whether it is written 1 or 1.0."""
    if isinstance(value, int | float):
        return {"share": value}
    if isinstance(value, dict | Share):
        return value
    raise ValueError(
        f"a share is a number or {{share, max_samples, max_repeats}}, not {value!r:.40}"
    )


def _whole(shares: dict[str, Share]) -> dict[str, Share]:
    total = math.fsum(share.share for share in shares.values())
    if abs(total - 1) > SHARES_TOLERANCE:
        parts = " + ".join(f"{task} {share.share:g}" for task, share in shares.items()) or "nothing"
        raise ValueError(f"shares must sum to 1, but {parts} = {total:.6g}")
    return shares


Shares = Annotated[
    dict[
        str, Annotated[Share, BeforeValidator(_spelled_out, json_schema_input_type=float | Share)]
    ],
    AfterValidator(_whole),
]


class Stage(Section):
    """One stage of a curriculum."""

    name: str = Field(min_length=1, description="A name for order, lock and report.")
    until: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Where the stage ends, as a part of the whole training (all epochs); "
        "the last stage ends at 1 and may leave it out.",
    )
    shares: Shares | None = Field(
        default=None,
        description="Task: share of the stage, a number or {share, max_samples, max_repeats}; "
        "they sum to 1. Equal over the tasks (without `unsure`) if left out.",
    )
    order: Literal["shuffled", "length"] = Field(
        default="shuffled",
        description="`shuffled` by the seed, or `length`: shortest answers first, by tokens.",
    )


def _rising(stages: list[Stage]) -> list[Stage]:
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise ValueError(f"two stages share a name: {', '.join(names)}")
    *before, last = stages
    for stage in before:
        if stage.until is None:
            raise ValueError(f"stage {stage.name!r} needs `until`: only the last may leave it out")
    if last.until not in (None, 1):
        raise ValueError(f"the last stage, {last.name!r}, must end at 1, not {last.until:g}")
    ends = [stage.until or 1.0 for stage in stages]
    for stage, end, following in zip(stages, ends, ends[1:], strict=False):
        if end >= following:
            raise ValueError(
                f"`until` must rise from stage to stage, but {stage.name!r} ends at {end:g} and "
                f"the next at {following:g}"
            )
    return stages


class Select(Section):
    """Which answers may enter at all."""

    teachers: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Only answers of these teachers; prompts are not routed to others.",
    )
    licences: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Only answers whose teacher and whose prompt source both carry one of these; prompts "
        "are not routed to teachers of another licence.",
    )


class MixConfig(Section):
    """The recipe's `mix:` section."""

    unit: Literal["samples", "tokens"] = Field(
        description="What `total` and shares count: samples, or trained completion tokens under "
        "the student's tokenizer."
    )
    total: int = Field(gt=0, description="Size of the mix in its unit, repeats included.")
    drop: list[DropWord] = Field(
        default=["empty", "truncated", "duplicate"],
        description="Filters: `empty`, `truncated`, `too_short`, `too_long`, `duplicate` (same "
        "prompt and same answer). Refused or provider-filtered answers never enter.",
    )
    min_tokens: int | None = Field(
        default=None, gt=0, description="Answers below this are dropped by `too_short`."
    )
    max_tokens: int | None = Field(
        default=None, gt=0, description="Answers above this are dropped by `too_long`."
    )
    select: Select | None = Field(
        default=None, alias="from", description="Only answers of these teachers and licences."
    )
    shares: Shares | None = Field(
        default=None,
        description="Task: share of the mix, a number or {share, max_samples, max_repeats}; they "
        "sum to 1. Equal over the tasks (without `unsure`) if left out, as `stages` are.",
    )
    stages: Annotated[list[Stage], Field(min_length=1), AfterValidator(_rising)] | None = Field(
        default=None, description="A curriculum, in place of `shares`."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.shares is not None and self.stages is not None:
            raise ValueError("give `shares` or `stages`, not both: each stage has its own shares")
        _check_length_filter("too_short", self.drop, "min_tokens", self.min_tokens)
        _check_length_filter("too_long", self.drop, "max_tokens", self.max_tokens)
        if self.min_tokens and self.max_tokens and self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}")
        for task in sorted(self.named_tasks):  # raises where stages disagree about a cap
            self.max_samples(task)
            self.max_repeats(task)
        return self

    @property
    def curriculum(self) -> list[Stage]:
        """The stages; a mix without any is one shuffled stage named `all`."""
        return self.stages or [Stage(name="all", shares=self.shares)]

    @property
    def named_tasks(self) -> set[str]:
        """Every task that a stage names."""
        return {task for stage in self.curriculum for task in stage.shares or {}}

    def max_samples(self, task: str) -> int | None:
        """Distinct samples of `task` that the mix may use; None: no cap."""
        return _agreed("max_samples", task, (s.max_samples for s in self._shares_of(task)))

    def max_repeats(self, task: str) -> int:
        """How often one sample of `task` may stand in the mix."""
        return _agreed("max_repeats", task, (s.max_repeats for s in self._shares_of(task))) or 1

    def _shares_of(self, task: str) -> list[Share]:
        return [s.shares[task] for s in self.curriculum if s.shares and task in s.shares]


def _check_length_filter(
    word: DropWord, drop: list[DropWord], name: str, limit: int | None
) -> None:
    if (word in drop) != (limit is not None):
        missing, given = (word, name) if limit is not None else (name, word)
        raise ValueError(f"`{given}` does nothing without `{missing}`: give both or neither")


def _agreed(name: str, task: str, values: Iterable[int | None]) -> int | None:
    stated = {value for value in values if value is not None}
    if len(stated) > 1:
        listed = " and ".join(map(str, sorted(stated)))
        raise ValueError(
            f"stages give task {task!r} {name} {listed}, but it holds over the whole mix: "
            "say it once"
        )
    return stated.pop() if stated else None


def as_written(config: MixConfig) -> Mapping[str, Any]:
    """The section with every default filled in, as JSON can hold it."""
    return config.model_dump(mode="json", by_alias=True)
