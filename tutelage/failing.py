"""What of a run's requests ended without a sample: shown by class, and bought again."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import InputError
from ledger.lineage import FAILED_STATES, failed_requests, failures
from ledger.prompts import Prompt
from tutelage.buying import buy_answers
from tutelage.recipe import load_recipe
from tutelage.visible import visible
from tutelage.watch import Watch
from tutelage.workspace import Workspace, open_run

if TYPE_CHECKING:
    from router.engine import Purchase, Request


@dataclass(frozen=True, slots=True)
class Failures:
    """By stage, teacher and error class, each with an example. `again` is what to type next."""

    groups: list[dict[str, Any]]
    again: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"failures": self.groups, "again": self.again}

    def lines(self) -> list[Any]:
        """For the terminal."""
        if not self.groups:
            return ["every request of this run has an answer"]
        return [*(line for group in self.groups for line in _told(group)), self.again]


def list_failures(run: Path) -> Failures:
    """What failed in a run and was not mended since. Raises InputError where there is no such run."""
    workspace = open_run(run)
    workspace.fold_if_free()
    if not workspace.ledger.database.exists():
        return Failures([], "")
    groups = failures(workspace.ledger, workspace.run, FAILED_STATES)
    states = ",".join(dict.fromkeys(group["state"] for group in groups))
    command = workspace.loaded.command("run")
    again = f"again, only these: {command} --retry {states}; with all that is left: {command}"
    return Failures(groups, again)


def retry_recipe(
    path: Path,
    states: Sequence[str],
    *,
    seed: int | None = None,
    run: str | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Buys again what ended in one of `states` in a recipe's run, and nothing else.

    Gives how many requests are in which state now, and the teachers that were given up. Raises
    InputError for a state that no failed request has.
    """
    if wrong := [state for state in states if state not in FAILED_STATES]:
        known = ", ".join(FAILED_STATES)
        raise InputError(f"--retry {wrong[0]}: what can be bought again ended {known}")
    workspace, watch = Workspace.of(load_recipe(path, seed=seed, run=run)), watch or Watch()
    states_now: Counter[str] = Counter()
    paused: set[str] = set()
    with workspace.ledger.writing(f"tutelage run {path} --retry"):
        workspace.ledger.fold()
        try:
            for stage, requests in _requests(workspace, states, watch).items():
                purchase = _buy_again(workspace, watch, stage, requests)
                states_now.update(purchase.states)
                paused |= purchase.paused.keys()
        finally:
            workspace.stop_servers()
    again = workspace.loaded.command("run")
    watch.note(f"{states_now.total():,} requests were asked again. Go on with: {again}")
    return {"states": dict(states_now), "paused": sorted(paused)}


def _buy_again(
    workspace: Workspace, watch: Watch, stage: str, requests: "list[Request]"
) -> "Purchase":
    sampling = workspace.routed_sampling if stage == "generate" else workspace.sampling
    watch.stage_begins(stage, f"{len(requests):,} requests again")
    _, purchase = buy_answers(workspace, watch, stage, requests, workspace.teachers, sampling)
    ended = ", ".join(f"{count:,} {state}" for state, count in sorted(purchase.states.items()))
    watch.stage_ends(stage, ended, purchase.seconds)
    return purchase


def _requests(
    workspace: Workspace, states: Sequence[str], watch: Watch
) -> "dict[str, list[Request]]":
    """By stage, a run's requests in these states, of teachers that the recipe still has."""
    from router.engine import Request

    names = {teacher.key: name for name, teacher in workspace.teachers.items()}
    found: dict[str, list[Request]] = {}
    lost = 0
    for stage, key, n, task, *texts in failed_requests(workspace.ledger, workspace.run, states):
        if key in names:
            request = Request(Prompt.from_row(*texts), names[key], n, task)
            found.setdefault(stage, []).append(request)
        else:
            lost += 1
    if lost:
        watch.note(
            f"{lost:,} requests are left: the recipe has no teacher any more that they went to"
        )
    return found


def _told(group: dict[str, Any]) -> Iterator[str]:
    cost = f", ${group['cost_usd']:.4f}" if group["cost_usd"] else ""
    about = f"{group['state']} ({group['error_class']})" if group["error_class"] else group["state"]
    calls = group["attempts"] or 0
    yield (
        f"{group['requests']:,} x {group['teacher']} in {group['stage']}: {about}, "
        f"{calls:,} call{'' if calls == 1 else 's'}{cost}"
    )
    yield f"    why:    {visible(group['reason'])}"
    yield f"    prompt: {group['prompt'][:12]} {json.dumps(group['example'], ensure_ascii=False)[:120]}"
    yield ""
