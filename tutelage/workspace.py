"""A run's workspace: the recipe with everything that it names, opened when first asked for."""

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.config import JUDGE
from ledger.errors import InputError
from ledger.keys import content_key
from ledger.prompts import Item
from ledger.store import Ledger
from tutelage.pools import Pools, load_pools
from tutelage.recipe import LoadedRecipe, Recipe
from tutelage.routed import Routed
from tutelage.runfolder import load_run

if TYPE_CHECKING:
    from router.embedding import Embedder
    from router.teachers.local import LocalTeacher
    from router.teachers.protocol import Sampling, Teacher

STUDENT_NAME, BASELINE_NAME = "student", "baseline"
OWN_BATCH = 64  # prompts that student and baseline answer together


@dataclass
class Workspace:
    """What the stages share. `outputs` holds, by stage, what that stage left behind."""

    loaded: LoadedRecipe
    ledger: Ledger
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    graded: dict[str, float] = field(default_factory=dict)  # sample key -> score, in this process
    closed: dict[str, frozenset[str]] = field(default_factory=dict)  # teacher -> training prompts
    _routed: dict[str, Routed] = field(default_factory=dict)  # by the key of `route`
    _pools: dict[str, Pools] = field(default_factory=dict)  # by the key of `classify`

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
    def routed(self) -> Routed:
        """Where `route` sent every prompt."""
        key = self.keys["route"]
        if key not in self._routed:
            from router.deciding import read_prompt_routes

            routes = self.outputs["route"]["routes"]
            by_task = {task: str(route["teacher"]) for task, route in routes.items()}
            self._routed[key] = Routed(by_task, read_prompt_routes(self.ledger, key))
        return self._routed[key]

    @property
    def router_folder(self) -> Path:
        """The router that `route` fitted."""
        return self.folder / str(self.outputs["route"]["folder"])

    @property
    def mix_folder(self) -> Path:
        """The mix that `mix` wrote."""
        return self.folder / str(self.outputs["mix"]["folder"])

    @property
    def records_folder(self) -> Path | None:
        """What `capture` wrote; None where the student learns from text alone."""
        folder = self.outputs["capture"]["folder"]
        return None if folder is None else self.folder / str(folder)

    @property
    def student_folder(self) -> Path:
        """The student that `train` wrote."""
        return self.folder / str(self.outputs["train"]["folder"])

    @cached_property
    def _pools_as_read(self) -> Pools:
        return load_pools(self.recipe, self.base)

    @property
    def pools(self) -> Pools:
        """Examples, probes, test items, training prompts; from `classify` on all but the last have tasks."""
        if "classify" not in self.outputs:
            return self._pools_as_read
        key = self.keys["classify"]
        if key not in self._pools:
            done = self.outputs["classify"]
            self._pools[key] = self._pools_as_read.labelled(done["task_names"], done["given"])
        return self._pools[key]

    @cached_property
    def teachers(self) -> "dict[str, Teacher]":
        """The teachers that prompts may be routed to, opened: no weights loaded, no call made."""
        return {name: self.open_teacher(name) for name in self.recipe.eligible}

    @cached_property
    def judges(self) -> "dict[str, Teacher]":
        """The models that grade, opened like teachers."""
        from router.teachers.opening import open_teacher

        return {
            name: open_teacher(name, config, self.base, self.folder / "logs")
            for name, config in self.recipe.judges.items()
        }

    def open_teacher(self, name: str) -> "Teacher":
        """One of the recipe's teachers. Raises TeacherUnavailable."""
        from router.teachers.opening import open_teacher

        return open_teacher(name, self.recipe.teachers[name], self.base, self.folder / "logs")

    def fold_if_free(self) -> None:
        """Folds what a killed run left in the inbox; a run that is at work folds for itself."""
        if self.ledger.waiting() and not self.ledger.holder():
            with self.ledger.writing("fold"):
                self.ledger.fold()

    def stop_servers(self) -> None:
        """Ends the servers that were started for teachers; the next purchase starts them again."""
        from router.teachers.server import stop_servers

        stop_servers()

    @cached_property
    def embedder(self) -> "Embedder":
        """The embedding model, by its identity; weights are loaded when something is embedded."""
        from router.embedding import load_embedder

        return load_embedder(self.recipe.tasks.embedding, self.base)

    @property
    def sampling(self) -> "Sampling":
        """How every model of this run is asked to answer."""
        return replace(self.routed_sampling, top_logprobs=0)

    @property
    def routed_sampling(self) -> "Sampling":
        """How the answers are asked for that the mix is made of."""
        from router.engine import sampling_of

        return sampling_of(self.recipe.generate)

    @cached_property
    def _start(self) -> tuple[str, str | None]:
        """Where the student's base is, and, where its weights are cut or drawn, by what they are known."""
        from trainer.base import find_base, revision
        from trainer.shaping import is_shaped

        student = self.recipe.student
        place = find_base(student.base, self.base)
        if not is_shaped(student, place):
            return place, None
        return place, content_key(
            [revision(place), student.layers, student.shape, self.recipe.seed]
        )

    @property
    def baseline_key(self) -> str:
        """Which model the student starts from. Makes no weights. Raises BadBase or TeacherUnavailable."""
        return self._start[1] or self.baseline.key

    @cached_property
    def baseline(self) -> "LocalTeacher":
        """The student before training, as something that answers; weights that are cut or drawn are made.

        Raises BadBase or TeacherUnavailable.
        """
        from router.teachers.opening import find_model, open_local
        from trainer.base import lent_template
        from trainer.shaping import starting_weights

        student, (_, made) = self.recipe.student, self._start
        place = student.base
        if made is not None:
            into = (self.folder / "base" / made[:12]).resolve()
            place = starting_weights(student, self.base, into, self.recipe.seed)
        folder = find_model("student.base", place, self.base)
        return open_local(
            BASELINE_NAME,
            folder,
            batch_size=OWN_BATCH,
            licence=student.licence or "unknown",
            chat_template=lent_template(folder),
        )

    def open_student(self, folder: Path | None = None) -> "LocalTeacher":
        """A student, as something that answers: the one that `train` wrote, or another one."""
        from router.teachers.opening import open_local

        licence = self.recipe.student.licence or "unknown"
        folder = folder or self.student_folder
        return open_local(STUDENT_NAME, folder, batch_size=OWN_BATCH, licence=licence)

    def refuse_other_prompts(self) -> None:
        """Raises InputError where the recipe's files do not give the prompts that this run had."""
        if self._pools_as_read.key != self.outputs["classify"]["prompts"]:
            raise InputError(
                f"the prompts of {self.loaded.path} are not those that {self.folder} ran with: a file "
                f"that it reads was edited. Bring it back, or run again: "
                f"`{self.loaded.command('run')}`"
            )

    def scorer(self, name: str) -> "dict[str, str]":
        """By task, the scorer of `probes` or `evaluate`. Raises BadScorer, InputError for a task without."""
        from evals.scorers import find_scorer

        own = getattr(self.recipe, name).scorer
        chosen = own if own is not None else self.recipe.probes.scorer
        for each in [chosen] if isinstance(chosen, str) else chosen.values():
            if each != JUDGE:
                find_scorer(each)  # a function of the user's may not be there
        if isinstance(chosen, str):
            return dict.fromkeys(self.pools.tasks, chosen)
        if lost := [task for task in self.pools.tasks if task not in chosen]:
            raise InputError(f"{name}.scorer names no scorer for task {lost[0]}; add it")
        return dict(chosen)

    def in_seeded_order(self, items: list[Item]) -> list[Item]:
        """Items in an order that depends on the seed and their content alone."""
        return sorted(items, key=lambda item: content_key([self.recipe.seed, item.prompt.key]))


def recorded(ledger: Ledger, run: str, name: str, key: str) -> dict[str, Any] | None:
    """What an earlier run of a stage with the same inputs left behind, or None."""
    if not ledger.database.exists():
        return None
    rows = ledger.rows(
        "SELECT output, seconds FROM stage WHERE run = ? AND name = ? AND inputs = ? "
        "ORDER BY id DESC LIMIT 1",
        [run, name, key],
    )
    return {**json.loads(rows[0][0]), "seconds": rows[0][1]} if rows else None


def open_run(place: Path) -> Workspace:
    """A run as it stands, named by its folder or its recipe. Raises InputError where there is none."""
    loaded, note = load_run(place)
    workspace = Workspace.of(loaded)
    for name, key in note.stages.items():
        found = recorded(workspace.ledger, workspace.run, name, key)
        if found is not None:
            workspace.keys[name], workspace.outputs[name] = key, found
    return workspace


def require_stage(workspace: Workspace, name: str) -> None:
    """Raises InputError where a run has not come through a stage, saying what to type."""
    if name not in workspace.outputs:
        raise InputError(
            f"{workspace.folder} has not come through `{name}` with its recipe yet: "
            f"`{workspace.loaded.command('run')}`"
        )
