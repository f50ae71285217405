"""The recipe's `student:` section."""

from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from ledger.section import Section

Signal = Literal["hard", "logit", "feature"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)
# What leaves the weights as they are.
NOT_LEARNT = {"licence", "checkpoint_every", "sizes", "tensorboard"}
LORA_LEARNING_RATE = 2e-4  # about ten times that of full fine-tuning, as PEFT's guides have it


class LoraConfig(Section):
    """Low-rank adapters instead of all weights; the saved student has them merged in."""

    rank: int = Field(default=16, ge=1, description="Rank of the adapters.")
    alpha: int | None = Field(
        default=None, ge=1, description="Scale of the adapters; twice the rank if not given."
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Dropout on the adapters' input while training."
    )
    keep: bool = Field(
        default=False,
        description="Also save the adapters by themselves, in `adapter/` of the student's folder, for whoever "
        "serves them beside the base.",
    )
    targets: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Names of the linear layers that get an adapter, such as `q_proj`; "
        "all but the output layer if not given.",
    )


class LogitConfig(Section):
    """How the student is held against its teachers' distributions over the next token."""

    alpha: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Weight of the divergence at tokens that have a distribution; the text's "
        "cross-entropy has the rest of 1.",
    )
    beta: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Which divergence: 0 is the forward one, KL(teacher, student), 1 the reverse "
        "one, between them Jensen-Shannon's.",
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        description="By which both sides' logits are divided; captured distributions are kept at it.",
    )
    top_k: int = Field(
        default=32,
        ge=1,
        le=1024,
        description="Tokens a position that are kept of a distribution; what they leave of 1 is one "
        "outcome more.",
    )


class FeatureConfig(Section):
    """How the student's hidden states are held against its teachers'."""

    layers: list[int | list[int]] = Field(
        default=[-1],
        min_length=1,
        description="Layers whose states are compared: a number for both models, counted from 1, or from "
        "the end by -1, -2 …; or a pair [student, teacher].",
    )
    projector: Literal["linear", "mlp"] = Field(
        default="linear",
        description="What brings the student's states to a teacher's width, for each teacher and layer; "
        "learnt with the student and left out of it at the end.",
    )
    loss: Literal["cosine", "mse"] = Field(
        default="cosine",
        description="`cosine` is 1 less the cosine of both states, `mse` their mean squared difference.",
    )
    weight: float = Field(
        default=1.0,
        gt=0,
        description="Weight of this loss beside that of text and distributions, which is 1.",
    )

    @field_validator("layers")
    @classmethod
    def _some_layer(cls, layers: list[int | list[int]]) -> list[int | list[int]]:
        for pair in layers:
            both = pair if isinstance(pair, list) else [pair, pair]
            if len(both) != 2 or 0 in both:
                raise ValueError(
                    f"{pair} is neither a layer nor a pair [student, teacher]: count from 1, or from the "
                    "end by -1, -2 …"
                )
        return layers


class TaskWeights(Section):
    """How much a task's samples count by each signal, against 1."""

    hard: float = Field(default=1.0, ge=0, description="Of their text's cross-entropy.")
    logit: float = Field(default=1.0, ge=0, description="Of the divergence from distributions.")
    feature: float = Field(default=1.0, ge=0, description="Of the distance from hidden states.")


class _Shaped(Section):
    """A model to start from, and its size."""

    layers: int | None = Field(
        default=None,
        ge=1,
        description="Keep so many of the base's layers, evenly spaced, the first and the last among them.",
    )
    shape: dict[str, int] | None = Field(
        default=None,
        min_length=1,
        description="Numbers of the base's config.json that are other ones, such as `num_hidden_layers` or "
        "`hidden_size`; all weights are then drawn by the seed, as for a base without weights.",
    )

    @model_validator(mode="after")
    def _cut_or_shaped(self) -> Self:
        if self.layers is not None and self.shape is not None:
            raise ValueError("`layers` keeps weights and `shape` draws new ones: give one of them")
        return self


class SizeConfig(_Shaped):
    """A student beside the first, of another size; what is not given is the student's."""

    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$",
        description="What the report calls it; its base and layers if not given.",
    )
    base: str | None = Field(
        default=None,
        min_length=1,
        description="The model to start from; the student's if not given.",
    )
    epochs: int | None = Field(default=None, ge=1, description="Passes over each stage of the mix.")
    learning_rate: float | None = Field(default=None, gt=0, description="Peak learning rate.")

    @property
    def label(self) -> str:
        """What the report calls it."""
        if self.name is not None:
            return self.name
        parts = [Path(self.base).name] if self.base else []
        parts += [f"{self.layers}-layers"] if self.layers is not None else []
        parts += [str(value) for value in (self.shape or {}).values()]
        return "-".join(parts) or "same"


class StudentConfig(_Shaped):
    """Which model becomes the student, and how it is trained on the mix."""

    base: str = Field(
        min_length=1,
        description="The model to start from: a folder, relative to the recipe, or a hub id. A folder with a "
        "config.json and a tokenizer but no weights starts from weights drawn by the seed.",
    )
    sizes: list[SizeConfig] = Field(
        default=[],
        description="Further students on the same mix, by base or by fields of their own: the report holds "
        "their quality against speed, memory and size.",
    )
    signal: list[Signal] = Field(
        default=["hard"],
        min_length=1,
        description="What the student learns from, one or a list: `hard`, the text of the answers; "
        "`logit`, the teachers' distributions over every next token as well; `feature`, their hidden "
        "states as well. Each sample gives what its teacher can give, and always its text.",
    )
    logit: LogitConfig = Field(
        default_factory=LogitConfig, description="Settings of the signal `logit`."
    )
    feature: FeatureConfig = Field(
        default_factory=FeatureConfig, description="Settings of the signal `feature`."
    )
    weights: dict[str, TaskWeights] = Field(
        default={},
        description="By task, how much its samples count: a number for all signals, or one by signal.",
    )
    licence: str | None = Field(
        default=None, description="Licence of the base, for the model card and the ledger."
    )
    lora: LoraConfig | None = Field(
        default=None, description="Train low-rank adapters instead of all weights."
    )
    epochs: int = Field(default=2, ge=1, description="Passes over each stage of the mix.")
    batch_size: int = Field(default=16, ge=1, description="Samples in one forward pass.")
    accumulate: int = Field(
        default=1, ge=1, description="Forward passes whose gradients make one step."
    )
    hold_out: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Part of the mix's prompts that the student is measured on while it trains, and does "
        "not learn from. With it, the weights are kept that had the least loss there.",
    )
    validate_every: int | None = Field(
        default=None,
        ge=1,
        description="Steps between measurements on what is held out; if not given, a twentieth of all steps.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Measurements without a lower loss on what is held out after which the training ends; "
        "without it, it goes on to its end.",
    )
    recompute: bool | None = Field(
        default=None,
        description="Keep no activations for the backward pass but make them again: slower, and far less "
        "memory. If not given, on a GPU for students above a billion parameters.",
    )
    packing: bool = Field(
        default=True,
        description="Lay short samples of a forward pass behind one another in a row, where the base "
        "keeps them apart; the loss is the same.",
    )
    learning_rate: float = Field(
        default=2e-5,
        gt=0,
        description="Peak learning rate of AdamW; 2e-4 if not given and `lora` is.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="How the learning rate falls after the warm-up."
    )
    warmup: float = Field(
        default=0.03, ge=0, lt=1, description="Part of all steps over which the rate rises from 0."
    )
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's weight decay.")
    adam_beta2: float = Field(
        default=0.999, gt=0, lt=1, description="AdamW's decay of the squared gradients' average."
    )
    max_length: int | None = Field(
        default=None,
        ge=8,
        description="Most tokens of prompt and answer together; longer samples are left out, "
        "counted and named. The base's context if not given.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Precision of the arithmetic; `auto` is bfloat16 on a GPU that has it, else "
        "float32. Weights under full training stay in float32.",
    )
    tensorboard: bool = Field(
        default=False,
        description="Write the training's log for TensorBoard too, into a folder beside the student's that "
        "ends in `.tensorboard`; takes `pip install 'tutelage[tensorboard]'`.",
    )
    checkpoint_every: int | None = Field(
        default=None,
        ge=1,
        description="Steps between checkpoints; if not given about every ten seconds, less often "
        "where a checkpoint is slow to write.",
    )

    @field_validator("signal", mode="before")
    @classmethod
    def _one_or_more(cls, signal: Any) -> Any:
        return [signal] if isinstance(signal, str) else signal

    @field_validator("signal")
    @classmethod
    def _each_once(cls, signal: list[Signal]) -> list[Signal]:
        if len(set(signal)) != len(signal):
            raise ValueError(f"{signal} names a signal twice")
        return signal

    @field_validator("sizes", mode="before")
    @classmethod
    def _a_base_is_enough(cls, sizes: Any) -> Any:
        if not isinstance(sizes, list):
            return sizes
        return [{"base": each} if isinstance(each, str) else each for each in sizes]

    @field_validator("sizes")
    @classmethod
    def _told_apart(cls, sizes: list[SizeConfig]) -> list[SizeConfig]:
        labels = [size.label for size in sizes]
        taken = {"student", "baseline"}
        for label in labels:
            if label in taken:
                raise ValueError(f"the name {label!r} is taken: give this size another `name`")
            taken.add(label)
        return sizes

    def of_size(self, size: SizeConfig) -> "StudentConfig":
        """The settings of a further student."""
        own = size.model_dump(exclude_none=True, exclude={"name"})
        if own.keys() & {"base", "layers", "shape"}:
            own = {"layers": None, "shape": None, **own}
        return self.model_copy(update={**own, "sizes": []})

    @field_validator("weights", mode="before")
    @classmethod
    def _for_all_signals(cls, weights: Any) -> Any:
        if not isinstance(weights, dict):
            return weights
        return {
            task: dict.fromkeys(SIGNALS, each) if isinstance(each, int | float) else each
            for task, each in weights.items()
        }

    @model_validator(mode="after")
    def _adapters_need_their_base(self) -> Self:
        shaped = any(size.layers or size.shape for size in self.sizes) or self.layers or self.shape
        if self.lora is not None and self.lora.keep and shaped:
            raise ValueError(
                "`lora: keep` saves adapters for the base, and with `layers` or `shape` that base is not kept: "
                "leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _patience_needs_held_out(self) -> Self:
        if self.patience is not None and not self.hold_out:
            raise ValueError(
                "`patience` goes by the loss on what is held out: set `hold_out`, such as 0.02"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _the_first_size(cls, fields: Any) -> Any:
        """Without a base of its own the student is the first of the sizes."""
        sizes = fields.get("sizes") if isinstance(fields, dict) else None
        if not isinstance(sizes, list) or not sizes or "base" in fields:
            return fields
        first = {"base": sizes[0]} if isinstance(sizes[0], str) else sizes[0]
        if not isinstance(first, dict) or "base" not in first:
            return fields
        own = {name: value for name, value in first.items() if name != "name"}
        return {**fields, **own, "sizes": sizes[1:]}

    @model_validator(mode="before")
    @classmethod
    def _rate_of_adapters(cls, fields: Any) -> Any:
        if (
            isinstance(fields, dict)
            and fields.get("lora") is not None
            and "learning_rate" not in fields
        ):
            return {**fields, "learning_rate": LORA_LEARNING_RATE}
        return fields
