"""How far a run is, from any shell while it goes on; and its report, written again."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ledger.errors import InputError
from tutelage.pipeline import STAGE_NAMES
from tutelage.workspace import Workspace, open_run


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One stage of a run: seconds and end of the newest time it was done, or None."""

    name: str
    seconds: float | None
    ended_at: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """A run as the ledger has it now. `waiting` rows are durable but not folded yet."""

    run: str
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
            [s.name, f"{s.seconds:.1f} s", str(s.ended_at)]
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
        return lines


def run_status(run: Path) -> Status:
    """The state of a run. Raises InputError where there is no such run."""
    workspace = open_run(run)
    ledger, name = workspace.ledger, workspace.run
    if not ledger.database.exists():
        raise InputError(f"{name} has not begun: `tutelage run {workspace.loaded.path}`")
    done = {
        row[0]: row[1:]
        for row in ledger.rows(
            "SELECT name, seconds, strftime(ended_at, '%Y-%m-%d %H:%M:%S') FROM stage WHERE run = ? "
            "QUALIFY row_number() OVER (PARTITION BY name ORDER BY id DESC) = 1",
            [name],
        )
    }
    requests = ledger.arrow(
        "SELECT t.name AS teacher, r.stage, r.state, count(*) AS requests, "
        "coalesce(sum(r.cost_usd), 0) AS cost_usd FROM (SELECT * FROM request WHERE run = ? "
        "QUALIFY row_number() OVER (PARTITION BY key ORDER BY id DESC) = 1) r "
        "JOIN teacher t ON r.teacher = t.id GROUP BY ALL ORDER BY r.stage, t.name, r.state",
        [name],
    ).to_pylist()
    return Status(
        run=name,
        holder=ledger.holder(),
        stages=[StageStatus(stage, *done.get(stage, (None, None))) for stage in STAGE_NAMES],
        requests=requests,
        waiting=ledger.waiting(),
        cost_usd=sum(row["cost_usd"] for row in requests),
    )


def write_report(run: Path) -> Path:
    """Writes a finished run's report again. Raises InputError where the run is not finished."""
    from tutelage.stages.reporting import write_page

    workspace = open_run(run)
    require_stages(workspace, "evaluate")
    return write_page(workspace)


def require_stages(workspace: Workspace, until: str) -> None:
    """Fills in the recorded outputs up to `until`. Raises InputError naming the stage that lacks."""
    from tutelage.pipeline import recorded, stage_key
    from tutelage.stages import STAGES

    for stage in STAGES:
        key = stage_key(stage, workspace)
        found = None
        if workspace.ledger.database.exists():
            found = recorded(workspace.ledger, workspace.run, stage.name, key)
        if found is None:
            raise InputError(
                f"{workspace.folder} has not come through `{stage.name}` with this recipe: "
                f"tutelage run {workspace.loaded.path}"
            )
        workspace.keys[stage.name], workspace.outputs[stage.name] = key, found
        if stage.name == until:
            return
