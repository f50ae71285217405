"""score: answers to prompts that have a reference are graded."""

from typing import Any

from tutelage.judging import judge_inputs, uses_judge
from tutelage.stages.making import answered, grade_answers
from tutelage.stages.stage import Output, Stage
from tutelage.watch import Watch
from tutelage.workspace import Workspace


def _score_inputs(workspace: Workspace) -> Any:
    return {
        "generate": workspace.keys["generate"],
        "taken": workspace.outputs["generate"]["taken"],
        "references": workspace.pools.fingerprint("train"),
        "scorer": workspace.scorer("probes"),
        **(judge_inputs(workspace, compares=False) if uses_judge(workspace, "probes") else {}),
    }


def _score(workspace: Workspace, watch: Watch) -> Output:
    found = answered(workspace, workspace.outputs["generate"]["taken"])
    grade_answers(workspace, found, watch, "score")
    workspace.ledger.fold()
    scores: dict[str, dict[str, list[float]]] = {}
    for _, request, answer in found:
        if (score := workspace.graded.get(answer.sample_key)) is not None:
            by_teacher = scores.setdefault(request.task, {})
            by_teacher.setdefault(request.teacher, []).append(score)
    return {
        "answers": len(found),
        "tasks": {
            task: {
                name: {"mean": sum(values) / len(values), "n": len(values)}
                for name, values in sorted(by_teacher.items())
            }
            for task, by_teacher in sorted(scores.items())
        },
    }


def _score_line(output: Output) -> str:
    graded = sum(found["n"] for at in output["tasks"].values() for found in at.values())
    means = ", ".join(
        f"{task} by {name} {found['mean']:.3f}"
        for task, at in output["tasks"].items()
        for name, found in at.items()
    )
    told = f"{graded:,} of {output['answers']:,} answers graded against their prompt's reference"
    return f"{told}: {means}" if means else told


SCORE = Stage(
    "score", "answers are graded where prompts have a reference", _score_inputs, _score, _score_line
)
