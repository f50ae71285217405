"""Fills the report from the stages' outputs and the ledger. It joins; no figure is computed here."""

import platform
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from ledger.lineage import REQUESTS, sample_story
from ledger.prompts import Item
from tutelage.browsing import browse
from tutelage.report.data import (
    Choice,
    Command,
    Drop,
    Estimate,
    FilterWord,
    Flow,
    General,
    Judgement,
    Licence,
    Likeness,
    LossPart,
    Matching,
    Mix,
    MixCell,
    MixPosition,
    MixStage,
    Nearness,
    Neighbour,
    PaceAt,
    Point,
    ReportData,
    SizePoint,
    Speed,
    StageStart,
    StageTime,
    Story,
    Strength,
    TaskCount,
    TaskResult,
    TeacherCost,
    Training,
)
from tutelage.stages.classifying import example_pairs, labels
from tutelage.stages.making import answers_asked
from tutelage.stages.routing import leaving_line
from tutelage.workspace import Workspace

KINDS: tuple[Literal["task", "teacher"], ...] = (
    "task",
    "teacher",
)  # by which losses are told apart
MAP_POINTS = 1_500
PACKAGES = (
    "tutelage",
    "torch",
    "transformers",
    "trl",
    "datasets",
    "scikit-learn",
    "duckdb",
    "litellm",
)


def collect(workspace: Workspace, result: dict[str, Any]) -> ReportData:
    """Everything that the page shows of a finished run."""
    outputs = workspace.outputs
    strengths, costs = _strengths(workspace), _costs(workspace)
    return ReportData(
        name=workspace.recipe.name,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        seed=workspace.recipe.seed,
        run=workspace.recipe.run,
        verdict=result["verdict"],
        sentence=result["sentence"],
        within=result["within"],
        cluster_by=workspace.recipe.evaluate.cluster_by,
        clusters=result["clusters"],
        recovery=_recovery(result["recovery"]),
        teachers=tuple(workspace.recipe.teachers),
        tasks=tuple(_task(workspace, name, found) for name, found in result["tasks"].items()),
        likeness=_likeness(outputs["evaluate"]["likeness"]),
        matching=_matching(outputs["evaluate"]["distribution"]),
        general=_general(result["general"]),
        browser=browse(workspace),
        judges=result["judged"].get("by", {}),
        judged=_judged(result["judged"].get("tasks", {})),
        agreement=_agreement(result["judged"].get("agreement")),
        unmatched=tuple(
            dict.fromkeys(
                f"{teacher}: {why}"
                for by_model in outputs["evaluate"]["distribution"].values()
                for teacher, why in by_model["why"].items()
            )
        ),
        strengths=strengths,
        nearness=tuple(
            Nearness(teacher, task, likelihood, reach)
            for teacher, at in outputs["probe"]["learnability"].items()
            for task, (likelihood, reach) in at.items()
        ),
        leaving=leaving_line(outputs["route"]),
        prompts=tuple(TaskCount(task, n) for task, n in outputs["classify"]["tasks"].items()),
        points=_points(workspace),
        flow=_flow(workspace),
        mix=_mix(workspace),
        training=_training(workspace),
        speeds=_speeds(workspace, result, costs),
        speed_note=_speed_note(workspace),
        sizes=_sizes(workspace, costs),
        costs=costs,
        front=tuple(Choice(**choice) for choice in outputs["route"]["front"]),
        alpha=workspace.recipe.route.alpha,
        story=_story(workspace, strengths),
        recipe=workspace.loaded.text,
        versions=_versions(),
        hashes=_hashes(workspace),
        stages=tuple(StageTime(name, seconds) for name, seconds in result["stages_s"].items()),
        licences=_licences(workspace),
        commands=tuple(Command(line.split("   #")[0], "") for line in result["next"]),
    )


def _estimate(value: dict[str, Any]) -> Estimate:
    return Estimate(value["mean"], value["lo"], value["hi"], value["n"])


def _recovery(found: dict[str, Any]) -> Estimate | None:
    if found["value"] is None:
        return None
    return Estimate(found["value"], found["lo"], found["hi"], found["n"])


def _task(workspace: Workspace, name: str, found: dict[str, Any]) -> TaskResult:
    left = {teacher: n for at, teacher, n in workspace.outputs["route"]["left"] if at == name}
    stay = workspace.outputs["classify"]["tasks"].get(name, 0) - sum(left.values())
    prompts = Counter(left) + Counter({found["chosen"]: stay})
    return TaskResult(
        task=name,
        chosen=found["chosen"],
        runner_up=found["runner_up"],
        reason=found["reason"],
        guarded=found["guarded"],
        baseline=_estimate(found["baseline"]),
        student=_estimate(found["student"]),
        teacher=_estimate(found["teacher"]),
        prompts=dict(prompts.most_common()),
        teachers={teacher: _estimate(value) for teacher, value in found["teachers"].items()},
        verdict=found["verdict"],
        verdict_reason=found["verdict_reason"],
        difference=found["difference"]["mean"],
        lower=found["difference"]["lo"],
        upper=found["difference"]["hi"],
        recovery=_recovery(found["recovery"]),
        recovery_reason=found["recovery"]["reason"],
        oracle=_estimate(found["oracle"]),
        baseline_p=found["against_baseline"]["adjusted"],
        teacher_p=found["against_teacher"]["adjusted"],
    )


def _likeness(found: dict[str, dict[str, Any]]) -> tuple[Likeness, ...]:
    pairs = {
        "before": "before and its teacher",
        "student": "student and its teacher",
        "changed": "student and before",
        "teacher": "its teacher, asked twice",
    }
    return tuple(
        Likeness(task, words, {name: _estimate(each) for name, each in by_pair[pair].items()})
        for task, by_pair in found.items()
        for pair, words in pairs.items()
        if by_pair[pair]
    )


def _matching(found: dict[str, dict[str, Any]]) -> tuple[Matching, ...]:
    return tuple(
        Matching(
            task,
            model,
            {name: _estimate(each) for name, each in by_model[model]["figures"].items()},
            by_model[model]["calibration_error"],
            by_model[model]["tokens"],
            by_model[model]["covered"],
        )
        for task, by_model in found.items()
        for model in ("before", "student")
        if by_model[model]["covered"]
    )


def _general(found: dict[str, dict[str, Any]]) -> tuple[General, ...]:
    from evals.stats import PairedTest

    return tuple(
        General(
            task,
            _estimate(at["baseline"]),
            _estimate(at["student"]),
            at["test"]["adjusted"],
            PairedTest(**at["test"]).is_worse,
        )
        for task, at in found.items()
    )


def _judged(found: dict[str, dict[str, Any]]) -> tuple[Judgement, ...]:
    return tuple(
        Judgement(
            task,
            wins=at["better"]["wins"],
            ties=at["better"]["ties"],
            losses=at["better"]["losses"],
            rate=_estimate(at["better"]["rate"]),
            rate_even=at["better"]["rate_even"],
            flips=_estimate(at["better"]["flips"]),
            first_named=_estimate(at["better"]["first_named"]),
            longer=_estimate(at["better"]["longer"]),
            unread=at["better"]["unread"],
            asked=at["better"]["asked"],
            barred=at["better"]["barred"],
            same=_estimate(at["same"]) if "same" in at else None,
        )
        for task, at in found.items()
        if "better" in at
    )


def _agreement(found: dict[str, Any] | None) -> str:
    if not found or not found["n"]:
        return ""
    share = f"{found['share']:.0%} of {found['n']} labelled pairs"
    if found["kappa"] is None:
        return f"{share} judged as labelled; kappa is undefined where labels or verdicts are all the same"
    kappa, lo, hi = (f"{found[name]:.2f}" for name in ("kappa", "lo", "hi"))
    return f"{share} judged as labelled, Cohen's kappa {kappa} [{lo}, {hi}]"


def _strengths(workspace: Workspace) -> tuple[Strength, ...]:
    routes = workspace.outputs["route"]["routes"]
    return tuple(
        Strength(teacher, task, _estimate(value), routes[task]["teacher"] == teacher)
        for teacher, tasks in workspace.outputs["probe"]["strengths"].items()
        for task, value in tasks.items()
    )


def _points(workspace: Workspace) -> tuple[Point, ...]:
    """Training prompts on the map: equally many of each task, so that a small one is seen too."""
    import numpy as np

    from router.embedding import cached_vectors, map_2d

    label_of = labels(workspace)
    by_task: dict[str, list[Item]] = {}
    for item in workspace.in_seeded_order(workspace.pools.train):
        by_task.setdefault(label_of[item.prompt.key][0], []).append(item)
    items = [item for part in by_task.values() for item in part[: MAP_POINTS // len(by_task)]]
    vectors = cached_vectors(workspace.ledger, [i.prompt for i in items], workspace.embedder)
    shown = [item.prompt.key for item in items if item.prompt.key in vectors]
    if not shown:
        return ()
    flat = map_2d(np.stack([vectors[key] for key in shown]))
    return tuple(
        Point(float(x), float(y), *label_of[key]) for key, (x, y) in zip(shown, flat, strict=True)
    )


def _flow(workspace: Workspace) -> tuple[Flow, ...]:
    """Per task and teacher: the answers that were asked for, and how many of them the mix holds."""
    mixed = {
        (task, teacher): count
        for task, teacher, count in workspace.ledger.rows(
            "SELECT l.task, t.key, count(DISTINCT b.sample) FROM mix_member b "
            "JOIN mix m ON b.mix = m.id JOIN sample s ON b.sample = s.id "
            "JOIN teacher t ON s.teacher = t.id JOIN label l ON l.prompt = s.prompt "
            "WHERE m.key = ? AND l.classifier = ? GROUP BY ALL",
            [workspace.keys["mix"], workspace.outputs["classify"]["classifier"]],
        )
    }
    keys = workspace.outputs["probe"]["teachers"]
    return tuple(
        Flow(task, teacher, count, mixed.get((task, keys[teacher]), 0))
        for (task, teacher), count in answers_asked(workspace).items()
    )


def _mix(workspace: Workspace) -> Mix:
    from mixer import read_blend

    blend = read_blend(workspace.mix_folder)
    return Mix(
        unit=blend.unit,
        total=blend.total,
        stages=tuple(MixStage(s.name, s.order, s.until) for s in blend.stages),
        cells=tuple(MixCell(c.stage, c.task, c.teacher, c.samples, c.tokens) for c in blend.cells),
        drops=tuple(Drop(name, count) for name, count in blend.dropped.items()),
    )


def _training(workspace: Workspace) -> Training:
    from ledger.mixes import read_manifest
    from trainer.losslog import LOG_NAME, read_log

    student, trained = workspace.recipe.student, workspace.outputs["train"]
    log = read_log(workspace.student_folder / LOG_NAME)
    measured = [line for line in log if "held_out" in line]
    stages = read_manifest(workspace.mix_folder).stages
    samples = stages[-1].stop
    return Training(
        base=student.base,
        signal=" + ".join(student.signal),
        steps=trained["steps"],
        seconds=trained["training_s"],
        loss=tuple((line["step"], line["loss"]) for line in log),
        stage_starts=tuple(
            StageStart(stage.name, round(stage.start / samples * trained["steps"]))
            for stage in stages
        ),
        held_out=tuple((line["step"], line["held_out"]["loss"]) for line in measured),
        kept_step=trained["kept_step"] if measured else None,
        parts=_loss_parts(log, _held_out_at(measured, trained["kept_step"])),
    )


def _held_out_at(measured: list[dict[str, Any]], step: int) -> dict[str, Any]:
    """What was measured on what is held out after a step."""
    return next((line["held_out"] for line in measured if line["step"] == step), {})


def _loss_parts(log: list[dict[str, Any]], held_out: dict[str, Any]) -> tuple[LossPart, ...]:
    """By task and by teacher the losses of the last line that has them, and the mean share of the tokens."""
    found = []
    for kind in KINDS:
        last = {name: part for line in log for name, part in line.get(f"{kind}s", {}).items()}
        for name, part in sorted(last.items()):
            shares = [line.get(f"{kind}s", {}).get(name, {}).get("share", 0.0) for line in log]
            found.append(
                LossPart(
                    kind,
                    name,
                    sum(shares) / len(log) if kind == "teacher" else None,
                    part.get("ce"),
                    part.get("kd"),
                    part.get("feature"),
                    held_out.get(f"{kind}s", {}).get(name, {}).get("ce"),
                )
            )
    return tuple(found)


def _sizes(workspace: Workspace, costs: tuple[TeacherCost, ...]) -> tuple[SizePoint, ...]:
    """The students of all sizes, and the teachers that items are routed to."""
    found = workspace.outputs.get("sizes", {"students": {}, "teachers": {}, "speed": {}})
    speed = found["speed"]
    fastest = max(
        (speed[name]["tokens_per_s"] for name in found["teachers"] if name in speed), default=None
    )

    usd = _usd_per_1000(workspace, speed, costs)

    def timed(name: str) -> dict[str, Any]:
        at = speed.get(name)
        if at is None:
            return {}
        own = {key: at[key] for key in ("tokens_per_s", "peak_rss_mib", "disk_mib")}
        faster = at["tokens_per_s"] / fastest if fastest else None
        return own | {"faster": faster, "usd_per_1000": usd.get(name)}

    students = tuple(
        SizePoint(
            name,
            "student",
            _estimate(at["score"]),
            at["overall"]["decision"],
            at["parameters"],
            at["training_s"],
            **timed(name),
        )
        for name, at in sorted(found["students"].items(), key=lambda item: item[1]["parameters"])
    )
    teachers = tuple(
        SizePoint(name, "teacher", _estimate(at), **timed(name))
        for name, at in found["teachers"].items()
    )
    return students + teachers


def _usd_per_1000(
    workspace: Workspace, speed: dict[str, Any], costs: tuple[TeacherCost, ...]
) -> dict[str, float]:
    """By model what 1,000 answers cost, where somebody charges for them or the recipe prices the machine."""
    usd_per_hour = workspace.recipe.evaluate.speed.machine_usd_per_hour
    own = {
        name: usd_per_hour / 3600 * 1000 * at["seconds"] / at["answers"]
        for name, at in speed.items()
        if usd_per_hour is not None and at["peak_rss_mib"] is not None
    }
    return own | {cost.teacher: 1000 * cost.usd / cost.requests for cost in costs if cost.usd}


def _speeds(
    workspace: Workspace, result: dict[str, Any], costs: tuple[TeacherCost, ...]
) -> tuple[Speed, ...]:
    """Speeds, and what 1,000 answers cost."""
    usd = _usd_per_1000(workspace, result["speed"], costs)
    return tuple(
        Speed(
            model=name,
            role=name if name in ("student", "baseline") else "teacher",
            tokens_per_s=at["tokens_per_s"],
            peak_rss_mib=at["peak_rss_mib"],
            disk_mib=at["disk_mib"],
            usd_per_1000=usd.get(name),
            paces=tuple(
                PaceAt(
                    int(level),
                    pace["tokens_per_s"],
                    _latency(pace["first_token"]),
                    _latency(pace["per_token"]) if pace["per_token"] else None,
                )
                for level, pace in at["paces"].items()
            ),
        )
        for name, at in result["speed"].items()
    )


def _latency(found: dict[str, float]) -> tuple[float, float, float]:
    return found["mean"], found["median"], found["p99"]


def _speed_note(workspace: Workspace) -> str:
    speed = workspace.recipe.evaluate.speed
    return (
        f"{speed.prompts} test prompts, {speed.max_tokens} tokens each, {max(speed.concurrency)} at a time, "
        f"median of {speed.repeats} rounds in turn, each model in a process of its own; "
        f"{platform.machine()}, {_cores()} cores."
    )


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _costs(workspace: Workspace) -> tuple[TeacherCost, ...]:
    """By teacher, under the recipe's name for it."""
    names = {key: name for name, key in workspace.outputs["probe"]["teachers"].items()}
    rows = workspace.ledger.rows(
        "SELECT t.key, count(*), coalesce(sum(r.prompt_tokens), 0), "
        "coalesce(sum(r.completion_tokens), 0), sum(r.cost_usd), "
        "coalesce(string_agg(DISTINCT r.price_source, ', '), '') "
        f"FROM {REQUESTS.format(where='run = ?')} r "
        "JOIN teacher t ON r.teacher = t.id WHERE list_contains(?, t.key) "
        "GROUP BY t.key ORDER BY t.key",
        [workspace.run, list(names)],
    )
    found = {names[key]: TeacherCost(names[key], *rest) for key, *rest in rows}
    return tuple(found[name] for name in sorted(found))


def _story(workspace: Workspace, strengths: tuple[Strength, ...]) -> Story | None:
    """The way of the mix's first sample, from prompt to student."""
    rows = workspace.ledger.rows(
        "SELECT s.key FROM mix_member b JOIN mix m ON b.mix = m.id JOIN sample s ON b.sample = s.id "
        "WHERE m.key = ? ORDER BY b.position LIMIT 1",
        [workspace.keys["mix"]],
    )
    if not rows:
        return None
    known = sample_story(workspace.ledger, rows[0][0])
    classifier = workspace.outputs["classify"]["classifier"]
    label = next(entry for entry in known["labels"] if entry["classifier"] == classifier)
    request = known["requests"][-1]
    student = next(
        (s for s in known["students"] if s["student_run"] == workspace.keys["train"]), None
    )
    return Story(
        sample=known["sample"],
        prompt="\n".join(m["content"] for m in known["messages"] if m["role"] == "user"),
        source=known["source"],
        licence=known["prompt_licence"] or "unknown",
        task=label["task"],
        probability=label["probability"],
        nearest=_nearest(workspace, known["prompt"]),
        strengths=tuple(s for s in strengths if s.task == label["task"]),
        teacher=known["teacher"],
        model=known["model"],
        reason=_reason(workspace, label["task"], known["prompt"]),
        request=request["request"],
        state=request["state"],
        attempts=request["attempts"],
        seconds=request["seconds"],
        prompt_tokens=request["prompt_tokens"] or 0,
        completion_tokens=request["completion_tokens"] or 0,
        cost_usd=request["cost_usd"],
        answer=known["text"],
        filters=tuple(FilterWord(name, True) for name in workspace.recipe.mix.drop),
        positions=tuple(
            MixPosition(m["stage"], m["position"], m["repeat"])
            for m in known["mixes"]
            if m["mix"] == workspace.keys["mix"]
        ),
        student=student["student_run"] if student else "",
        times_consumed=student["times"] if student else 0,
    )


def _reason(workspace: Workspace, task: str, prompt: str) -> str:
    """Why a prompt went where it went: its own reason where it left its task's teacher."""
    own = workspace.ledger.rows(
        "SELECT r.reason FROM route r JOIN prompt p ON r.prompt = p.id WHERE r.key = ? AND p.key = ?",
        [workspace.keys["route"], prompt],
    )
    return str(own[0][0] if own else workspace.outputs["route"]["routes"][task]["reason"])


def _nearest(workspace: Workspace, prompt: str) -> tuple[Neighbour, ...]:
    import numpy as np

    from router.deciding import nearest
    from router.embedding import cached_vectors

    examples = [
        (each, task) for each, task in example_pairs(workspace) if each.prompt.key != prompt
    ]
    item = next(i for i in workspace.pools.train if i.prompt.key == prompt)
    vectors = cached_vectors(
        workspace.ledger, [item.prompt, *(e.prompt for e, _ in examples)], workspace.embedder
    )
    matrix = np.stack([vectors[example.prompt.key] for example, _ in examples])
    return tuple(
        Neighbour(examples[index][0].prompt.text, examples[index][1], similarity)
        for index, similarity in nearest(matrix, vectors[prompt], 3)
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _hashes(workspace: Workspace) -> dict[str, str]:
    outputs = workspace.outputs
    head = workspace.ledger.rows("SELECT hash FROM batch ORDER BY sequence DESC LIMIT 1")
    return {
        "mix lock": outputs["mix"]["lock_sha"],
        "mix plan": outputs["mix"]["plan_sha"],
        "student weights": outputs["train"]["weights_sha"],
        "ledger head": head[0][0],
        "recipe": workspace.loaded.key,
    }


def _licences(workspace: Workspace) -> tuple[Licence, ...]:
    recipe = workspace.recipe
    return (
        *(Licence("teacher", name, t.licence) for name, t in recipe.teachers.items()),
        *(Licence("source", s.name, s.licence) for s in recipe.prompts),
        Licence("base", recipe.student.base, recipe.student.licence or "unknown"),
    )
