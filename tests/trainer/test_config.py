"""The `student:` section: defaults that run, and words that are refused with the way out."""

import pytest
from pydantic import ValidationError

from trainer.config import StudentConfig


def test_a_base_is_all_that_is_needed():
    config = StudentConfig.model_validate({"base": "b"})
    assert (config.signal, config.epochs, config.learning_rate) == (["hard"], 2, 2e-5)


def test_adapters_learn_faster_unless_the_recipe_says_otherwise():
    assert StudentConfig.model_validate({"base": "b", "lora": {"rank": 4}}).learning_rate == 2e-4
    asked = {"base": "b", "lora": {"rank": 4}, "learning_rate": 1e-5}
    assert StudentConfig.model_validate(asked).learning_rate == 1e-5


def test_signals_are_one_or_a_list():
    def signals(signal):
        return StudentConfig.model_validate({"base": "b", "signal": signal}).signal

    assert signals("logit") == ["logit"]
    assert signals(["hard", "feature"]) == ["hard", "feature"]
    with pytest.raises(ValidationError, match="'hard', 'logit' or 'feature'"):
        signals("on_policy")
    with pytest.raises(ValidationError, match="names a signal twice"):
        signals(["hard", "hard"])


def test_a_tasks_weight_is_for_all_signals_or_for_each():
    def weights(given):
        return StudentConfig.model_validate({"base": "b", "weights": given}).weights

    assert weights({"code": 2})["code"].model_dump() == {"hard": 2, "logit": 2, "feature": 2}
    assert weights({"code": {"logit": 0.5}})["code"].model_dump() == {
        "hard": 1,
        "logit": 0.5,
        "feature": 1,
    }


@pytest.mark.parametrize("layers", [[], [0], [[1, 2, 3]], [[1, 0]]])
def test_layers_are_counted_from_one(layers):
    with pytest.raises(ValidationError):
        StudentConfig.model_validate({"base": "b", "feature": {"layers": layers}})


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": 1},
        {"epochs": "2"},
        {"warmup": 1.0},
        {"learning_rate": 0.0},
        {"learning_rate": float("inf")},
        {"signal": "soft"},
        {"lora": {"keep": True}, "sizes": [{"layers": 1}]},
    ],
)
def test_unknown_keys_and_wrong_values_are_errors(wrong):
    with pytest.raises(ValidationError):
        StudentConfig.model_validate({"base": "b", **wrong})


def test_adapters_by_default_have_their_own_rate():
    assert StudentConfig.model_validate({"base": "b", "lora": {}}).learning_rate == 2e-4
