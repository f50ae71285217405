"""What a run's folder says of itself: which stages stand, and which went with an edit."""

from pathlib import Path

import pytest

from ledger.errors import InputError
from tests.tutelage.recipes import write_recipe
from tutelage.recipe import load_recipe
from tutelage.runfolder import begin, came_through, load_run, read_note, was_edited


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path, run=str(tmp_path / "runs" / "r"))


def stages_of(recipe: Path) -> dict[str, str]:
    note = read_note(load_recipe(recipe).recipe.folder)
    assert note is not None
    return note.stages


def test_the_same_recipe_keeps_its_stages_and_an_edited_one_starts_without(recipe: Path) -> None:
    folder = load_recipe(recipe).recipe.folder
    begin(load_recipe(recipe))
    came_through(folder, {"classify": "a"})
    recipe.write_text(recipe.read_text("utf-8") + "# a remark\n")
    begin(load_recipe(recipe))
    assert stages_of(recipe) == {"classify": "a"}
    begin(load_recipe(recipe, seed=8))
    assert stages_of(recipe) == {}


def test_stages_after_one_that_changed_are_gone(recipe: Path) -> None:
    folder = load_recipe(recipe).recipe.folder
    begin(load_recipe(recipe))
    done = {"classify": "a", "probe": "b", "route": "c"}
    for count in (1, 2, 3):
        came_through(folder, dict(list(done.items())[:count]))
    came_through(folder, {"classify": "a"})
    assert stages_of(recipe) == done
    came_through(folder, {"classify": "a", "probe": "x"})
    assert stages_of(recipe) == {"classify": "a", "probe": "x"}


def test_a_run_is_found_by_folder_and_recipe_with_the_seed_it_ran_with(recipe: Path) -> None:
    with pytest.raises(InputError, match="has not begun"):
        load_run(recipe)
    begin(load_recipe(recipe, seed=8))
    for place in (recipe, load_recipe(recipe).recipe.folder):
        loaded, note = load_run(place)
        assert (loaded.recipe.seed, note.seed, loaded.base) == (8, 8, recipe.parent)
        assert not was_edited(loaded, note)


def test_hints_carry_the_options_of_the_run(recipe: Path, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "runs" / "seed 8")
    begin(load_recipe(recipe, seed=8, run=elsewhere))
    loaded, _ = load_run(Path(elsewhere))
    assert loaded.command("run") == f"tutelage run {recipe} --seed 8 --run '{elsewhere}'"


def test_a_run_is_found_from_inside_its_folder(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(load_recipe(recipe))
    monkeypatch.chdir(load_recipe(recipe).recipe.folder)
    loaded, _ = load_run(Path())
    assert loaded.recipe.folder == Path.cwd()


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"recipe": 1}'])
def test_a_torn_note_is_named_and_made_anew_by_a_run(recipe: Path, torn: str) -> None:
    folder = load_recipe(recipe).recipe.folder
    begin(load_recipe(recipe))
    (folder / "run.json").write_text(torn)
    with pytest.raises(InputError, match="is not a run's note"):
        load_run(folder)
    begin(load_recipe(recipe))
    assert stages_of(recipe) == {}


def test_an_edit_of_the_recipe_is_seen_and_the_copy_still_read(recipe: Path) -> None:
    begin(load_recipe(recipe))
    recipe.write_text(recipe.read_text("utf-8").replace("total: 10", "total: 9"))
    loaded, note = load_run(recipe)
    assert loaded.recipe.mix.total == 10
    assert was_edited(loaded, note)
    recipe.unlink()
    loaded, note = load_run(loaded.recipe.folder)
    assert was_edited(loaded, note)
