"""Buying answers for a stage, with the engine's progress drawn by the watcher."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ledger.errors import TutelageError
from ledger.prompts import Prompt
from tutelage.watch import Watch
from tutelage.workspace import Workspace

if TYPE_CHECKING:
    from evals.summary import Nothing
    from router.engine import BoughtAnswer, Progress, Purchase, Request, TeacherProgress
    from router.teachers.protocol import Sampling, Teacher

    Answers = dict[tuple[str, str, int], BoughtAnswer]
    Measured = dict[tuple[str, str, int], BoughtAnswer | Nothing]


PAUSED = 4  # exit code of a run in which a teacher was given up


class AnswersMissing(TutelageError):
    """Requests ended without an answer, and the run cannot go on without these."""

    def __init__(self, message: str, paused: Collection[str]) -> None:
        """`paused` names the teachers that were given up on the way."""
        super().__init__(message)
        if paused:
            self.exit_code = PAUSED


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
    """What `buy_answers` gives, for grading: an answer that held nothing, or broke its JSON schema, is one too,
    and counts 0."""
    from evals.summary import Nothing
    from router.engine import came_to_nothing

    found, purchase = buy_answers(workspace, watch, stage, requests, models)
    empty = came_to_nothing(workspace.ledger, requests, models, workspace.sampling)
    return {**dict.fromkeys(empty, Nothing()), **found}, purchase


def cannot_take(workspace: Workspace, name: str, prompts: Sequence[Prompt]) -> dict[int, str]:
    """Number of a prompt -> why a teacher cannot take it, where it cannot; see `router.teachers.fitting`."""
    from router.teachers.fitting import unable

    return unable(workspace.teachers[name], prompts, workspace.sampling)


def closed_to(workspace: Workspace, name: str) -> frozenset[str]:
    """The keys of the training prompts that a teacher cannot take."""
    if name not in workspace.closed:
        prompts = [item.prompt for item in workspace.pools.train]
        found = cannot_take(workspace, name, prompts)
        workspace.closed[name] = frozenset(prompts[i].key for i in found)
    return workspace.closed[name]


def limits(workspace: Workspace) -> dict[str, Any]:
    """What decides which prompts a teacher can take, for the keys of stages."""
    return {
        name: [teacher.context, sorted(teacher.lacks), workspace.sampling.max_tokens]
        for name, teacher in workspace.teachers.items()
    }


def require_teachers(
    requests: "Sequence[Request]", found: "Measured", purchase: "Purchase", stage: str
) -> None:
    """Raises AnswersMissing where a teacher answered nothing at all: it may be the strongest."""
    asked = dict.fromkeys(request.teacher for request in requests)
    silent = [name for name in asked if not any(teacher == name for _, teacher, _ in found)]
    if silent:
        why = _why(purchase, silent[0])
        raise AnswersMissing(
            f"{stage}: teacher {silent[0]} answered none of its prompts{why}. What was bought is kept: mend "
            "the cause and run again, or take the teacher out of the recipe.",
            purchase.paused,
        )


def require_all(
    requests: "Sequence[Request]", found: "Measured", purchase: "Purchase", stage: str
) -> None:
    """Raises AnswersMissing where a measurement would stand on only some of its items."""
    missing = [r for r in requests if (r.prompt.key, r.teacher, r.n) not in found]
    if not missing:
        return
    teacher = missing[0].teacher
    raise AnswersMissing(
        f"{stage}: {len(missing)} of {len(requests)} answers are missing, such as one of "
        f"{teacher}{_why(purchase, teacher)}. What was bought is kept: mend the cause and run again.",
        purchase.paused,
    )


def _why(purchase: "Purchase", teacher: str) -> str:
    """A teacher's first failure, in brackets."""
    own = next(iter(purchase.failures_of.get(teacher, {}).items()), None)
    return f" ({own[0]}: {own[1].example})" if own else ""


def purchase_figures(workspace: Workspace, stage: str, purchase: "Purchase") -> dict[str, Any]:
    """What of a purchase the stage's record keeps."""
    return {
        "states": purchase.states,
        "paused": sorted(purchase.paused),
        "cost_usd": cost_usd(workspace, stage),
    }


def cost_usd(workspace: Workspace, stage: str) -> float:
    """What this run has spent on a stage, all sittings together."""
    query = "SELECT coalesce(sum(cost_usd), 0) FROM request WHERE run = ? AND stage = ?"
    return float(workspace.ledger.rows(query, [workspace.run, stage])[0][0])


def tell_failures(watch: Watch, purchase: "Purchase") -> None:
    """Tells how many requests failed of what, each with an example."""
    for name, failures in purchase.failures_of.items():
        for error_class, failure in sorted(failures.items()):
            watch.note(
                f"{failure.count:,} x {name}: {failure.state} ({error_class}): {failure.example}"
            )
    for name, reason in purchase.paused.items():
        watch.note(f"{name} is paused, the others went on: {reason.splitlines()[0]}")


def show_progress(watch: Watch, progress: "Progress") -> None:
    """Shows how far a purchase is, in all and by teacher."""
    parts = progress.teachers.values()
    done = sum(part.done + part.failed for part in parts)
    total = sum(part.total for part in parts)
    failed = sum(part.failed for part in parts)
    cost = sum(part.cost_usd for part in parts)
    rates = [part.rates for part in parts]
    answers_s, tokens_s = (sum(rate) for rate in zip(*rates, strict=True)) if rates else (0.0, 0.0)
    text = f"{done:,}/{total:,} answers, {answers_s:,.0f}/s, {tokens_s:,.0f} tokens/s"
    if cost:
        text += f", ${cost:.4f}"
    if failed:
        text += f", {failed:,} failed"
    if progress.draining:
        in_flight = sum(part.in_flight for part in parts)
        text = f"stopping: {in_flight} answers are under way (Ctrl-C again waits for none); {text}"
    watch.progress(done, total, text, [_row(*pair) for pair in progress.teachers.items()])


def _row(name: str, part: "TeacherProgress") -> tuple[str, ...]:
    """A teacher's cells, under TEACHER_COLUMNS."""
    answers_s, tokens_s = part.rates
    failed = ", ".join(f"{count:,} {error}" for error, count in sorted(part.errors.items()))
    usd = f"{part.cost_usd:.4f}" if part.cost_usd else "0"
    if part.cap_usd is not None and part.left_usd is not None:
        usd = f"{part.cap_usd - part.left_usd:.4f} of {part.cap_usd:.2f}"
    return (
        name,
        f"{part.done + part.failed:,}/{part.total:,}",
        f"{part.in_flight:,}",
        f"{answers_s:,.1f}",
        f"{tokens_s:,.0f}",
        failed or "0",
        usd,
        _duration(part.eta_s),
        _condition(part),
    )


def _condition(part: "TeacherProgress") -> str:
    if part.paused:
        return "paused"
    if part.starting:
        return "its server starts"
    return f"held back for {part.held_s:.0f} s" if part.held_s >= 1 else ""


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
