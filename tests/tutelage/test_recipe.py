"""A recipe's errors name file, line and key, and say what to write instead."""

from pathlib import Path

import pytest

from tests.tutelage.recipes import TEACHER, write_recipe
from tutelage.recipe import load_recipe
from tutelage.strict_yaml import RecipeError


def error_of(path: Path) -> str:
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    return str(error.value)


def test_a_short_recipe_gets_every_default(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path)).recipe
    assert recipe.route.policy == "strongest"
    assert recipe.seed == 7
    assert recipe.ledger_folder == Path("runs/ledger")


def test_seed_and_run_can_be_overridden(tmp_path: Path) -> None:
    loaded = load_recipe(write_recipe(tmp_path), seed=11, run="elsewhere/x")
    assert (loaded.recipe.seed, loaded.recipe.run) == (11, "elsewhere/x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sead: 3\n", "recipe: unknown key 'sead'; did you mean 'seed'?"),
        ("seed: '7'\n", "seed: "),
        ("seed: 1e3\n", "seed: must be a whole number: write 1000"),
        ("name: 7\n", "name: must be a text: write '7' in quotes"),
        ("name: ../escape\n", "name: "),
    ],
)
def test_top_level_errors_name_line_and_remedy(tmp_path: Path, text: str, expected: str) -> None:
    path = write_recipe(tmp_path, seed=None, name=None if text.startswith("name") else "test")
    path.write_text(text + path.read_text())
    message = error_of(path)
    assert message.startswith(f"{path}:1: ")
    assert expected.removeprefix("recipe: ") in message


@pytest.mark.parametrize(
    ("changes", "where", "expected"),
    [
        ({"teachers": {"a": {"vlm": "m", "licence": "MIT"}}}, "teachers.a", "did you mean 'vllm'?"),
        ({"teachers": {"a": {**TEACHER, "licence": None}}}, "teachers.a.licence", "text"),
        ({"teachers": {"a": {"local": "m"}}}, "teachers.a", "licence"),
        (
            {"teachers": {"a": {"local": "m", "http": "n", "licence": "x"}}},
            "teachers.a",
            "exactly one",
        ),
        ({"teachers": {"../a": TEACHER}}, "teachers", "letters, digits"),
        ({"teachers": {"student": TEACHER}}, "teachers", "is taken"),
        ({"teachers": {}}, "teachers", "at least 1"),
        (
            {"prompts": [{"licence": "MIT"}]},
            "prompts.0",
            "exactly one of `file` and `reasoning_gym`",
        ),
        ({"prompts": [{"file": "prompts.jsonl"}]}, "prompts.0.licence", "is missing"),
        ({"probes": {"hold_out": 2, "scorer": "exatc"}}, "probes.scorer", "Did you mean 'exact'?"),
        ({"mix": {"unit": "samples"}}, "mix.total", "is missing"),
        ({"mix": {"unit": "sample", "total": 3}}, "mix.unit", "'samples'"),
        (
            {"mix": {"unit": "samples", "total": 9, "shares": {"red": 0.5, "blue": 0.4}}},
            "mix.shares",
            "= 0.9",
        ),
        (
            {"mix": {"unit": "samples", "total": 9, "shares": {"red": {"share": 1, "max": 2}}}},
            "mix.shares.red",
            "unknown key 'max'; known are max_repeats, max_samples, share",
        ),
        ({"tasks": {"embedding": "x", "examples": {"holdout": 3}}}, "tasks.examples", "'hold_out'"),
        (
            {"tasks": {"embedding": "x", "examples": {"hold_out": "3"}}},
            "tasks.examples.hold_out",
            "int",
        ),
        ({"student": {"base": "b", "signal": "on_policy"}}, "student.signal", "feature"),
        (
            {"route": {"policy": "fixed", "to": {"red": "two"}}},
            "route.to.red",
            "'two' is no teacher of this recipe; known are one",
        ),
    ],
)
def test_errors_inside_sections_name_the_key(
    tmp_path: Path, changes: dict, where: str, expected: str
) -> None:
    message = error_of(write_recipe(tmp_path, **changes))
    assert f": {where}" in message
    assert expected in message


def test_all_broken_rules_are_listed_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write_recipe(
        tmp_path, seed="x", student={"base": "b", "epochs": 0}, mix={"unit": "samples"}
    )
    lines = [int(line.split(":")[1]) for line in error_of(path).splitlines()]
    assert len(lines) == 3
    assert lines == sorted(lines)


def test_a_missing_recipe_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="tutelage init"):
        load_recipe(tmp_path / "absent.yaml")
