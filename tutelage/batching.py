"""The batches that a run's teachers have at their providers: shown, and called off."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.watch import Watch
from tutelage.workspace import Workspace, open_run

if TYPE_CHECKING:
    from router.engine import AtProvider
    from router.teachers.protocol import Teacher


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """One batch. `batch` is the provider's id, None where it was not started; `began` is UTC.

    `state` is the provider's, or `prepared` or `uploaded`.
    """

    teacher: str
    batch: str | None
    state: str
    requests: int
    answered: int
    failed: int
    began: str
    problem: str

    @classmethod
    def of(cls, found: "AtProvider") -> "BatchStatus":
        """What of a batch a person wants to see."""
        parcel, batch = found.parcel, found.batch
        return cls(
            teacher=found.teacher,
            batch=parcel.batch,
            state=batch.state if batch else parcel.state,
            requests=len(parcel.works),
            answered=batch.answered if batch else 0,
            failed=batch.failed if batch else 0,
            began=f"{datetime.fromtimestamp(parcel.started_at / 1e6, UTC):%Y-%m-%d %H:%M:%S}",
            problem=batch.problem if batch else "",
        )


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches that are not taken in yet, oldest first. `note` says what comes of them next."""

    batches: list[BatchStatus]
    note: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def lines(self) -> list[Any]:
        """For the terminal."""
        if not self.batches:
            return [self.note]
        from tutelage.terminal import as_table

        header = ["teacher", "batch", "state", "requests", "answered", "failed", "began (UTC)"]
        rows = [
            [b.teacher, b.batch or "-", b.state, f"{b.requests:,}", f"{b.answered:,}",
             f"{b.failed:,}", b.began]
            for b in self.batches
        ]  # fmt: skip
        return [as_table("", header, rows), self.note]


def list_batches(run: Path) -> Batches:
    """What the providers have of a run's ledger. Raises InputError, TeacherError."""
    workspace = open_run(run)
    found = _at_providers(workspace, _batched(workspace), cancel=False)
    if not found:
        return Batches([], "no provider has a batch of this run's teachers")
    again = workspace.loaded.command("run")
    return Batches(found, f"`{again}` takes them in; --cancel calls them off")


def cancel_batches(run: Path, watch: Watch | None = None) -> Batches:
    """Calls off what the providers have, and takes in what was answered by then.

    Where a run is at work on the ledger, that run takes it in. Raises InputError, TeacherError,
    LedgerBusy.
    """
    from router.engine import call_off
    from tutelage.buying import show_progress, tell_failures

    workspace, watch = open_run(run), watch or Watch()
    teachers = _batched(workspace)
    holder = workspace.ledger.holder()
    if holder:
        found = _at_providers(workspace, teachers, cancel=True)
        called = sum(batch.state == "cancelling" for batch in found)
        note = f"{called:,} batches called off; process {holder['pid']} takes in what they answered by now"
        if not found:
            note = (
                f"process {holder['pid']} is at work, and no batch of it is in the ledger yet: ask again "
                "in some seconds"
            )
        return Batches(found, note)
    watch.stage_begins("batches", "calling off")
    with workspace.ledger.writing("batches --cancel"):
        purchase = call_off(
            {teacher.name: teacher for teacher in teachers},
            workspace.ledger,
            workspace.sampling,
            workspace.recipe.generate,
            run=workspace.run,
            on_progress=lambda progress: show_progress(watch, progress),
        )
    tell_failures(watch, purchase)
    cancelled = purchase.states.get("cancelled", 0)
    note = f"{purchase.bought:,} answers taken in, {cancelled:,} requests called off"
    watch.stage_ends("batches", note, purchase.seconds)
    return Batches([], f"{note}; the next run asks for these anew" if cancelled else note)


def _batched(workspace: Workspace) -> "list[Teacher]":
    teachers = workspace.recipe.teachers.items()
    return [workspace.open_teacher(name) for name, config in teachers if config.may_batch]


def _at_providers(
    workspace: Workspace, teachers: "Sequence[Teacher]", *, cancel: bool
) -> list[BatchStatus]:
    from router.engine import at_providers

    ledger = workspace.ledger
    workspace.fold_if_free()
    if not ledger.database.exists():
        return []
    for teacher in teachers:
        teacher.require_ready()
    deadline_s = workspace.recipe.generate.deadline_s
    found = asyncio.run(at_providers(ledger, teachers, deadline_s=deadline_s, cancel=cancel))
    return [BatchStatus.of(one) for one in found]
