"""The result of a run as plain JSON: what `result.json` holds and the closing screen shows."""

from typing import Any

from tutelage.workspace import Workspace


def build_result(workspace: Workspace) -> dict[str, Any]:
    """Joins the stages' outputs. Nothing in it but times, speed and memory differs between a run
    that was killed and one that was not."""
    outputs = workspace.outputs
    evaluated = outputs["evaluate"]
    tasks = {task: _task(outputs, task, found) for task, found in evaluated["tasks"].items()}
    result = {
        "name": workspace.recipe.name,
        "seed": workspace.recipe.seed,
        "within": workspace.recipe.evaluate.within,
        "verdict": evaluated["overall"]["decision"],
        "sentence": "",
        "recovery": evaluated["recovery"],
        "tasks": tasks,
        "unsure": outputs["route"]["routes"]["unsure"],
        "prompts": outputs["classify"]["tasks"],
        "mix": {
            k: outputs["mix"][k] for k in ("samples", "distinct", "tokens", "lock_sha", "plan_sha")
        },
        "student": {k: outputs["train"][k] for k in ("steps", "tokens", "weights_sha", "skipped")},
        "cost_usd": {
            stage: outputs[stage]["cost_usd"]
            for stage in ("probe", "generate", "baseline", "evaluate")
        },
        "requests": {
            stage: outputs[stage]["states"]
            for stage in ("probe", "generate", "baseline", "evaluate")
        },
        "clusters": evaluated["clusters"],
        "general": evaluated["general"],
        "judged": evaluated["judged"],
        "speed": evaluated["speed"],
        "sizes": _sizes(workspace),
        "paths": {
            "report": str(workspace.folder / "report.html"),
            "result": str(workspace.folder / "result.json"),
            "student": str(workspace.student_folder),
            "mix": str(workspace.mix_folder),
            "ledger": str(workspace.ledger.folder),
        },
        "stages_s": {
            # a training that was cut off counts all its sittings
            name: max(output["seconds"], output.get("training_s", 0.0))
            for name, output in outputs.items()
        },
    }
    result["sentence"] = _sentence(result)
    result["cost_line"] = _cost_line(workspace, result)
    result["recovery_line"] = recovery_line(result["recovery"])
    result["general_line"] = general_line(result["general"])
    result["judge_line"] = judge_line(result["judged"])
    result["speed_line"] = speed_line(result)
    result["next"] = _next(workspace, result)
    return result


def _sizes(workspace: Workspace) -> dict[str, Any]:
    """By name, the students of other sizes: where they are and what they are worth."""
    sizes = workspace.outputs.get("sizes", {"students": {}, "speed": {}})
    return {
        name: {
            "path": str(workspace.folder / at["folder"]),
            "parameters": at["parameters"],
            "score": _estimate(at["score"]),
            "within": at["overall"]["decision"],
            "tokens_per_s": sizes["speed"].get(name, {}).get("tokens_per_s"),
        }
        for name, at in sizes["students"].items()
    }


def _task(outputs: dict[str, Any], task: str, found: dict[str, Any]) -> dict[str, Any]:
    route, verdict = outputs["route"]["routes"][task], found["verdict"]
    models = {name: _estimate(standing) for name, standing in found["models"].items()}
    chosen, *others = found["compared"]
    return {
        "chosen": chosen,
        "runner_up": others[0] if others else None,
        "reason": route["reason"],
        "guarded": route["guarded"],
        "routed": found["routed"],
        "teacher": _estimate(found["teacher"]),
        "teachers": {n: e for n, e in models.items() if n not in ("student", "baseline")},
        "baseline": models["baseline"],
        "student": models["student"],
        "verdict": verdict["decision"],
        "verdict_reason": verdict["reason"],
        "difference": {
            "mean": verdict["difference"],
            "lo": verdict["lower"],
            "hi": verdict["upper"],
        },
        "further_items": verdict["further"],
        "recovery": found["recovery"],
        "oracle": _estimate(found["oracle"]),
        "against_baseline": found["against_baseline"],
        "against_teacher": found["against_teacher"],
        "likeness": outputs["evaluate"]["likeness"][task],
        "distribution": outputs["evaluate"]["distribution"][task],
    }


def _estimate(standing: dict[str, Any]) -> dict[str, Any]:
    return {key: standing[key] for key in ("mean", "lo", "hi", "n")}


def _sentence(result: dict[str, Any]) -> str:
    """The answer to "did it work?"."""
    tasks, within = result["tasks"], f"{result['within']:.0%}"
    count = f"all {len(tasks)} tasks" if len(tasks) > 1 else "the task"
    if result["verdict"] == "yes":
        return f"The student is within {within} of its teachers on {count}, beyond noise."
    if result["verdict"] == "no":
        lost = ", ".join(name for name, task in tasks.items() if task["verdict"] == "no")
        return f"The student is more than {within} below its teacher on {lost}."
    open_ = {
        name: task["further_items"] for name, task in tasks.items() if task["verdict"] != "yes"
    }
    further = [f"{number:,} of {name}" for name, number in open_.items() if number is not None]
    would_do = f"about {', '.join(further)} would do" if further else "see why in the report"
    return (
        f"Not enough data to say whether the student is within {within} of its teachers on "
        f"{', '.join(open_)}: add test items ({would_do})."
    )


def _cost_line(workspace: Workspace, result: dict[str, Any]) -> str:
    total = sum(result["cost_usd"].values()) + sum(
        at["usd"] or 0 for at in result["speed"].values()
    )
    query = (
        "SELECT count(DISTINCT r.key) FROM request r JOIN teacher t ON r.teacher = t.id "
        "WHERE r.run = ? AND list_contains(?, t.key)"
    )
    teachers = list(workspace.outputs["probe"]["teachers"].values())
    answers = workspace.ledger.rows(query, [workspace.run, teachers])[0][0]
    seconds = sum(result["stages_s"].values())
    return f"${total:.2f} for {answers:,} answers of teachers; {seconds:,.0f} s of work in all"


def recovery_line(found: dict[str, Any]) -> str:
    """How far the student came from its baseline towards its teachers."""
    if found["value"] is None:
        return f"undefined: {found['reason']}"
    value, lo, hi = (f"{100 * found[name]:.0f}" for name in ("value", "lo", "hi"))
    return f"{value} % [{lo}, {hi}] of the way from the baseline to its teachers"


def general_line(general: dict[str, Any]) -> str | None:
    """What the student forgot of the general set; None where the recipe names none."""
    from evals.stats import PairedTest

    if not general:
        return None
    tests = {task: PairedTest(**found["test"]) for task, found in general.items()}
    worse = [
        f"{task} ({general[task]['baseline']['mean']:.3f} -> {general[task]['student']['mean']:.3f})"
        for task, test in tests.items()
        if test.is_worse
    ]
    if not worse:
        return f"nothing beyond noise on {', '.join(general)}"
    return f"worse than before training on {', '.join(worse)}"


def judge_line(judged: dict[str, Any]) -> str | None:
    """How often judges preferred the student, its teacher, or neither; None where none were asked."""
    found = [at["better"] for at in judged.get("tasks", {}).values() if "better" in at]
    pairs = sum(at[name] for at in found for name in ("wins", "ties", "losses"))
    if not pairs:
        return None
    won, tied, lost = (
        f"{sum(at[name] for at in found) / pairs:.0%}" for name in ("wins", "ties", "losses")
    )
    flipped = sum(at["flips"]["mean"] * at["flips"]["n"] for at in found)
    asked = sum(at["flips"]["n"] for at in found)
    flips = f"; {flipped / asked:.0%} of verdicts turned with the order" if asked else ""
    return (
        f"{', '.join(judged['by'])}: student better {won}, its teacher {lost}, neither {tied} "
        f"of {pairs} pairs{flips}"
    )


def speed_line(result: dict[str, Any]) -> str:
    """Student against its teachers, tokens per second and memory."""
    speed = result["speed"]
    if "student" not in speed:
        return "not measured (evaluate.speed.prompts is 0)"
    parts = [_speed_of("student", speed["student"])]
    parts += [
        _speed_of(name, at) for name, at in speed.items() if name not in ("student", "baseline")
    ]
    return "; ".join(parts)


def _speed_of(name: str, at: dict[str, Any]) -> str:
    memory = f", {at['peak_rss_mib']:,.0f} MiB" if at["peak_rss_mib"] else ""
    return f"{name} {at['tokens_per_s']:,.0f} tokens/s{memory}"


def _next(workspace: Workspace, result: dict[str, Any]) -> list[str]:
    shortest = min(workspace.pools.test, key=lambda item: len(item.prompt.text))
    prompt = " ".join(shortest.prompt.text.split()).replace('"', "'")[:80]
    run = workspace.recipe.run
    return [
        f'tutelage ask {run} "{prompt}"',
        f"tutelage audit student {run}",
        f"{workspace.loaded.command('plan')}   # edit it, see what changes",
    ]
