"""The four sets of prompts of a run, which never share one: examples, probes, test items, training prompts."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ledger.errors import InputError
from ledger.keys import content_key
from ledger.prompts import Item
from ledger.section import HoldOut
from tutelage.recipe import Recipe
from tutelage.sources import Skipped, read_file, read_source


@dataclass(frozen=True, slots=True)
class Pools:
    """What each set holds. `train` has no use for references; the others carry tasks and references."""

    train: list[Item]
    examples: list[Item]
    probes: list[Item]
    test: list[Item]
    skipped: Skipped = field(default_factory=Skipped)

    @property
    def tasks(self) -> list[str]:
        """The tasks that the examples name, sorted."""
        return sorted({item.task for item in self.examples if item.task is not None})

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
            train.setdefault(item.prompt.key, item)
    aside: dict[str, list[Item]] = {}
    for name, wanted in (
        ("evaluate", recipe.evaluate.source),
        ("probes", recipe.probes.source),
        ("tasks.examples", recipe.tasks.examples),
    ):
        if isinstance(wanted, HoldOut):
            aside[name] = _hold_out(name, wanted.hold_out, train, recipe.seed)
        else:
            items = read_file(base / wanted.file, wanted.file, "unknown", lenient)
            per_task = recipe.probes.per_task if name == "probes" else None
            aside[name] = _checked(name, wanted.file, items, per_task, recipe.seed)
    _refuse_overlap({**aside, "prompts": list(train.values())})
    _same_tasks(aside)
    return Pools(
        list(train.values()), aside["tasks.examples"], aside["probes"], aside["evaluate"], skipped
    )


def _hold_out(name: str, count: int, train: dict[str, Item], seed: int) -> list[Item]:
    """Takes `count` items of each task out of `train`, in the order of a seeded hash.

    What differs from one of them in case or white space alone leaves `train` with it.
    """
    by_task: dict[str, list[Item]] = defaultdict(list)
    for item in train.values():
        if item.task is not None and item.reference is not None:
            by_task[item.task].append(item)
    if not by_task:
        raise InputError(
            f"{name}: hold_out: no entry of `prompts:` carries both a task and a reference; "
            "add them to the prompt file, or name a `file:`"
        )
    held = []
    for task, items in sorted(by_task.items()):
        if len(items) <= count:
            raise InputError(
                f"{name}: hold_out: {count} of {task} asked for, but only {len(items)} prompts with "
                "a reference are left there; add prompts, or hold out fewer"
            )
        items.sort(key=lambda item: content_key([seed, item.prompt.key]))
        held.extend(items[:count])
    gone = {_folded(item) for item in held}
    for key in [key for key, item in train.items() if _folded(item) in gone]:
        del train[key]
    return held


def _checked(
    name: str, file: str, items: Sequence[Item], per_task: int | None, seed: int
) -> list[Item]:
    """Items of a file that must carry a task (and, but for examples, a reference), cut by seed."""
    kept: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.task is None:
            raise InputError(f"{name}: {file}: every line needs a `task`; {_quote(item)} has none")
        if item.reference is None and name != "tasks.examples":
            raise InputError(
                f"{name}: {file}: every line needs a `reference`; {_quote(item)} has none"
            )
        kept[item.task].append(item)
    if per_task is not None:
        for task_items in kept.values():
            task_items.sort(key=lambda item: content_key([seed, item.prompt.key]))
    return [item for task in sorted(kept) for item in kept[task][:per_task]]


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


def _same_tasks(aside: dict[str, list[Item]]) -> None:
    known = {item.task for item in aside["tasks.examples"]}
    for name in ("probes", "evaluate"):
        found = {item.task for item in aside[name]}
        if stray := sorted(str(task) for task in found - known):
            raise InputError(
                f"{name}: task {stray[0]} has no examples; the tasks are {', '.join(sorted(map(str, known)))}"
            )
        if lost := sorted(str(task) for task in known - found):
            raise InputError(f"{name}: task {lost[0]} has no item there; add some, with references")


def _folded(item: Item) -> str:
    return " ".join(item.prompt.text.casefold().split())


def _quote(item: Item) -> str:
    return repr(item.prompt.text[:80])
