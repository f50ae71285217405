"""The recipe's sections `probes:` and `evaluate:`."""

import difflib
import re
from collections.abc import Collection
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from ledger.section import FileSource, HoldOut, Section, Source

JUDGE = "judge"  # the scorer that is asked of other models
RUBRIC = (
    "The better answer does what the prompt asks, is right in what it says, and leaves out nothing that "
    "matters. A wrong result outweighs everything else."
)
SCORERS = (
    "bleu",
    "choice",
    "chrf",
    "code",
    "exact",
    "json_fields",
    "json_schema",
    JUDGE,
    "numeric",
    "reasoning_gym",
    "regex",
    "rouge_l",
    "similarity",
    "tool_calls",
)
FUNCTION = re.compile(
    r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"
)  # a Python function of one's own


def unknown_scorer(name: str) -> str | None:
    """What is wrong with a scorer's name, and the way out; None if there is such a scorer."""
    if name in SCORERS or FUNCTION.fullmatch(name):
        return None
    near = difflib.get_close_matches(name.lower(), SCORERS, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"there is no scorer {name!r}.{hint} The scorers are: {', '.join(SCORERS)}; a function of your own is "
        "`module:function`."
    )


def _known_scorers(scorer: str | dict[str, str]) -> str | dict[str, str]:
    for name in [scorer] if isinstance(scorer, str) else scorer.values():
        if problem := unknown_scorer(name):
            raise ValueError(problem)
    return scorer


ScorerChoice = Annotated[str | dict[str, str], AfterValidator(_known_scorers)]


class _Items(Section):
    """Items with references, from a file or set aside from `prompts:`."""

    file: str | None = Field(
        default=None,
        description="JSON lines with `prompt`, `task` and `reference`, relative to the recipe.",
    )
    hold_out: int | None = Field(
        default=None,
        gt=0,
        description="How many prompts per task to set aside, by seed, from `prompts:` entries "
        "that carry a task and a reference.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.hold_out is None):
            raise ValueError(
                "give exactly one of `file:` (a JSON lines file) and `hold_out:` (a number of "
                "prompts per task to set aside from `prompts:`)"
            )
        return self

    @property
    def source(self) -> Source:
        """Where the items come from."""
        if self.hold_out is not None:
            return HoldOut(hold_out=self.hold_out)
        assert self.file is not None
        return FileSource(file=self.file)


class ProbesConfig(_Items):
    """Held-out prompts that teachers answer, to measure their strength per task."""

    per_task: int | None = Field(
        default=None,
        gt=0,
        description="At most this many items per task of the file, by seed (default: all).",
    )
    allocation: Literal["sequential", "all"] = Field(
        default="sequential",
        description="`sequential` asks every teacher the same first probes, and further ones only of the two "
        "teachers that are in question there, until every route is decided; `all` asks everybody everything.",
    )
    max_calls: int | None = Field(
        default=None,
        gt=0,
        description="At most so many answers in all (default: as many as decide, or as there are probes for).",
    )
    scorer: ScorerChoice = Field(
        default="exact",
        description="How an answer is graded: a scorer's name, `module:function` for a Python function of your "
        "own, or one per task as {task: name}.",
    )

    @model_validator(mode="after")
    def _per_task_cuts_a_file(self) -> Self:
        if self.per_task is not None and self.file is None:
            raise ValueError("`per_task:` cuts a `file:`; with `hold_out:` the number stands there")
        return self


class JudgeConfig(Section):
    """How `judges:` grade: as the scorer `judge`, and the student's answers beside its teachers'."""

    asks: list[Literal["better", "same"]] = Field(
        default=["better", "same"],
        description="What is asked of the student's and its routed teacher's answers to the test items: "
        "which is `better`, and whether they mean the `same`.",
    )
    per_task: int = Field(
        default=100, gt=0, description="At most so many test items of a task are compared, by seed."
    )
    rubric: str = Field(
        default=RUBRIC,
        min_length=1,
        description="What makes an answer good, as the judges are told.",
    )
    max_tokens: int = Field(
        default=512, gt=0, description="Most tokens of a judge's answer, its reasons included."
    )
    labelled: str | None = Field(
        default=None,
        description="JSON lines of pairs whose better answer is known, to measure how far judges agree: "
        "`prompt`, `first`, `second`, and `label`: first, second or tie.",
    )
    allow_family: bool = Field(
        default=False,
        description="Whether a judge may be of a teacher's or the student's family, by the models' names.",
    )


class SpeedConfig(Section):
    """How speed and memory of student, baseline and local teachers are measured."""

    prompts: int = Field(
        default=64, ge=0, description="How many test prompts to time; 0 leaves the measurement out."
    )
    max_tokens: int = Field(
        default=32,
        gt=0,
        description="Tokens that every model must generate per prompt, so that all answers are "
        "equally long.",
    )
    concurrency: list[Annotated[int, Field(gt=0)]] = Field(
        default=[1, 8, 32],
        min_length=1,
        description="How many prompts are answered side by side, each in rounds of its own.",
    )
    repeats: int = Field(
        default=5,
        gt=0,
        description="Rounds per model; the models take turns and the median round counts.",
    )
    endpoint_usd: float = Field(
        default=0.0,
        ge=0,
        description="What timing teachers behind an endpoint (`http`, `vllm`) may cost in all: their calls are "
        "streamed, made anew and stand in no ledger. 0: those that charge nothing.",
    )
    machine_usd_per_hour: float | None = Field(
        default=None,
        ge=0,
        description="What the machine costs that student and `local` teachers run on, for the price of 1,000 "
        "answers.",
    )


class GeneralConfig(FileSource):
    """A set of prompts that the student was not trained for, to see what it forgot."""

    scorer: ScorerChoice = Field(
        default="exact",
        description="A scorer's name, `module:function`, or {task: name}; not `judge`.",
    )

    @field_validator("scorer")
    @classmethod
    def _no_judge(cls, scorer: str | dict[str, str]) -> str | dict[str, str]:
        if JUDGE in ([scorer] if isinstance(scorer, str) else scorer.values()):
            raise ValueError("the general set is graded by other scorers than `judge`")
        return scorer

    def scorers(self, tasks: Collection[str]) -> dict[str, str]:
        """By task. Raises ValueError for a task without one."""
        if isinstance(self.scorer, str):
            return dict.fromkeys(tasks, self.scorer)
        if lost := sorted(set(tasks) - self.scorer.keys()):
            raise ValueError(f"`scorer` names no scorer for task {lost[0]}; add it")
        return {task: self.scorer[task] for task in tasks}


class EvaluateConfig(_Items):
    """The test: teachers, baseline and student on the same items, and what the verdict asks."""

    within: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="The student passes a task at (1 - within) of its routed teacher's score.",
    )
    scorer: ScorerChoice | None = Field(
        default=None,
        description="A scorer's name, or {task: name} (default: the probes' scorer).",
    )
    cluster_by: str | None = Field(
        default=None,
        description="Key of `meta` by which test items share a source (a passage, a repository): those with "
        "the same value count as one cluster in every interval and test of scores.",
    )
    general: GeneralConfig | None = Field(
        default=None,
        description="A general set, JSON lines with `prompt`, `reference` and perhaps `task`: student and base "
        "are tested on it, to see what was forgotten.",
    )
    speed: SpeedConfig = Field(
        default_factory=SpeedConfig, description="How speed and memory are measured."
    )
