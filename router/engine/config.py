"""The recipe's `generate:` section: how answers are drawn, paid for and tried again."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ledger.section import Section


class GenerateConfig(Section):
    """How answers are bought."""

    temperature: float = Field(
        default=0.0, ge=0, le=2, description="Sampling temperature; 0 is greedy."
    )
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Nucleus sampling; reads only above temperature 0."
    )
    max_tokens: int = Field(
        default=512, gt=0, description="Longest answer; raising it re-buys only truncated answers."
    )
    seed: int | None = Field(
        default=None, description="Seed of the sampling; reads only above temperature 0."
    )
    n: int = Field(
        default=1,
        ge=1,
        le=128,
        description="Answers to each prompt that the mix is made of; more than one needs a temperature.",
    )
    top_logprobs: int | None = Field(
        default=None,
        ge=1,
        le=20,
        description="Log-probabilities of so many tokens at each place of those answers, kept in their "
        "raw responses; not from `local` teachers.",
    )
    budget_usd: float | None = Field(
        default=None,
        ge=0,
        description="Most that a run may spend on all teachers, in USD; no call starts that could "
        "pass it.",
    )
    task_budget_usd: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={},
        description="Most that a run may spend on a task, in USD, such as `{maths: 5}`.",
    )
    on_unknown_price: Literal["stop", "allow"] = Field(
        default="stop",
        description="`stop` asks for a price before buying from a teacher without one; `allow` "
        "buys, outside every cap.",
    )
    deadline_s: float = Field(
        default=120.0, gt=0, description="Longest that one call to a server may take, in seconds."
    )
    retries: int = Field(
        default=4,
        ge=0,
        description="How often a call that failed for a passing reason is repeated; calls that a "
        "rate limit turned away are repeated besides.",
    )
    patience_s: float = Field(
        default=300.0,
        gt=0,
        description="How long a teacher may be out of order until the rest is not asked, in seconds; "
        "at most 15 for one that never answered.",
    )

    @model_validator(mode="after")
    def _different(self) -> Self:
        if self.n > 1 and self.temperature == 0:
            raise ValueError(
                f"`n: {self.n}` asks for several answers, which are all the same at temperature 0: give a "
                "`temperature` above 0, or leave `n` out"
            )
        return self
