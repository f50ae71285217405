"""The base of every recipe section, and the two ways a section names a set of prompts."""

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Part of a recipe: unknown keys, infinite numbers and silent conversions are errors; values stay."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FileSource(Section):
    """Prompts from a JSON lines file."""

    file: str = Field(description="JSON lines file, relative to the recipe.")


class HoldOut(Section):
    """Prompts set aside from `prompts:`; they are never trained on."""

    hold_out: int = Field(
        gt=0,
        description="How many prompts per task to set aside, by seed, from `prompts:` entries "
        "that carry a task and a reference.",
    )


Source = FileSource | HoldOut
