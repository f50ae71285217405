"""tasks: what a run's prompts were split into, and a patch by which discovered tasks are named and merged."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from ledger.keys import write_atomically
from ledger.prompts import Item
from tutelage.stages.classifying import labels
from tutelage.visible import visible
from tutelage.workspace import Workspace, open_run, require_stage

PATCH = "tasks.yaml"
SHOWN = 3  # prompts of each kind
WIDTH = 100  # characters of a prompt


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task: its training prompts, the terms that set it apart, its surest and its least sure prompts."""

    name: str
    prompts: int
    terms: list[str]
    typical: list[str]
    borderline: list[str]


@dataclass(frozen=True, slots=True)
class TasksShown:
    """All tasks of a run, `unsure` last. `patch`: where names for discovered tasks stand to be edited.

    `tried` are the numbers of clusters that were weighed, each with its prediction strength and silhouette.
    """

    run: str
    tasks: list[TaskView]
    tried: list[dict[str, Any]]
    patch: str | None

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def lines(self) -> list[Any]:
        """For the terminal."""
        return list(self._lines())

    def _lines(self) -> Iterator[str]:
        for task in self.tasks:
            yield f"{visible(task.name)}  {task.prompts:,} prompt{'' if task.prompts == 1 else 's'}"
            yield f"  terms       {visible(', '.join(task.terms)) or '-'}"
            for kind in ("typical", "borderline"):
                for n, text in enumerate(getattr(task, kind)):
                    yield f"  {'' if n else kind:<11} {_one_line(text)}"
            yield ""
        if self.tried:
            tried = ", ".join(
                f"{s['tasks']}: {s['strength']:.2f}/{s['apart']:.2f}" for s in self.tried
            )
            yield f"tried, with how far two halves agree and how far clusters are apart: {tried}"
        if self.patch:
            yield f"To name or merge them, edit {self.patch} and copy it under `tasks:` of the recipe."


def show_tasks(run: Path) -> TasksShown:
    """The tasks of a run; writes the patch for its recipe anew. Raises InputError before `classify` ran."""
    workspace = open_run(run)
    require_stage(workspace, "classify")
    workspace.refuse_other_prompts()
    tasks = list(_views(workspace))
    done = workspace.outputs["classify"]
    patch = _write_patch(workspace) if done["discovered"] else None
    return TasksShown(workspace.recipe.run, tasks, done["tried"], str(patch) if patch else None)


def _views(workspace: Workspace) -> Iterator[TaskView]:
    from router.deciding import UNSURE, terms_of

    items = {item.prompt.key: item for item in workspace.pools.train}
    by_task: dict[str, list[Item]] = {name: [] for name in (*workspace.pools.tasks, UNSURE)}
    for key, (task, _) in labels(workspace).items():
        if key in items:
            by_task[task].append(items[key])
    texts = {name: [item.prompt.text for item in part] for name, part in by_task.items()}
    some = [name for name, told in texts.items() if told]
    terms = dict(zip(some, terms_of([texts[name] for name in some]), strict=True))
    for name, told in texts.items():
        if told or name != UNSURE:
            yield TaskView(
                name, len(told), terms.get(name, []), told[:SHOWN], told[SHOWN:][-SHOWN:]
            )


def _write_patch(workspace: Workspace) -> Path:
    """The names of the discovered tasks, as the recipe would take them."""
    named: Mapping[str, str] = workspace.recipe.tasks.names
    discovered = workspace.outputs["classify"]["discovered"]
    names = {name: named.get(name, name) for name in discovered}
    text = (
        f"# The tasks that were found in {visible(workspace.recipe.run)}. Give one a name of yours, or two\n"
        f"# one name to merge them, and copy this under `tasks:` of {visible(workspace.loaded.path.name)}.\n"
        + yaml.safe_dump({"names": names}, sort_keys=False, allow_unicode=True)
    )
    path = workspace.folder / PATCH
    write_atomically(path, text.encode())
    return path


def _one_line(text: str) -> str:
    return visible(" ".join(text.split()))[:WIDTH]
