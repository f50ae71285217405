"""The four sets of prompts of a run, which never share one: examples, probes, test items, training prompts."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ledger.errors import InputError
from ledger.keys import content_key
from ledger.prompts import Item
from ledger.section import HoldOut
from tutelage.recipe import Recipe
from tutelage.sources import Skipped, read_file, read_source


@dataclass(frozen=True, slots=True)
class Pools:
    """What each set holds. Probes and test items carry tasks and references; prompts to train on
    may, and their answers are graded then."""

    train: list[Item]
    examples: list[Item]
    probes: list[Item]
    test: list[Item]
    tasks: list[str]  # sorted; none where they are yet to be discovered
    skipped: Skipped = field(default_factory=Skipped)
    general: list[Item] = field(default_factory=list)  # of `evaluate.general`; tasks of their own
    clusters: dict[str, str] = field(default_factory=dict)  # what test items share, by prompt key

    def labelled(self, tasks: Sequence[str], task_of: Mapping[str, str]) -> "Pools":
        """The same with `tasks`, and the task (by prompt key) of each probe and test item that has none."""
        probes, test = (
            [i if i.task is not None else replace(i, task=task_of.get(i.prompt.key)) for i in items]
            for items in (self.probes, self.test)
        )
        return replace(self, probes=probes, test=test, tasks=list(tasks))

    @property
    def key(self) -> str:
        """A key over all prompts, by set."""
        sets = (self.train, self.examples, self.probes, self.test)
        return content_key([[item.prompt.key for item in items] for items in sets])

    def fingerprint(self, name: str) -> str:
        """A key over one set: its prompts, tasks, references and notes for scorers."""
        items: list[Item] = getattr(self, name)
        return content_key([[i.prompt.key, i.task, i.reference, i.meta] for i in items])


def load_pools(recipe: Recipe, base: Path) -> Pools:
    """Reads every source and sets aside what is held out. Raises InputError where sets overlap."""
    skipped = Skipped()
    lenient = skipped if recipe.on_bad_row == "skip" else None
    train: dict[str, Item] = {}
    for source in recipe.prompts:
        for item in read_source(source, base, recipe.seed, lenient):
            kept = item if recipe.tasks.given else replace(item, task=None)
            train.setdefault(item.prompt.key, kept)
    aside: dict[str, list[Item]] = {}
    for name, wanted in (
        ("evaluate", recipe.evaluate.source),
        ("probes", recipe.probes.source),
        ("tasks.examples", recipe.tasks.examples),
    ):
        if wanted is None:
            aside[name] = []
        elif isinstance(wanted, HoldOut):
            aside[name] = _hold_out(name, wanted.hold_out, train, recipe)
        else:
            items = read_file(base / wanted.file, wanted.file, "unknown", lenient)
            aside[name] = _checked(name, wanted.file, items, recipe)
    general = _general(recipe, base, lenient)
    _refuse_overlap({**aside, "evaluate.general": general, "prompts": list(train.values())})
    tasks = sorted(recipe.tasks.describe or {str(i.task) for i in aside["tasks.examples"]})
    if recipe.tasks.given:
        _same_tasks(aside, tasks, need_all=recipe.tasks.examples is not None)
    return Pools(
        list(train.values()),
        aside["tasks.examples"],
        aside["probes"],
        aside["evaluate"],
        tasks,
        skipped,
        general,
        _clusters(recipe.evaluate.cluster_by, aside["evaluate"]),
    )


def _clusters(by: str | None, test: list[Item]) -> dict[str, str]:
    """What test items share, by their prompts' keys; those without it are left out."""
    if by is None:
        return {}
    found = {
        item.prompt.key: json.dumps(item.meta[by], sort_keys=True)
        for item in test
        if by in item.meta
    }
    if not found:
        raise InputError(
            f"evaluate.cluster_by: no test item has {by!r} in its `meta`; give it to those that share a source"
        )
    return found


def _general(recipe: Recipe, base: Path, skipped: Skipped | None) -> list[Item]:
    """The general set; items without a task are of the task `general`."""
    wanted = recipe.evaluate.general
    if wanted is None:
        return []
    items = read_file(base / wanted.file, wanted.file, "unknown", skipped)
    for item in items:
        if item.reference is None:
            raise InputError(
                f"evaluate.general: {wanted.file}: every line needs a `reference`; {_quote(item)} has none"
            )
    named = [item if item.task is not None else replace(item, task="general") for item in items]
    try:
        wanted.scorers({str(item.task) for item in named})
    except ValueError as error:
        raise InputError(f"evaluate.general: {error}") from error
    return named


def _hold_out(name: str, count: int, train: dict[str, Item], recipe: Recipe) -> list[Item]:
    """Takes `count` items of each task out of `train`, in the order of a seeded hash; in all where tasks are
    not given.

    What differs from one of them in case or white space alone leaves `train` with it.
    """
    bare = recipe.tasks.examples is None  # items need no task
    by_task: dict[str, list[Item]] = defaultdict(list)
    for item in train.values():
        if (item.task is not None or bare) and item.reference is not None:
            by_task[item.task or "all"].append(item)
    if not by_task:
        needed = "a reference" if bare else "both a task and a reference"
        raise InputError(
            f"{name}: hold_out: no entry of `prompts:` carries {needed}; "
            "add them to the prompt file, or name a `file:`"
        )
    held = []
    for task, items in sorted(by_task.items()):
        if len(items) <= count:
            raise InputError(
                f"{name}: hold_out: {count} of {task} asked for, but only {len(items)} prompts with "
                "a reference are left there; add prompts, or hold out fewer"
            )
        items.sort(key=lambda item: content_key([recipe.seed, item.prompt.key]))
        held.extend(items[:count])
    gone = {_folded(item) for item in held}
    for key in [key for key, item in train.items() if _folded(item) in gone]:
        del train[key]
    return held


def _checked(name: str, file: str, items: Sequence[Item], recipe: Recipe) -> list[Item]:
    """Items of a file that must carry a task where tasks are made by examples (and, but for examples, a
    reference), cut by seed."""
    kept: dict[str | None, list[Item]] = defaultdict(list)
    for item in items:
        if item.task is None and recipe.tasks.examples is not None:
            raise InputError(f"{name}: {file}: every line needs a `task`; {_quote(item)} has none")
        if item.reference is None and name != "tasks.examples":
            raise InputError(
                f"{name}: {file}: every line needs a `reference`; {_quote(item)} has none"
            )
        task = item.task if recipe.tasks.given else None
        kept[task].append(replace(item, task=task))
    per_task = recipe.probes.per_task if name == "probes" else None
    if per_task is not None:
        for task_items in kept.values():
            task_items.sort(key=lambda item: content_key([recipe.seed, item.prompt.key]))
    return [item for task in sorted(kept, key=str) for item in kept[task][:per_task]]


def _refuse_overlap(sets: dict[str, list[Item]]) -> None:
    """Two sets may share no prompt, also not one that differs in case or white space alone."""
    folded = {name: {_folded(item): item for item in items} for name, items in sets.items()}
    names = list(folded)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if shared := folded[first].keys() & folded[second].keys():
                example = folded[first][min(shared)]
                raise InputError(
                    f"{first} and {second} share {len(shared)} prompts, such as {_quote(example)}: "
                    "what is measured must not be seen before; remove them from one of the two"
                )


def _same_tasks(aside: dict[str, list[Item]], known: list[str], *, need_all: bool) -> None:
    """Probes and test items are of known tasks and, with `need_all`, each task has some."""
    for name in ("probes", "evaluate"):
        found = {item.task for item in aside[name] if item.task is not None}
        if stray := sorted(found - set(known)):
            said = "has no examples" if need_all else "is not described"
            raise InputError(f"{name}: task {stray[0]} {said}; the tasks are {', '.join(known)}")
        if need_all and (lost := sorted(set(known) - found)):
            raise InputError(f"{name}: task {lost[0]} has no item there; add some, with references")


def _folded(item: Item) -> str:
    return " ".join(item.prompt.text.casefold().split())


def _quote(item: Item) -> str:
    return repr(item.prompt.text[:80])
