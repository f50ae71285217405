"""What a run's folder says of itself: the recipe as it ran, and the stages it has come through with it.

Whoever reads a run (status, report, ask, audits) goes by this note, so that finding out what is
there needs neither the teachers nor an API key.
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ledger.errors import InputError, TutelageError
from ledger.keys import write_atomically
from tutelage.recipe import LoadedRecipe, load_recipe

RECIPE_COPY, NOTE = "recipe.yaml", "run.json"


@dataclass(frozen=True, slots=True)
class RunNote:
    """Where the recipe stands, its key and seed as run, and the key of each stage done with it."""

    recipe: str
    recipe_key: str
    seed: int
    stages: dict[str, str] = field(default_factory=dict)


def read_note(folder: Path) -> RunNote | None:
    """The note in a run's folder, or None where no run has begun there. Raises InputError if torn."""
    path = folder / NOTE
    if not path.is_file():
        return None
    try:
        return RunNote(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path} is not a run's note ({error}): remove it and run the recipe again; what the "
            "ledger has is not done twice"
        ) from error


def begin(loaded: LoadedRecipe) -> None:
    """Makes the run's folder with the recipe's copy and a note; the same recipe keeps its stages.

    Raises InputError where the folder cannot be written.
    """
    folder = loaded.recipe.folder
    place = str(loaded.path.resolve())
    earlier: RunNote | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(InputError):  # a torn note is written anew
            earlier = read_note(folder)
        same = earlier is not None and earlier.recipe_key == loaded.key
        stages = earlier.stages if earlier is not None and same else {}
        write_atomically(folder / RECIPE_COPY, loaded.text.encode())
        _write(folder, RunNote(place, loaded.key, loaded.recipe.seed, stages))
    except OSError as error:
        raise _unwritable(folder, error.strerror) from error


def refuse_unwritable(folder: Path) -> None:
    """Raises InputError where a run's folder could not be made or written, without making it."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise _unwritable(folder, f"{there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unwritable(folder, "Permission denied")


def _unwritable(folder: Path, why: str | None) -> InputError:
    return InputError(
        f"the run folder {folder} cannot be written ({why}): make it writable, or give another "
        "with --run"
    )


def came_through(folder: Path, keys: dict[str, str]) -> None:
    """Notes the newest of `keys`, the stages confirmed so far in their order.

    Where it differs from what the note has, the later stages there stand on something else: they go.
    """
    note, newest = read_note(folder), list(keys)[-1]
    assert note is not None
    if note.stages.get(newest) != keys[newest]:
        _write(folder, replace(note, stages=dict(keys)))


def load_run(place: Path) -> tuple[LoadedRecipe, RunNote]:
    """The recipe as it ran, and the note, of a run named by its folder or by its recipe.

    Raises InputError where there is neither, or the recipe's run has not begun.
    """
    folder = load_recipe(place).recipe.folder if place.is_file() else place
    if folder.name in ("", ".."):  # such as `.`, from inside
        folder = folder.resolve()
    note = read_note(folder)
    if note is None and place.is_file():
        raise InputError(f"{folder} has not begun: `{load_recipe(place).command('run')}`")
    if note is None:
        raise InputError(
            f"{place} is neither a recipe file nor the folder of a run: give recipes/NAME.yaml or "
            "runs/NAME"
        )
    copy, origin = folder / RECIPE_COPY, Path(note.recipe)
    own = load_recipe(copy).recipe
    loaded = load_recipe(copy, origin=origin, seed=note.seed, run=str(folder))
    options = ["--seed", str(note.seed)] if own.seed != note.seed else []
    if own.folder.resolve() != folder.resolve():
        options += ["--run", str(folder)]
    return replace(loaded, options=tuple(options)), note


def was_edited(loaded: LoadedRecipe, note: RunNote) -> bool:
    """Whether the recipe file says something else now than when it ran. A broken one does."""
    try:
        now = load_recipe(loaded.path, seed=note.seed)
    except TutelageError:
        return True
    return now.key != note.recipe_key


def _write(folder: Path, note: RunNote) -> None:
    write_atomically(folder / NOTE, (json.dumps(asdict(note), indent=2) + "\n").encode())
