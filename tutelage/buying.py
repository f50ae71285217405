"""Buying answers for a stage, with the engine's progress drawn by the watcher."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ledger.errors import TutelageError
from tutelage.watch import Watch
from tutelage.workspace import Workspace

if TYPE_CHECKING:
    from evals.summary import Nothing
    from router.engine import BoughtAnswer, Progress, Purchase, Request
    from router.teachers.protocol import Sampling, Teacher

    Answers = dict[tuple[str, str, int], BoughtAnswer]
    Measured = dict[tuple[str, str, int], BoughtAnswer | Nothing]


class AnswersMissing(TutelageError):
    """Requests ended without an answer, and the run cannot go on without these."""


def buy_answers(
    workspace: Workspace,
    watch: Watch,
    stage: str,
    requests: "Sequence[Request]",
    models: "Mapping[str, Teacher]",
    sampling: "Sampling | None" = None,
) -> "tuple[Answers, Purchase]":
    """Buys what the ledger lacks of `requests` and reads all answers back.

    `sampling` is the workspace's where none is given.
    """
    from router.engine import answers, buy

    sampling = sampling or workspace.sampling
    purchase = buy(
        requests,
        models,
        workspace.ledger,
        sampling,
        workspace.recipe.generate,
        stage=stage,
        run=workspace.run,
        on_progress=lambda progress: show_progress(watch, progress),
    )
    tell_failures(watch, purchase)
    return answers(workspace.ledger, requests, models, sampling), purchase


def measured_answers(
    workspace: Workspace,
    watch: Watch,
    stage: str,
    requests: "Sequence[Request]",
    models: "Mapping[str, Teacher]",
) -> "tuple[Measured, Purchase]":
    """What `buy_answers` gives, for grading: an answer that held nothing is one too, and counts 0."""
    from evals.summary import Nothing
    from router.engine import came_empty

    found, purchase = buy_answers(workspace, watch, stage, requests, models)
    empty = came_empty(workspace.ledger, requests, models, workspace.sampling)
    return {**dict.fromkeys(empty, Nothing()), **found}, purchase


def require_teachers(
    requests: "Sequence[Request]", found: "Measured", purchase: "Purchase", stage: str
) -> None:
    """Raises AnswersMissing where a teacher answered nothing at all: it may be the strongest."""
    asked = dict.fromkeys(request.teacher for request in requests)
    silent = [name for name in asked if not any(teacher == name for _, teacher, _ in found)]
    if silent:
        failures = purchase.failures.items()
        own = [pair for pair in failures if pair[1].teacher == silent[0]] or list(failures)
        why = f" ({own[0][0]}: {own[0][1].example})" if own else ""
        raise AnswersMissing(
            f"{stage}: teacher {silent[0]} answered none of its prompts{why}. What was bought is "
            "kept: mend the cause and run again, or take the teacher out of the recipe."
        )


def require_all(
    requests: "Sequence[Request]", found: "Measured", purchase: "Purchase", stage: str
) -> None:
    """Raises AnswersMissing where a measurement would stand on only some of its items."""
    missing = [r for r in requests if (r.prompt.key, r.teacher, r.n) not in found]
    if not missing:
        return
    why = next(iter(purchase.failures.items()), None)
    reason = f" ({why[0]}: {why[1].example})" if why else ""
    raise AnswersMissing(
        f"{stage}: {len(missing)} of {len(requests)} answers are missing, such as one of "
        f"{missing[0].teacher}{reason}. What was bought is kept: mend the cause and run again."
    )


def purchase_figures(workspace: Workspace, stage: str, purchase: "Purchase") -> dict[str, Any]:
    """What of a purchase the stage's record keeps."""
    return {"states": purchase.states, "cost_usd": cost_usd(workspace, stage)}


def cost_usd(workspace: Workspace, stage: str) -> float:
    """What this run has spent on a stage, all sittings together."""
    query = "SELECT coalesce(sum(cost_usd), 0) FROM request WHERE run = ? AND stage = ?"
    return float(workspace.ledger.rows(query, [workspace.run, stage])[0][0])


def tell_failures(watch: Watch, purchase: "Purchase") -> None:
    """Tells how many requests failed of what, each with an example."""
    for failure in sorted(purchase.failures):
        worst = purchase.failures[failure]
        watch.note(f"{worst.count} x {worst.teacher}: {worst.state} ({failure}): {worst.example}")


def show_progress(watch: Watch, progress: "Progress") -> None:
    """Shows how far a purchase is."""
    parts = progress.teachers.values()
    done = sum(part.done + part.failed for part in parts)
    total = sum(part.total for part in parts)
    failed = sum(part.failed for part in parts)
    tokens = sum(part.tokens for part in parts)
    cost = sum(part.cost_usd for part in parts)
    seconds = max(progress.elapsed_s, 1e-3)
    text = f"{done:,}/{total:,} answers, {done / seconds:,.0f}/s, {tokens / seconds:,.0f} tokens/s"
    if cost:
        text += f", ${cost:.4f}"
    if failed:
        classes = {name: n for part in parts for name, n in part.errors.items()}
        text += f", {failed} failed ({', '.join(sorted(classes))})"
    if held := [f"{n} for {p.held_s:.0f} s" for n, p in progress.teachers.items() if p.held_s >= 1]:
        text += f", held back: {', '.join(held)}"
    if starting := [name for name, part in progress.teachers.items() if part.starting]:
        text += f", starting the server of {', '.join(starting)}"
    if progress.draining:
        in_flight = sum(part.in_flight for part in parts)
        text = f"stopping: {in_flight} answers are under way (Ctrl-C again waits for none); {text}"
    watch.progress(done, total, text)
