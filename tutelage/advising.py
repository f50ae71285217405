"""next: what would make a run better, and why, as a patch for its recipe. Nothing is changed and nothing asked.

    advise(Path("runs/quickstart"))

Four things are looked for, task by task: too few test items for a verdict, a student that stays behind its
teacher, teachers that know between them what none knows alone, and a route that the guard left with the best
single teacher because the probes were too few.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from ledger.keys import write_atomically
from tutelage.visible import visible
from tutelage.workspace import Workspace, open_run, require_stage

PATCH = "next.yaml"
MORE = 1.5  # times its share, for a task that stays behind
HEADROOM = 0.05  # of the score: what all teachers know between them beyond the routed one


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to change about a task, and why. `items`: how many test items it takes, for `test`."""

    task: str
    kind: Literal["test", "share", "teacher", "probes"]
    what: str
    why: str
    items: int = 0


@dataclass(frozen=True, slots=True)
class Advice:
    """What would make a run better. `patch`: where the recipe's changes stand, None where there are none."""

    run: str
    steps: list[Step]
    changes: dict[str, Any]
    patch: str | None

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def lines(self) -> list[Any]:
        """For the terminal."""
        if not self.steps:
            return [f"{self.run}: every task is within the margin; nothing stands out."]
        lines = [
            line
            for step in self.steps
            for line in (f"{step.task}: {step.what}", f"  since {step.why}")
        ]
        if self.patch:
            lines += [
                "",
                f"The changes stand in {self.patch}; copy what you want of them into the recipe.",
            ]
        return list(lines)


def advise(run: Path) -> Advice:
    """What to change next; writes the patch anew. Raises InputError before `evaluate` ran."""
    workspace = open_run(run)
    require_stage(workspace, "evaluate")
    found, changes = list(_steps(workspace)), _Changes(workspace)
    for step in found:
        changes.take(step)
    patch, path = None, workspace.folder / PATCH
    if changes.fields:
        write_atomically(path, _text(workspace, found, changes.fields).encode())
        patch = str(path)
    else:
        path.unlink(missing_ok=True)  # of an earlier time
    return Advice(workspace.recipe.run, found, changes.fields, patch)


def _steps(workspace: Workspace) -> Iterator[Step]:
    from evals.stats import PairedTest

    evaluated, routes = workspace.outputs["evaluate"]["tasks"], workspace.outputs["route"]["routes"]
    mixed = _mixed(workspace)
    for task, found in evaluated.items():
        verdict, teacher = found["verdict"], found["teacher"]
        student = found["models"]["student"]
        if (further := verdict["further"]) is not None:
            yield Step(
                task,
                "test",
                f"test it on {further:,} more items",
                f"{student['n']:,} are too few to say whether the student is within the margin",
                student["n"] + further,
            )
        worse = PairedTest(**found["against_teacher"]).is_worse
        if verdict["decision"] == "no" or (worse and verdict["decision"] == "not enough data"):
            yield Step(
                task,
                "share",
                "give it a larger share of the mix, with more prompts",
                f"the student scores {student['mean']:.3f} and its teacher {teacher['mean']:.3f}, and "
                f"{mixed.get(task, 0):,} samples of the mix are of this task",
            )
        if found["oracle"]["mean"] - teacher["mean"] > HEADROOM:
            yield Step(
                task,
                "teacher",
                "let several teachers answer (`route: {policy: all}`) and keep the best, or add a teacher",
                f"the teachers know {found['oracle']['mean']:.3f} of the test between them, and the routed one "
                f"{teacher['mean']:.3f}",
            )
        if routes[task]["guarded"]:
            yield Step(
                task,
                "probes",
                "buy more probes",
                f"another teacher looked stronger than {routes[task]['teacher']}, and not beyond noise",
            )


def _mixed(workspace: Workspace) -> dict[str, int]:
    """Samples of the mix by task."""
    from mixer import read_blend

    counts: dict[str, int] = {}
    for cell in read_blend(workspace.mix_folder).cells:
        counts[cell.task] = counts.get(cell.task, 0) + cell.samples
    return counts


class _Changes:
    """The recipe's fields that the steps change, as far as a number can be said."""

    def __init__(self, workspace: Workspace) -> None:
        self.recipe, self.tasks = workspace.recipe, workspace.pools.tasks
        self.fields: dict[str, Any] = {}

    def take(self, step: Step) -> None:
        """Adds what a step changes."""
        recipe = self.recipe
        if step.kind == "test" and recipe.evaluate.hold_out is not None:
            before = self.fields.get("evaluate", {}).get("hold_out", 0)
            self.fields["evaluate"] = {"hold_out": max(step.items, before)}
        if step.kind == "probes" and recipe.probes.hold_out is not None:
            self.fields["probes"] = {"hold_out": 2 * recipe.probes.hold_out}
        if step.kind == "share":
            self._enlarge(step.task)

    def _enlarge(self, task: str) -> None:
        """A larger share for a task at the cost of all others; the stages of a curriculum are left alone."""
        if self.recipe.mix.stages is not None:
            return
        shares = self.fields.get("mix", {}).get("shares") or self._shares()
        if task not in shares:
            return
        larger = {name: share * (MORE if name == task else 1) for name, share in shares.items()}
        total = sum(larger.values())
        rounded = {name: round(share / total, 4) for name, share in larger.items()}
        others = sum(share for name, share in rounded.items() if name != task)
        rounded[task] = round(1 - others, 4)
        self.fields["mix"] = {"shares": rounded}

    def _shares(self) -> dict[str, float]:
        given = self.recipe.mix.shares
        if given is not None:
            return {name: share.share for name, share in given.items()}
        return {name: 1 / len(self.tasks) for name in self.tasks}


def _text(workspace: Workspace, steps: list[Step], fields: dict[str, Any]) -> str:
    why = "\n".join(f"# {visible(step.task)}: {step.what}, since {step.why}." for step in steps)
    return (
        f"# What would make {visible(workspace.recipe.run)} better; copy what you want of it into "
        f"{visible(workspace.loaded.path.name)}.\n{why}\n"
        + yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    )
