"""The recipe reference: every kind of key is rendered in words, and what lacks a description is found."""

from typing import Literal

from pydantic import BaseModel, Field

from tutelage.reference import render, undescribed


class Wheel(BaseModel):
    """One wheel."""

    inches: int = Field(gt=0, le=30, description="Its size.")


class Engine(BaseModel):
    """What drives it."""

    fuel: Literal["petrol", "none"] = Field("none", description="What it burns | drinks.")


class Sail(BaseModel):
    """What the wind takes."""

    area: float = Field(description="In square metres.")


class Car(BaseModel):
    """A car."""

    wheels: list[Wheel] = Field(description="Its wheels.")
    spare: Wheel | None = Field(None, description="In the boot.")
    drive: Engine | Sail = Field(description="What moves it.")
    seats: dict[str, bool] = Field(default_factory=dict, description="Seat to whether it is taken.")
    off: bool = Field(True, alias="parked", description="Whether it stands.")
    bare: str = "x"


def test_each_key_is_a_row_with_kind_default_and_meaning() -> None:
    page = render(Car)
    assert "| `wheels` | list of: [mapping](#wheels) | must be given | Its wheels. |" in page
    assert "| `inches` | whole number, > 0 and <= 30 | must be given | Its size. |" in page
    assert '| `fuel` | `petrol`, `none` | `"none"` | What it burns \\| drinks. |' in page
    assert "| `seats` | NAME: `true` or `false` | `{}` | Seat to whether it is taken. |" in page
    assert "| `parked` | `true` or `false` | `true` | Whether it stands. |" in page


def test_a_mapping_used_twice_stands_once_and_names_both_places() -> None:
    page = render(Car)
    assert page.count("One wheel.") == 1
    assert "## `wheels[]`" in page
    assert "The same at `spare`." in page


def test_alternatives_at_one_place_are_told_apart_by_their_keys() -> None:
    page = render(Car)
    assert "## `drive` with `fuel`" in page
    assert "## `drive` with `area`" in page
    assert "[mapping](#drive-with-fuel) or [mapping](#drive-with-area)" in page


def test_a_key_without_description_is_found() -> None:
    assert undescribed(Car) == ["bare"]
