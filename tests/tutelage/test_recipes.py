"""Every recipe that ships passes `check` and `plan`, with no model, server, key or network."""

from pathlib import Path

import pytest

from tutelage import check_recipe, plan_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_checks_and_plans(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert check_recipe(path).train > 0
    plan = plan_recipe(path)
    assert all(stage.state == "to do" for stage in plan.stages)
    assert not (tmp_path / "runs").exists()
