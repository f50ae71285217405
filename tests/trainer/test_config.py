"""The `student:` section: defaults that run, and words that are refused with the way out."""

import pytest
from pydantic import ValidationError

from trainer.config import StudentConfig


def test_a_base_is_all_that_is_needed():
    config = StudentConfig.model_validate({"base": "b"})
    assert (config.signal, config.epochs, config.learning_rate) == ("hard", 2, 2e-5)


def test_adapters_learn_faster_unless_the_recipe_says_otherwise():
    assert StudentConfig.model_validate({"base": "b", "lora": {"rank": 4}}).learning_rate == 2e-4
    asked = {"base": "b", "lora": {"rank": 4}, "learning_rate": 1e-5}
    assert StudentConfig.model_validate(asked).learning_rate == 1e-5


@pytest.mark.parametrize("signal", ["feature", "on_policy"])
def test_signals_that_do_not_work_yet_say_what_does(signal):
    with pytest.raises(ValidationError, match="write `signal: hard`"):
        StudentConfig.model_validate({"base": "b", "signal": signal})


@pytest.mark.parametrize(
    "wrong",
    [{"epoch": 1}, {"epochs": "2"}, {"warmup": 1.0}, {"learning_rate": 0.0}, {"signal": "soft"}],
)
def test_unknown_keys_and_wrong_values_are_errors(wrong):
    with pytest.raises(ValidationError):
        StudentConfig.model_validate({"base": "b", **wrong})
