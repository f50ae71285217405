"""A run's workspace: the recipe with everything that it names, opened when first asked for."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import InputError
from ledger.keys import content_key
from ledger.prompts import Item
from ledger.store import Ledger
from tutelage.pools import Pools, load_pools
from tutelage.recipe import LoadedRecipe, Recipe, load_recipe

if TYPE_CHECKING:
    from router.embedding import Embedder
    from router.teachers.protocol import Sampling, Teacher

RECIPE_COPY = "recipe.yaml"
SOURCE_NOTE = "source.json"


@dataclass
class Workspace:
    """What the stages share. `outputs` holds, by stage, what that stage left behind."""

    loaded: LoadedRecipe
    ledger: Ledger
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, loaded: LoadedRecipe) -> "Workspace":
        """A workspace for a recipe; touches no disk."""
        return cls(loaded, Ledger(loaded.recipe.ledger_folder))

    @property
    def recipe(self) -> Recipe:
        """The checked recipe."""
        return self.loaded.recipe

    @property
    def base(self) -> Path:
        """What the paths in the recipe are relative to."""
        return self.loaded.base

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.recipe.folder

    @property
    def run(self) -> str:
        """What the ledger calls this run: its folder's name, which is its own beside the ledger."""
        return self.folder.resolve().name

    @property
    def mix_folder(self) -> Path:
        """The mix that `mix` wrote."""
        return self.folder / str(self.outputs["mix"]["folder"])

    @property
    def student_folder(self) -> Path:
        """The student that `train` wrote."""
        return self.folder / str(self.outputs["train"]["folder"])

    @cached_property
    def pools(self) -> Pools:
        """Examples, probes, test items and training prompts."""
        return load_pools(self.recipe, self.base)

    @cached_property
    def teachers(self) -> "dict[str, Teacher]":
        """The recipe's teachers, opened: no weights loaded, no call made."""
        from router.teachers.opening import open_teacher

        return {
            name: open_teacher(name, config, self.base)
            for name, config in self.recipe.teachers.items()
        }

    @cached_property
    def embedder(self) -> "Embedder":
        """The embedding model, by its identity; weights are loaded when something is embedded."""
        from router.embedding import load_embedder

        return load_embedder(self.recipe.tasks.embedding, self.base)

    @property
    def sampling(self) -> "Sampling":
        """How every model of this run is asked to answer."""
        from router.engine import sampling_of

        return sampling_of(self.recipe.generate)

    @cached_property
    def base_revision(self) -> str:
        """A key over the student's base model. Raises BadBase or TeacherUnavailable."""
        from router.teachers.opening import open_local
        from trainer.base import find_base

        find_base(self.recipe.student.base, self.base)
        return open_local("student.base", self.recipe.student.base, base_dir=self.base).key

    def scorer(self, name: str) -> "dict[str, str]":
        """By task, the scorer of `probes` or `evaluate`."""
        own = getattr(self.recipe, name).scorer
        chosen = own if own is not None else self.recipe.probes.scorer
        if isinstance(chosen, str):
            return dict.fromkeys(self.pools.tasks, chosen)
        if lost := [task for task in self.pools.tasks if task not in chosen]:
            raise InputError(f"{name}.scorer names no scorer for task {lost[0]}; add it")
        return dict(chosen)

    def in_seeded_order(self, items: list[Item]) -> list[Item]:
        """Items in an order that depends on the seed and their content alone."""
        return sorted(items, key=lambda item: content_key([self.recipe.seed, item.prompt.key]))


def find_recipe(place: Path) -> Path:
    """The recipe of a run: a recipe file itself, or the run folder's note of where it stands.

    Raises InputError where neither is there.
    """
    if place.is_file():
        return place
    note = place / SOURCE_NOTE
    if note.is_file():
        import json

        named = Path(json.loads(note.read_text("utf-8"))["recipe"])
        if named.is_file():
            return named
        raise InputError(
            f"{place} was made from {named}, which is gone: name the recipe file instead"
        )
    raise InputError(
        f"{place} is neither a recipe file nor the folder of a run: give recipes/NAME.yaml or runs/NAME"
    )


def open_run(place: Path) -> Workspace:
    """The workspace of a run, named by its folder (the recipe as it ran) or by its recipe."""
    import json

    path, note = find_recipe(place), place / SOURCE_NOTE
    if not note.is_file():
        return Workspace.of(load_recipe(path))
    seed = json.loads(note.read_text("utf-8"))["seed"]
    return Workspace.of(load_recipe(place / RECIPE_COPY, origin=path, seed=seed, run=str(place)))
