"""How far a run is, from any shell while it goes on; and its report, written again."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ledger.errors import InputError
from ledger.lineage import REQUESTS
from tutelage.pipeline import STAGE_NAMES
from tutelage.runfolder import load_run, was_edited
from tutelage.workspace import Workspace, open_run, require_stage

OUTDATED = "  (before an edit; to be done again)"


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One stage of a run: seconds and end of the newest time it was done, or None.

    `current` is false where that was for another state of the recipe or its files.
    """

    name: str
    seconds: float | None
    ended_at: str | None
    current: bool


@dataclass(frozen=True, slots=True)
class Status:
    """A run as the ledger has it now. `waiting` rows are durable but not folded yet.

    `edited`: the recipe file says something else now than when it ran. `plan` is what to type then.
    """

    run: str
    recipe: str
    plan: str
    edited: bool
    holder: dict[str, Any] | None
    stages: list[StageStatus]
    requests: list[dict[str, Any]]
    waiting: int
    cost_usd: float

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def lines(self) -> list[Any]:
        """For the terminal."""
        from tutelage.terminal import as_table

        running = "nobody is working on it"
        if self.holder:
            running = f"process {self.holder['pid']} is at work ({self.holder['purpose']})"
        rows = [
            [s.name, f"{s.seconds:.1f} s", f"{s.ended_at}{'' if s.current else OUTDATED}"]
            if s.seconds is not None
            else [s.name, "-", ""]
            for s in self.stages
        ]
        lines: list[Any] = [
            f"{self.run}: {running}",
            as_table("", ["stage", "took", "ended (UTC)"], rows),
        ]
        if self.requests:
            header = ["teacher", "stage", "state", "requests", "USD"]
            cells = [
                [r["teacher"], r["stage"], r["state"], f"{r['requests']:,}", f"{r['cost_usd']:.4f}"]
                for r in self.requests
            ]
            lines += ["", as_table("requests", header, cells)]
        if self.waiting:
            lines.append(f"{self.waiting:,} rows wait in the inbox: durable, folded soon")
        if self.edited:
            lines.append(f"{self.recipe} was edited since; `{self.plan}` says what a run would do")
        return lines


def run_status(run: Path) -> Status:
    """The state of a run. Raises InputError where there is no such run."""
    loaded, note = load_run(run)
    workspace = Workspace.of(loaded)
    ledger, name = workspace.ledger, workspace.run
    if not ledger.database.exists():
        raise InputError(
            f"there is no ledger in {ledger.folder}: `{loaded.command('run')}` makes it"
        )
    done: dict[str, StageStatus] = {}
    for stage, seconds, ended_at, key in ledger.rows(
        "SELECT name, seconds, strftime(ended_at, '%Y-%m-%d %H:%M:%S'), inputs FROM stage "
        "WHERE run = ? ORDER BY id",
        [name],
    ):
        current = note.stages.get(stage) == key
        if current or stage not in done or not done[stage].current:
            done[stage] = StageStatus(stage, seconds, ended_at, current)
    requests = ledger.arrow(
        "SELECT t.name AS teacher, r.stage, r.state, count(*) AS requests, "
        f"coalesce(sum(r.cost_usd), 0) AS cost_usd FROM {REQUESTS.format(where='run = ?')} r "
        "JOIN teacher t ON r.teacher = t.id GROUP BY ALL ORDER BY r.stage, t.name, r.state",
        [name],
    ).to_pylist()
    return Status(
        run=name,
        recipe=note.recipe,
        plan=loaded.command("plan"),
        edited=was_edited(loaded, note),
        holder=ledger.holder(),
        stages=[
            done.get(stage, StageStatus(stage, None, None, current=False)) for stage in STAGE_NAMES
        ],
        requests=requests,
        waiting=ledger.waiting(),
        cost_usd=sum(row["cost_usd"] for row in requests),
    )


def write_report(run: Path) -> Path:
    """Writes a finished run's report again. Raises InputError where the run is not finished."""
    from tutelage.stages.reporting import write_page

    workspace = open_run(run)
    require_stage(workspace, "evaluate")
    workspace.refuse_other_prompts()
    return write_page(workspace)
