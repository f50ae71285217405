"""What the student forgot: its scores on a general set, which it was not trained for, before and after."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tutelage.buying import measured_answers, require_all
from tutelage.stages.classifying import put_prompts
from tutelage.watch import Watch
from tutelage.workspace import BASELINE_NAME, STUDENT_NAME, Workspace

if TYPE_CHECKING:
    from router.teachers.local import LocalTeacher


def general_inputs(workspace: Workspace) -> dict[str, Any]:
    """What of the general set can change `evaluate`'s output; nothing where there is none."""
    general = workspace.recipe.evaluate.general
    if general is None:
        return {}
    return {"general": [workspace.pools.fingerprint("general"), general.scorer]}


def forgotten(workspace: Workspace, watch: Watch, student: "LocalTeacher") -> dict[str, Any]:
    """By task of the general set, the standings of `student` and `baseline` and their paired test, adjusted
    over the tasks (evals.stats.PairedTest); empty where the recipe names no such set."""
    from evals.stats import holm, paired_test
    from evals.summary import score_answers, standings
    from router.engine import Request

    general, items = workspace.recipe.evaluate.general, workspace.pools.general
    if general is None:
        return {}
    put_prompts(workspace, items)
    models = {STUDENT_NAME: student, BASELINE_NAME: workspace.baseline}
    requests = [
        Request(item.prompt, name, task=str(item.task)) for name in models for item in items
    ]
    found, purchase = measured_answers(workspace, watch, "evaluate", requests, models)
    require_all(requests, found, purchase, "evaluate")
    scorers = general.scorers({str(item.task) for item in items})
    scored = score_answers(workspace.ledger, found, items, scorers)
    pairs = [
        [[by_model[name][key].value for key in sorted(by_model[STUDENT_NAME])] for name in models]
        for by_model in scored.values()
    ]
    tests = holm([paired_test(own, before) for own, before in pairs])
    return {
        task: {**{name: asdict(at[name]) for name in models}, "test": asdict(test)}
        for (task, at), test in zip(standings(scored).items(), tests, strict=True)
    }
