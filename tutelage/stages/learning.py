"""baseline, train and evaluate: the student before, the training, the student after."""

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import InputError
from ledger.keys import content_key
from ledger.prompts import Item
from ledger.weights import BrokenWeights, refuse_broken
from tutelage.buying import cannot_take, limits, measured_answers, purchase_figures, require_all
from tutelage.forgetting import forgotten, general_inputs
from tutelage.judging import judge_inputs, judged_scores, uses_judge, verdicts
from tutelage.matching import distributions, likeness
from tutelage.stages.classifying import put_prompts
from tutelage.stages.stage import Output, Stage
from tutelage.testitems import write_items
from tutelage.timing import speed_of
from tutelage.watch import Watch
from tutelage.workspace import BASELINE_NAME, STUDENT_NAME, Workspace

if TYPE_CHECKING:
    from evals.summary import Nothing, Scored, Summary
    from router.engine import BoughtAnswer, Request
    from router.teachers.errors import CallError
    from router.teachers.local import LocalTeacher
    from router.teachers.protocol import Teacher
    from trainer.config import StudentConfig
    from trainer.features import FeatureTeachers
    from trainer.sft import TrainProgress


def _test_inputs(workspace: Workspace) -> dict[str, Any]:
    return {
        "test": workspace.pools.fingerprint("test"),
        "scorer": workspace.scorer("evaluate"),
        "clusters": content_key(workspace.pools.clusters),
        **(judge_inputs(workspace, compares=False) if uses_judge(workspace, "evaluate") else {}),
        "sampling": [workspace.sampling.key_fields, workspace.sampling.max_tokens],
    }


@dataclass(frozen=True, slots=True)
class Answered:
    """What models answered to test items, by prompt key, model and n; the scores; the purchase's figures."""

    answers: "dict[tuple[str, str, int], BoughtAnswer | Nothing]"
    scored: "Scored"
    figures: Output


def _answered(
    workspace: Workspace,
    watch: Watch,
    stage: str,
    asked: "dict[Teacher, list[Item]]",
    again: "Sequence[Request]" = (),
) -> Answered:
    """Scores of every model on the test items that it is asked; what is asked `again` is not graded, and may
    fail."""
    from evals.summary import score_answers
    from router.engine import Request

    requests: list[Request] = [
        Request(item.prompt, model.name, task=str(item.task))
        for model, items in asked.items()
        for item in items
    ]
    models = {model.name: model for model in asked}
    found, purchase = measured_answers(workspace, watch, stage, [*requests, *again], models)
    require_all(requests, found, purchase, stage)
    scorers = workspace.scorer("evaluate")
    asked_of = [
        (scorers[str(item.task)], item, found[item.prompt.key, model.name, 0])
        for model, items in asked.items()
        for item in items
    ]
    judged = judged_scores(workspace, watch, stage, asked_of)
    scored = score_answers(workspace.ledger, found, workspace.pools.test, scorers, judged)
    answered = {
        task: {name: by_key for name, by_key in models.items() if by_key}
        for task, models in scored.items()
    }
    return Answered(found, answered, purchase_figures(workspace, stage, purchase))


def refuse_long_items(workspace: Workspace) -> None:
    """Raises InputError where student or base could not answer a test item, before anything is bought."""
    model = workspace.baseline
    prompts = [item.prompt for item in workspace.pools.test]

    async def check() -> "list[CallError | None]":
        try:
            return await model.check(prompts, workspace.sampling)
        finally:
            await model.close()

    bad = [(p, why) for p, why in zip(prompts, asyncio.run(check()), strict=True) if why]
    if bad:
        prompt, why = bad[0]
        raise InputError(
            f"evaluate: {len(bad)} of {len(prompts)} test items cannot be answered by the student "
            f"({workspace.recipe.student.base}), such as {prompt.text[:80]!r}: {why}"
        )


def refuse_students(workspace: Workspace, absent: list[str] | None = None) -> None:
    """Raises InputError, with file:line, where the student or another size of it cannot be made or trained.

    What is said of bases that are not on this machine goes into `absent`, where that is given.
    """
    from trainer.errors import BaseMissing
    from trainer.shaping import refuse_student
    from trainer.tensorboard import refuse_missing_package

    student = workspace.recipe.student
    for place, config in _students(workspace):
        try:
            refuse_student(config, workspace.base)
            if "logit" in student.signal and config.base != student.base:
                _refuse_other_vocabulary(config, student, workspace.base)
        except BaseMissing as error:
            if absent is None:
                raise InputError(f"{workspace.loaded.at(*place)}: {error}") from error
            absent.append(str(error))
        except InputError as error:
            raise InputError(f"{workspace.loaded.at(*place)}: {error}") from error
    if student.tensorboard:
        try:
            refuse_missing_package()
        except InputError as error:
            raise InputError(f"{workspace.loaded.at('student', 'tensorboard')}: {error}") from error


def _students(
    workspace: Workspace,
) -> "Iterator[tuple[tuple[str | int, ...], StudentConfig]]":
    """The student and its further sizes, each with its place in the recipe."""
    student = workspace.recipe.student
    yield ("student", "base"), student
    for number, size in enumerate(student.sizes):
        yield ("student", "sizes", number), student.of_size(size)


def _refuse_other_vocabulary(size: "StudentConfig", student: "StudentConfig", base: Path) -> None:
    from trainer.base import open_tokenizer
    from trainer.errors import BadBase
    from trainer.signals.hard import ChatFormat

    ours, theirs = open_tokenizer(size.base, base), open_tokenizer(student.base, base)
    if ours.get_vocab() != theirs.get_vocab():
        other = "another vocabulary"
    elif ChatFormat(ours).trained("a\n\nb") != ChatFormat(theirs).trained("a\n\nb"):
        other = "a chat template or an end token that writes answers in other tokens"
    else:
        return
    raise BadBase(
        f"{size.base} has {other} than {student.base}, and the signal `logit` keeps distributions over the "
        f"tokens of {student.base} alone: take a size with the same tokenizer and chat template, or train all "
        "sizes without `logit`."
    )


def refuse_layers(workspace: Workspace) -> None:
    """Raises NoSuchLayer or FeaturesMissing where hidden states are asked for that nobody has."""
    if (features := _features(workspace)) is not None:
        from trainer.shaping import depth_of
        from tutelage.featuring import refuse_missing_layers

        for _, config in _students(workspace):
            depth = depth_of(config, workspace.base)
            refuse_missing_layers(features, config.feature.layers, depth)


def _baseline_inputs(workspace: Workspace) -> Any:
    return {**_test_inputs(workspace), "base": workspace.baseline_key}


def _baseline(workspace: Workspace, watch: Watch) -> Output:
    from evals.summary import put_standings, standings

    put_prompts(workspace, workspace.pools.test)
    model = workspace.baseline
    answered = _answered(workspace, watch, "baseline", {model: workspace.pools.test})
    found = standings(answered.scored, workspace.pools.clusters)
    put_standings(
        workspace.ledger,
        found,
        run=workspace.run,
        key=workspace.keys["baseline"],
        roles={BASELINE_NAME: BASELINE_NAME},
    )
    tasks = {task: asdict(by_model[BASELINE_NAME]) for task, by_model in found.items()}
    return {**answered.figures, "tasks": tasks}


def _baseline_line(output: Output) -> str:
    means = ", ".join(f"{task} {at['mean']:.3f}" for task, at in output["tasks"].items())
    return f"the student before training: {means}"


def _train_inputs(workspace: Workspace) -> Any:
    return training_inputs(workspace, workspace.recipe.student)


def training_inputs(workspace: Workspace, student: "StudentConfig") -> dict[str, Any]:
    """All that can change the weights of a student that is trained on the mix."""
    from trainer.base import find_base, revision
    from trainer.config import NOT_LEARNT

    return {
        "mix": workspace.outputs["mix"]["lock_sha"],
        "plan": workspace.outputs["mix"]["plan_sha"],
        "student": student.model_dump(mode="json", exclude=NOT_LEARNT),
        "base": revision(find_base(student.base, workspace.base)),
        "seed": workspace.recipe.seed,
        "records": workspace.outputs["capture"].get("sha"),
        "states": _states_of(workspace),
    }


def _states_of(workspace: Workspace) -> dict[str, str] | None:
    """Whose hidden states the student learns from."""
    if "feature" not in workspace.recipe.student.signal:
        return None
    return {name: teacher.key for name, teacher in workspace.teachers.items()}


def _train(workspace: Workspace, watch: Watch) -> Output:
    return train_one(workspace, watch, workspace.recipe.student, workspace.keys["train"])


def train_one(
    workspace: Workspace, watch: Watch, config: "StudentConfig", key: str, called: str = ""
) -> Output:
    """Trains a student on the mix, into a folder of its own; `called` is said before its progress."""
    from trainer.run import train

    workspace.stop_servers()  # the training needs the memory
    folder = Path("student") / key[:12]
    if not has_weights(workspace.folder / folder):  # half deleted: nothing there to keep
        shutil.rmtree(workspace.folder / folder, ignore_errors=True)
    student = train(
        config,
        workspace.mix_folder,
        workspace.folder / folder,
        base_dir=workspace.base,
        seed=workspace.recipe.seed,
        ledger=workspace.ledger,
        run=workspace.run,
        key=key,
        teachers={name: t.licence for name, t in workspace.recipe.teachers.items()},
        records=workspace.records_folder,
        features=_features(workspace),
        on_progress=lambda progress: _show_training(watch, progress, called),
    )
    for teacher in workspace.teachers.values():
        asyncio.run(teacher.close())  # whose states the student learnt from
    return {
        "folder": str(folder),
        "weights_sha": student.weights_sha,
        "steps": student.steps,
        "tokens": student.tokens,
        "samples": student.samples,
        "skipped": len(student.skipped),
        "training_s": student.seconds,
        "parameters": student.parameters,
        "kept_step": student.kept_step,
        "beside": _beside(config, folder),
    }


def _beside(config: "StudentConfig", folder: Path) -> list[str]:
    """What lies beside the weights, in words."""
    from trainer.run import ADAPTER_FOLDER

    found = []
    if config.lora is not None and config.lora.keep:
        found.append(f"its adapters in {folder / ADAPTER_FOLDER}")
    if config.tensorboard:
        found.append(f"for TensorBoard {folder}.tensorboard")
    return found


def _features(workspace: Workspace) -> "FeatureTeachers | None":
    if "feature" not in workspace.recipe.student.signal:
        return None
    from tutelage.featuring import feature_teachers

    return feature_teachers(workspace.teachers, workspace.baseline.weights_bytes)


def _show_training(watch: Watch, progress: "TrainProgress", called: str) -> None:
    if progress.note:
        watch.note(called + progress.note)
        return
    rate = progress.steps_per_s
    pace = f"{rate:.1f} steps/s" if rate >= 1 or not rate else f"{1 / rate:.1f} s a step"
    text = f"{called}step {progress.step:,}/{progress.steps:,}, loss {progress.loss:.3f}, {pace}"
    watch.progress(progress.step, progress.steps, text)


def _student_is_there(workspace: Workspace, output: Output) -> bool:
    return has_weights(workspace.folder / output["folder"])


def has_weights(folder: Path) -> bool:
    """Whether a whole student lies there."""
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        return False
    try:
        refuse_broken(folder)
    except BrokenWeights:
        return False
    return True


def _train_line(output: Output) -> str:
    left_out = f", {output['skipped']} too long and left out" if output["skipped"] else ""
    beside = "".join(f", {what}" for what in output["beside"])
    return f"{output['steps']:,} steps, {output['tokens']:,} tokens{left_out}; {output['folder']}{beside}"


def _evaluate_inputs(workspace: Workspace) -> Any:
    evaluate = workspace.recipe.evaluate
    return {
        **_test_inputs(workspace),
        "student": workspace.outputs["train"]["weights_sha"],
        "train": workspace.keys["train"],
        "baseline": workspace.keys["baseline"],
        "teachers": {
            task: [workspace.teachers[name].key for name in names]
            for task, names in compared_teachers(workspace).items()
        },
        "routed": content_key(routed_on_test(workspace)),
        "limits": limits(workspace),
        "within": evaluate.within,
        "speed": evaluate.speed.model_dump(mode="json"),
        **judge_inputs(workspace, compares=True),
        **general_inputs(workspace),
    }


def compared_teachers(workspace: Workspace) -> dict[str, list[str]]:
    """By task, the routed teacher and the strongest of the others."""
    compared = {}
    for task in workspace.pools.tasks:
        route = workspace.outputs["route"]["routes"][task]
        strengths = workspace.outputs["probe"]["strengths"]
        others = [n for n in strengths if n != route["teacher"] and task in strengths[n]]
        next_best = max(others, key=lambda n: strengths[n][task]["mean"], default=None)
        runner_up = route["runner_up"] or next_best
        compared[task] = [route["teacher"], *([runner_up] if runner_up else [])]
    return compared


def routed_on_test(workspace: Workspace) -> dict[str, dict[str, str]]:
    """By task, the teacher that each test item is routed to, by its prompt's key."""
    routed: dict[str, dict[str, str]] = {task: {} for task in workspace.pools.tasks}
    for item in workspace.pools.test:
        task = str(item.task)
        routed[task][item.prompt.key] = workspace.routed.teacher(task, item.prompt.key)
    return routed


def asked_on_test(workspace: Workspace) -> dict[str, list[Item]]:
    """What each teacher is asked: the tasks that it is compared on, and the items routed to it, but for
    those that it cannot take."""
    compared, routed = compared_teachers(workspace), routed_on_test(workspace)
    asked = {}
    for name in workspace.recipe.eligible:
        items = [
            item
            for item in workspace.pools.test
            if name in compared[str(item.task)] or name == routed[str(item.task)][item.prompt.key]
        ]
        closed = cannot_take(workspace, name, [item.prompt for item in items])
        if taken := [item for i, item in enumerate(items) if i not in closed]:
            asked[name] = taken
    return asked


def asked_again(workspace: Workspace) -> "list[Request]":
    """A second answer of the routed teacher to every test item, by which its own variation is measured; none
    at temperature 0, where it answers alike."""
    from router.engine import Request

    if not workspace.sampling.temperature:
        return []
    asked, routed = asked_on_test(workspace), routed_on_test(workspace)
    return [
        Request(item.prompt, name, 1, str(item.task))
        for name, items in asked.items()
        for item in items
        if routed[str(item.task)][item.prompt.key] == name
    ]


def examined(
    workspace: Workspace,
    watch: Watch,
    stage: str,
    student: "LocalTeacher",
    again: "Sequence[Request]" = (),
) -> "tuple[Summary, Answered]":
    """A student beside baseline and teachers on the test items."""
    from evals.summary import summarise

    asked = {workspace.teachers[name]: items for name, items in asked_on_test(workspace).items()}
    asked[workspace.baseline] = asked[student] = workspace.pools.test
    answered = _answered(workspace, watch, stage, asked, again)
    margin = workspace.recipe.evaluate.within
    summary = summarise(
        answered.scored,
        routed_on_test(workspace),
        margin=margin,
        clusters=workspace.pools.clusters,
    )
    return summary, answered


def _evaluate(workspace: Workspace, watch: Watch) -> Output:
    from evals.summary import put_summary

    student = workspace.open_student()
    again = asked_again(workspace)
    summary, answered = examined(workspace, watch, "evaluate", student, again)
    put_summary(workspace.ledger, summary, run=workspace.run, key=workspace.keys["evaluate"])
    items = Path("evaluate") / f"{workspace.keys['evaluate'][:12]}.parquet"
    routed = routed_on_test(workspace)
    write_items(workspace.folder / items, workspace, answered.answers, answered.scored, routed)
    return {
        "items": str(items),
        **answered.figures,
        "tasks": {
            task: {**asdict(found), "compared": compared_teachers(workspace)[task]}
            for task, found in summary.tasks.items()
        },
        "clusters": _clusters_by_task(workspace),
        "overall": asdict(summary.overall),
        "recovery": asdict(summary.recovery),
        "likeness": likeness(workspace, student, answered.answers, routed),
        "distribution": distributions(workspace, watch, student, answered.answers, routed),
        "general": forgotten(workspace, watch, student),
        "judged": verdicts(workspace, watch, answered.answers, routed),
        "speed": speed_of(
            workspace, watch, [student, workspace.baseline, *routed_teachers(workspace)]
        ),
    }


def _clusters_by_task(workspace: Workspace) -> dict[str, int]:
    """How many independent sources a task's test items have; empty where they share none."""
    clusters = workspace.pools.clusters
    found: dict[str, set[str]] = {}
    for item in workspace.pools.test if clusters else []:
        key = item.prompt.key
        found.setdefault(str(item.task), set()).add(clusters.get(key, key))
    return {task: len(each) for task, each in found.items()}


def routed_teachers(workspace: Workspace) -> "list[Teacher]":
    """The teachers that test items are routed to."""
    routed = routed_on_test(workspace).values()
    names = sorted({name for by_key in routed for name in by_key.values()})
    return [workspace.teachers[name] for name in names]


def _items_are_there(workspace: Workspace, output: Output) -> bool:
    return (workspace.folder / output["items"]).is_file()


def _evaluate_line(output: Output) -> str:
    means = ", ".join(
        f"{task} {found['models'][STUDENT_NAME]['mean']:.3f}"
        for task, found in output["tasks"].items()
    )
    return f"the student after training: {means}; {output['overall']['reason']}"


BASELINE = Stage(
    "baseline", "the student before training", _baseline_inputs, _baseline, _baseline_line
)
TRAIN = Stage(
    "train",
    "the student learns from the mix",
    _train_inputs,
    _train,
    _train_line,
    _student_is_there,
)
EVALUATE = Stage(
    "evaluate",
    "student, baseline and teachers on the same items",
    _evaluate_inputs,
    _evaluate,
    _evaluate_line,
    _items_are_there,
)
