"""report: result.json and the page that a person decides from."""

import json
from pathlib import Path
from typing import Any

from ledger.keys import content_key, write_atomically
from tutelage.result import build_result
from tutelage.stages.learning import has_weights
from tutelage.stages.stage import Output, Stage
from tutelage.watch import Watch
from tutelage.workspace import Workspace

PAGE, RESULT = "report.html", "result.json"


def write_page(workspace: Workspace) -> Path:
    """Writes result.json and report.html from the stages' outputs and the ledger."""
    from tutelage.report.page import render
    from tutelage.reportdata import collect

    result = build_result(workspace)
    page = workspace.folder / PAGE
    write_atomically(page, render(collect(workspace, result)).encode())
    text = json.dumps(result, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    write_atomically(workspace.folder / RESULT, text.encode())
    if has_weights(workspace.student_folder):
        _write_card(workspace, result)
    return page


def _write_card(workspace: Workspace, result: dict[str, Any]) -> None:
    """What the student is worth, into its model card."""
    from trainer.card import CardScore, write_verdict

    def estimate(found: dict[str, Any]) -> tuple[float, float, float]:
        return found["mean"], found["lo"], found["hi"]

    scores = [
        CardScore(
            task,
            found["verdict"],
            found["student"]["n"],
            *(estimate(found[role]) for role in ("student", "teacher", "baseline")),
        )
        for task, found in result["tasks"].items()
    ]
    evaluate = workspace.recipe.evaluate
    items = evaluate.file or f"{evaluate.hold_out} prompts a task, set aside"
    revision = workspace.pools.fingerprint("test")
    write_verdict(
        workspace.student_folder,
        result["sentence"],
        scores,
        items=f"{workspace.recipe.name}: {items}",
        revision=revision,
    )


def _inputs(workspace: Workspace) -> Any:
    return {**workspace.keys, "recipe": content_key(workspace.loaded.text)}


def _work(workspace: Workspace, _: Watch) -> Output:
    return {"page": write_page(workspace).name}


def _is_there(workspace: Workspace, _: Output) -> bool:
    return all((workspace.folder / name).is_file() for name in (PAGE, RESULT))


def _line(output: Output) -> str:
    return f"{output['page']} and {RESULT}"


REPORT = Stage("report", "result and page are written", _inputs, _work, _line, _is_there)
