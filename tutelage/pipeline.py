"""Runs a recipe stage by stage. Any stage can be killed and run again; what is done stays done."""

import json
import time
from pathlib import Path
from typing import Any

from ledger.errors import InputError
from ledger.keys import content_key, now_us
from tutelage.judging import refuse_judges
from tutelage.recipe import load_recipe
from tutelage.runfolder import begin, came_through, refuse_unwritable
from tutelage.stages import STAGES, Stage
from tutelage.stages.capturing import refuse_tight_servers
from tutelage.stages.classifying import CLASSIFY, refuse_unusable_tasks
from tutelage.stages.learning import BASELINE, refuse_layers, refuse_long_items, refuse_students
from tutelage.stages.making import (
    refuse_small_pool,
    refuse_unknown_tasks,
)
from tutelage.stages.probing import PROBE
from tutelage.watch import Watch
from tutelage.workspace import Workspace, recorded

STAGE_NAMES = tuple(stage.name for stage in STAGES)
RESULT = "result.json"


def run_recipe(
    path: Path,
    *,
    until: str | None = None,
    seed: int | None = None,
    run: str | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Runs a recipe as far as `until` (all stages by default) and returns the result.

    `paused` in it names the teachers that were given up while the others went on.

    Raises RecipeError and other InputErrors before anything is spent, LedgerBusy where another run
    holds the ledger, and whatever a stage cannot go on without. After an error or a kill the same
    call goes on from there.
    """
    if until is not None and until not in STAGE_NAMES:
        raise InputError(f"--until {until}: the stages are {', '.join(STAGE_NAMES)}")
    watch = watch or Watch()
    workspace = Workspace.of(load_recipe(path, seed=seed, run=run))
    refuse_unwritable(workspace.folder)
    stages = STAGES[: STAGE_NAMES.index(until) + 1] if until else STAGES
    _preflight(workspace, {stage.name for stage in stages}, watch)
    with workspace.ledger.writing(f"tutelage run {path}"):
        begin(workspace.loaded)
        try:
            for stage in stages:
                _run_stage(stage, workspace, watch)
                if stage is CLASSIFY:  # discovered tasks are known only now
                    refuse_unknown_tasks(workspace)
        finally:
            workspace.stop_servers()
    outputs = workspace.outputs
    paused = sorted({name for output in outputs.values() for name in output.get("paused", [])})
    if "report" in outputs:
        result = json.loads((workspace.folder / RESULT).read_text("utf-8"))
        watch.closing(result)
    else:
        result = {"name": workspace.recipe.name, "stages": outputs}
    return {**result, "paused": paused}


def stage_key(stage: Stage, workspace: Workspace) -> str:
    """The name of a stage's output in a run: the hash of its inputs and settings."""
    return content_key([stage.name, workspace.run, stage.inputs(workspace)])


def find_done(workspace: Workspace, until: str = STAGE_NAMES[-1], *, settled: bool = True) -> None:
    """Fills in what is recorded for the workspace's recipe, from the first stage on, to a gap.

    `settled` counts what a run would take up again (failed requests, a lost file) as a gap. Raises
    what naming a stage's inputs may raise, such as TeacherUnavailable.
    """
    for stage in STAGES[: STAGE_NAMES.index(until) + 1]:
        key = stage_key(stage, workspace)
        found = recorded(workspace.ledger, workspace.run, stage.name, key)
        if found is None or (settled and not stage.intact(workspace, found)):
            return
        workspace.keys[stage.name], workspace.outputs[stage.name] = key, found


def _run_stage(stage: Stage, workspace: Workspace, watch: Watch) -> None:
    key = stage_key(stage, workspace)
    workspace.keys[stage.name] = key
    ledger, run = workspace.ledger, workspace.run
    earlier = recorded(ledger, run, stage.name, key)
    if earlier is not None and stage.intact(workspace, earlier):
        workspace.outputs[stage.name] = earlier
        came_through(workspace.folder, workspace.keys)
        watch.stage_is_done(stage.name, stage.summary(earlier))
        return
    watch.stage_begins(stage.name, stage.what)
    started_us, started = now_us(), time.monotonic()
    output = stage.work(workspace, watch)
    seconds = round(time.monotonic() - started, 3)
    row = {
        "run": run,
        "name": stage.name,
        "inputs": key,
        "output": json.dumps(output, sort_keys=True, ensure_ascii=False),
        "started_at": started_us,
        "ended_at": now_us(),
        "seconds": seconds,
    }
    ledger.put("stage", [row])
    ledger.fold()
    workspace.outputs[stage.name] = {**output, "seconds": seconds}
    came_through(workspace.folder, workspace.keys)
    watch.stage_ends(stage.name, stage.summary(output), seconds)


def _preflight(workspace: Workspace, stages: set[str], watch: Watch) -> None:
    """Opens what the stages will need, so that what is missing is said before anything is spent."""
    skipped = workspace.pools.skipped
    if skipped.count:
        watch.note(
            f"{skipped.count} lines left out (on_bad_row: skip), such as {skipped.reasons[0]}"
        )
    find_done(workspace, "classify")  # discovered tasks are known from there on
    if "probe" in stages:
        teachers = [*workspace.teachers.values(), *workspace.judges.values()]
        if not _is_done(PROBE, workspace):
            for teacher in teachers:
                teacher.require_ready()
    refuse_judges(workspace)
    refuse_unusable_tasks(workspace)
    refuse_unknown_tasks(workspace)
    refuse_students(workspace, absent=None if "generate" in stages else [])
    if "generate" in stages:
        _ = workspace.baseline_key
        refuse_small_pool(workspace)
    if "baseline" in stages and not _is_done(BASELINE, workspace):
        refuse_long_items(workspace)
    if "capture" in stages:
        refuse_tight_servers(workspace)
    if "train" in stages:
        refuse_layers(workspace)


def _is_done(stage: Stage, workspace: Workspace) -> bool:
    """Whether a stage that builds on no other has nothing to do."""
    earlier = recorded(workspace.ledger, workspace.run, stage.name, stage_key(stage, workspace))
    return earlier is not None and stage.intact(workspace, earlier)
