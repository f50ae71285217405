"""init: a commented recipe with small sample files, to edit."""

from importlib.resources import files
from pathlib import Path

from ledger.errors import InputError
from ledger.keys import write_atomically

SAMPLE = Path("data") / "prompts.jsonl"


def init_recipe(path: Path) -> list[Path]:
    """Writes a recipe and its sample prompts, and returns what was written.

    Raises InputError where one of the files is there already, before writing any.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{path} is no recipe's name: let it end in .yaml")
    targets = {path: "recipe.yaml", path.parent / SAMPLE: "prompts.jsonl"}
    for target in targets:
        if target.exists():
            raise InputError(
                f"{target} is there already; nothing was written: choose another place"
            )
    templates = files("tutelage") / "templates"
    for target, name in targets.items():
        try:
            write_atomically(target, (templates / name).read_bytes())
        except OSError as error:
            raise InputError(f"{target} cannot be written: {error.strerror}") from error
    return list(targets)
