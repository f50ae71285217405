"""The sections `probes:` and `evaluate:`: one source of items, scorers that exist."""

import pytest
from pydantic import BaseModel, ValidationError

from evals.config import JUDGE, SCORERS, EvaluateConfig, ProbesConfig, SpeedConfig
from evals.scorers.base import _MODULES


def test_every_scorer_a_recipe_may_name_exists() -> None:
    assert set(SCORERS) == {*_MODULES, JUDGE}


def test_a_short_recipe_is_enough() -> None:
    assert ProbesConfig(hold_out=60).scorer == "exact"
    evaluate = EvaluateConfig(file="test.jsonl")
    assert evaluate.within == 0.05
    assert evaluate.scorer is None


def test_a_scorer_may_be_named_per_task() -> None:
    probes = ProbesConfig(file="p.jsonl", per_task=60, scorer={"maths": "numeric", "law": "choice"})
    assert probes.scorer == {"maths": "numeric", "law": "choice"}


@pytest.mark.parametrize("scorer", ["numerc", {"maths": "numerc"}, "Numeric"])
def test_a_misspelt_scorer_is_refused_with_the_near_one(scorer: object) -> None:
    with pytest.raises(ValidationError, match="Did you mean 'numeric'"):
        ProbesConfig.model_validate({"hold_out": 3, "scorer": scorer})


@pytest.mark.parametrize("model", [ProbesConfig, EvaluateConfig])
@pytest.mark.parametrize("source", [{}, {"file": "a", "hold_out": 3}])
def test_exactly_one_source_of_items(model: type[BaseModel], source: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="exactly one of `file:`"):
        model.model_validate(source)


@pytest.mark.parametrize(
    "values",
    [
        {"hold_out": 0},
        {"hold_out": "60"},
        {"hold_out": 60, "per_task": 5},
        {"hold_out": 60, "scorers": "exact"},
    ],
)
def test_probes_refuse_what_makes_no_sense(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ProbesConfig.model_validate(values)


@pytest.mark.parametrize("within", [-0.01, 1.0, "5%"])
def test_the_margin_is_a_share_below_one(within: object) -> None:
    with pytest.raises(ValidationError):
        EvaluateConfig.model_validate({"hold_out": 1, "within": within})


@pytest.mark.parametrize("model", [ProbesConfig, EvaluateConfig, SpeedConfig])
def test_every_field_says_what_it_is(model: type[BaseModel]) -> None:
    assert all(field.description for field in model.model_fields.values())
