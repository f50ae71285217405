"""sizes: students of other sizes on the same mix, and what each is worth."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ledger.keys import content_key
from tutelage.stages.learning import (
    examined,
    has_weights,
    routed_teachers,
    train_one,
    training_inputs,
)
from tutelage.stages.stage import Output, Stage
from tutelage.timing import speed_of
from tutelage.watch import Watch
from tutelage.workspace import STUDENT_NAME, Workspace

if TYPE_CHECKING:
    from evals.summary import Standing, Summary
    from router.teachers.protocol import Teacher


def _sizes_inputs(workspace: Workspace) -> Any:
    if not workspace.recipe.student.sizes:
        return {"sizes": []}
    return {
        "evaluate": workspace.keys["evaluate"],
        "train": workspace.keys["train"],
        "sizes": _size_keys(workspace),
    }


def _size_keys(workspace: Workspace) -> dict[str, str]:
    """By name, what the training of each further student is called."""
    student = workspace.recipe.student
    return {
        size.label: content_key(training_inputs(workspace, student.of_size(size)))
        for size in student.sizes
    }


def _sizes(workspace: Workspace, watch: Watch) -> Output:
    """Further students on the same mix and test items; all students' and teachers' speed side by side."""
    student = workspace.recipe.student
    if not student.sizes:
        return {"students": {}, "teachers": {}, "speed": {}}
    keys = _size_keys(workspace)
    students: dict[str, Any] = {}
    models: list[Teacher] = [*routed_teachers(workspace), workspace.open_student()]
    summary, _ = examined(workspace, watch, "sizes", workspace.open_student())
    students[STUDENT_NAME] = workspace.outputs["train"] | _size_figures(summary)
    teachers = _teachers(summary)
    for size in student.sizes:
        name = size.label
        trained = train_one(workspace, watch, student.of_size(size), keys[name], called=f"{name}: ")
        model = workspace.open_student(workspace.folder / trained["folder"])
        summary, _ = examined(workspace, watch, "sizes", model)
        students[name] = trained | _size_figures(summary)
        model.name = name
        models.append(model)
    return {
        "students": students,
        "teachers": teachers,
        "speed": speed_of(workspace, watch, models),
    }


def _teachers(summary: "Summary") -> dict[str, Any]:
    """Each routed teacher's mean score over the tasks of which most items are routed to it."""
    from evals.summary import mean_of

    taught: dict[str, list[Standing]] = {}
    for found in summary.tasks.values():
        name = next(iter(found.routed))
        taught.setdefault(name, []).append(found.models[name])
    return {name: asdict(mean_of(standings)) for name, standings in taught.items()}


def _size_figures(summary: "Summary") -> Output:
    from evals.summary import mean_of

    own = [found.models[STUDENT_NAME] for found in summary.tasks.values()]
    return {
        "score": asdict(mean_of(own)),
        "tasks": {
            task: {
                "student": asdict(found.models[STUDENT_NAME]),
                "decision": found.verdict.decision,
            }
            for task, found in summary.tasks.items()
        },
        "overall": asdict(summary.overall),
    }


def _sizes_are_there(workspace: Workspace, output: Output) -> bool:
    return all(has_weights(workspace.folder / at["folder"]) for at in output["students"].values())


def _sizes_line(output: Output) -> str:
    if not output["students"]:
        return "not asked for: one student"
    return " | ".join(
        f"{name}: {found['score']['mean']:.3f}, within: {found['overall']['decision']}; "
        f"{found['parameters']:,} parameters, {found['folder']}"
        for name, found in output["students"].items()
    )


SIZES = Stage(
    "sizes",
    "students of other sizes on the same mix",
    _sizes_inputs,
    _sizes,
    _sizes_line,
    _sizes_are_there,
)
