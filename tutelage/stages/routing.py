"""classify, probe and route: what is each prompt, who is strongest there, who answers it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.keys import content_key, now_us
from ledger.prompts import Item
from tutelage.buying import measured_answers, purchase_figures, require_teachers
from tutelage.stages.stage import Output, Stage
from tutelage.watch import Watch
from tutelage.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from router.deciding import Probed, PromptRoute, Route, Router, TaskClassifier
    from router.engine import Request


def _classify_inputs(workspace: Workspace) -> Any:
    return {
        "embedder": workspace.embedder.key,
        "error_rate": workspace.recipe.tasks.error_rate,
        "examples": workspace.pools.fingerprint("examples"),
        "train": [item.prompt.key for item in workspace.pools.train],
        "probes": [item.prompt.key for item in workspace.pools.probes],
        "sources": [[s.name, s.licence] for s in workspace.recipe.prompts],
        "seed": workspace.recipe.seed,
    }


def _classify(workspace: Workspace, watch: Watch) -> Output:
    pools = workspace.pools
    items = [*pools.examples, *pools.probes, *pools.test, *pools.train]
    put_prompts(workspace, items)
    seen = _vectors(workspace, pools.probes, watch)
    classifier = fitted_classifier(workspace, _vectors(workspace, pools.examples, watch), seen)
    labels = classifier.predict(_vectors(workspace, pools.train, watch))
    rows = [
        {
            "prompt": item.prompt.key,
            "classifier": classifier.version,
            "task": label.task,
            "probability": label.probability,
            "novel": label.novel,
        }
        for item, label in zip(pools.train, labels, strict=True)
    ]
    workspace.ledger.put("label", rows)
    found = classifier.predict(seen)
    right = sum(a.best_task == i.task for a, i in zip(found, pools.probes, strict=True))
    return {
        "classifier": classifier.version,
        "prompts": pools.key,
        "temperature": classifier.temperature,
        "sure_from": classifier.sure_from,
        "novel": sum(label.novel for label in labels),
        "tasks": dict(sorted(Counter(label.task for label in labels).items())),
        "probes_right": right,
        "probes": len(pools.probes),
    }


def labels(workspace: Workspace) -> dict[str, str]:
    """Prompt key -> the task that the classifier gave it."""
    rows = workspace.ledger.rows(
        "SELECT p.key, l.task FROM label l JOIN prompt p ON l.prompt = p.id WHERE l.classifier = ?",
        [workspace.outputs["classify"]["classifier"]],
    )
    return dict(rows)


def put_prompts(workspace: Workspace, items: list[Item]) -> None:
    """The prompts' rows, and the licences of their sources."""
    rows: dict[str, list[dict[str, Any]]] = {"prompt": [], "prompt_text": []}
    for item in items:
        for table, part in item.prompt.rows(item.source):
            rows[table].extend(part)
    workspace.ledger.put_all(list(rows.items()))
    workspace.ledger.fold()
    declare_sources(workspace)


def declare_sources(workspace: Workspace) -> None:
    """The licences of the prompts' sources, where the ledger's newest word on them is another."""
    known = dict(
        workspace.ledger.rows(
            "SELECT subject, licence FROM licence WHERE kind = 'source' "
            "QUALIFY row_number() OVER (PARTITION BY subject ORDER BY id DESC) = 1"
        )
    )
    rows = [
        {"kind": "source", "subject": s.name, "licence": s.licence, "recorded_at": now_us()}
        for s in workspace.recipe.prompts
        if known.get(s.name) != s.licence
    ]
    if rows:
        workspace.ledger.put("licence", rows)
        workspace.ledger.fold()


def fitted_classifier(
    workspace: Workspace, examples: "np.ndarray", probes: "np.ndarray"
) -> "TaskClassifier":
    """The classifier that vectors of the recipe's examples and probes make; the same make the same one."""
    from router.deciding import fit

    return fit(
        examples,
        [str(item.task) for item in workspace.pools.examples],
        workspace.recipe.seed,
        workspace.recipe.tasks.error_rate,
        probes,
    )


def _vectors(workspace: Workspace, items: list[Item], watch: Watch) -> Any:
    from router.embedding import embed

    return embed(
        workspace.ledger,
        [item.prompt for item in items],
        workspace.embedder,
        lambda p: watch.progress(
            p.done,
            p.total,
            f"{p.done:,}/{p.total:,} prompts embedded, {p.reused:,} from the ledger",
        ),
    )


def _classify_line(output: Output) -> str:
    counts = ", ".join(f"{count:,} {task}" for task, count in output["tasks"].items())
    new = f"; {output['novel']:,} are like nothing that was probed" if output["novel"] else ""
    return f"{counts}; {output['probes_right']} of {output['probes']} probes recognised{new}"


def probe_requests(workspace: Workspace) -> "list[Request]":
    """Every probe, to every teacher."""
    from router.engine import Request

    return [
        Request(item.prompt, name, task=str(item.task))
        for name in workspace.recipe.teachers
        for item in workspace.pools.probes
    ]


def _probe_inputs(workspace: Workspace) -> Any:
    return {
        "probes": workspace.pools.fingerprint("probes"),
        "teachers": {name: teacher.key for name, teacher in workspace.teachers.items()},
        "sampling": [workspace.sampling.key_fields, workspace.sampling.max_tokens],
        "scorer": workspace.scorer("probes"),
        "confidence": workspace.recipe.route.confidence,
    }


def _probe(workspace: Workspace, watch: Watch) -> Output:
    from evals.summary import score_answers, values
    from router.deciding import estimate
    from router.engine import BoughtAnswer

    items, names = workspace.pools.probes, list(workspace.recipe.teachers)
    put_prompts(workspace, items)
    requests = probe_requests(workspace)
    found, purchase = measured_answers(workspace, watch, "probe", requests, workspace.teachers)
    require_teachers(requests, found, purchase, "probe")
    scores = values(score_answers(workspace.ledger, found, items, workspace.scorer("probes")))
    by_teacher = {
        name: {task: list(scores[task].get(name, {}).values()) for task in scores} for name in names
    }
    strengths = estimate(by_teacher, workspace.recipe.route.confidence)
    lengths: dict[str, dict[str, list[int]]] = {name: {} for name in names}
    for item in items:
        for name in names:
            answer = found.get((item.prompt.key, name, 0))
            if isinstance(answer, BoughtAnswer) and answer.completion_tokens is not None:
                lengths[name].setdefault(str(item.task), []).append(answer.completion_tokens)
    return {
        **purchase_figures(workspace, "probe", purchase),
        "teachers": {name: teacher.key for name, teacher in workspace.teachers.items()},
        "scores": scores,
        "strengths": {
            name: {
                task: asdict(strengths[name, task])
                for task in workspace.pools.tasks
                if (name, task) in strengths
            }
            for name in names
        },
        "answer_tokens": {
            name: {task: sum(counts) / len(counts) for task, counts in tasks.items()}
            for name, tasks in lengths.items()
        },
    }


def _probe_line(output: Output) -> str:
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(output["states"].items()))
    return f"{len(output['strengths'])} teachers on the same probes: {states}, ${output['cost_usd']:.2f}"


def _route_inputs(workspace: Workspace) -> Any:
    return {
        "probe": workspace.keys["probe"],
        "scores": content_key(workspace.outputs["probe"]["scores"]),
        "route": workspace.recipe.route.model_dump(mode="json"),
        "tasks": workspace.pools.tasks,
        "labels": workspace.keys["classify"],
        "test": workspace.pools.fingerprint("test"),
        "seed": workspace.recipe.seed,
    }


def _route(workspace: Workspace, watch: Watch) -> Output:
    from router.deciding import PromptRoute, Route, fit_router, put_routes
    from router.teachers.protocol import register

    config, pools = workspace.recipe.route, workspace.pools
    vectors = _vectors(workspace, pools.probes, watch)
    router = fit_router(probed(workspace, vectors), config, workspace.recipe.seed)
    folder = Path("router") / workspace.keys["route"][:12]
    router.save(workspace.folder / folder)
    leaving = _leaving(workspace, watch, router) if router.local else []
    for teacher in workspace.teachers.values():
        register(workspace.ledger, teacher)
    keys = {name: teacher.key for name, teacher in workspace.teachers.items()}
    routes: list[Route | PromptRoute] = [*router.routes, *leaving]
    put_routes(
        workspace.ledger, workspace.run, workspace.keys["route"], routes, keys, config.policy
    )
    workspace.ledger.fold()
    _show_routes(workspace, router.routes, watch)
    test = {item.prompt.key for item in pools.test}
    moves = Counter((r.task, r.teacher) for r in leaving if r.prompt not in test)
    output = {
        "folder": str(folder),
        "routes": {route.task: _compact(route) for route in router.routes},
        "guard": router.guard,
        "left": [[task, teacher, count] for (task, teacher), count in sorted(moves.items())],
        "prompts": len(pools.train),
        "prompt_routes": content_key([[r.prompt, r.teacher] for r in leaving]),
    }
    watch.note(leaving_line(output))
    return output


def _leaving(workspace: Workspace, watch: Watch, router: "Router") -> "list[PromptRoute]":
    """Training prompts and test items that another teacher than their task's serves better."""
    put_prompts(workspace, workspace.pools.test)
    tasks = labels(workspace)
    items = [(item, tasks[item.prompt.key]) for item in workspace.pools.train]
    items += [(item, str(item.task)) for item in workspace.pools.test]
    return router.leaving(
        [item.prompt.key for item, _ in items],
        _vectors(workspace, [item for item, _ in items], watch),
        [task for _, task in items],
        workspace.recipe.route.confidence,
    )


def probed(workspace: Workspace, vectors: "np.ndarray") -> "Probed":
    """The probes with their vectors (N, D), and every teacher's score on each."""
    import numpy as np

    from router.deciding import Probed

    items, names = workspace.pools.probes, tuple(workspace.recipe.teachers)
    found = workspace.outputs["probe"]["scores"]
    scores = [
        [found[item.task].get(name, {}).get(item.prompt.key, np.nan) for name in names]
        for item in items
    ]
    return Probed(
        tuple(item.prompt.key for item in items),
        vectors,
        tuple(str(item.task) for item in items),
        names,
        np.array(scores),
    )


def leaving_line(output: Output) -> str:
    """What came of letting prompts leave their task's teacher."""
    left = sum(count for _, _, count in output["left"])
    counted = f"; {left:,} of {output['prompts']:,} do" if left else ""
    return f"{output['guard']}{counted}"


def _compact(route: "Route") -> dict[str, Any]:
    fields = asdict(route)
    del fields["strengths"]
    return fields


def _show_routes(workspace: Workspace, routes: "Sequence[Route]", watch: Watch) -> None:
    strengths = workspace.outputs["probe"]["strengths"]
    tasks = [route for route in routes if route.task in workspace.pools.tasks]
    header = ["teacher", *(route.task for route in tasks)]
    rows = []
    for name, at in strengths.items():
        cells = [_cell(at.get(route.task), route.teacher == name) for route in tasks]
        rows.append([name, *cells])
    level = f"{workspace.recipe.route.confidence:.0%}"
    watch.table(f"strength on the probes, with {level} intervals; * marks the route", header, rows)
    for route in routes:
        watch.note(f"{route.task}: {route.reason}")


def _cell(strength: dict[str, Any] | None, chosen: bool) -> str:
    if strength is None:
        return "-"
    text = f"{strength['mean']:.2f} [{strength['lo']:.2f}, {strength['hi']:.2f}]"
    return f"{text} *" if chosen else f"{text}  "


def _route_line(output: Output) -> str:
    tasks = ", ".join(f"{task} -> {route['teacher']}" for task, route in output["routes"].items())
    left = sum(count for _, _, count in output["left"])
    return f"{tasks}; {left:,} prompts go elsewhere than their task" if left else tasks


def router_is_there(workspace: Workspace, output: Output) -> bool:
    """Whether the router that `route` fitted still stands in the run folder."""
    folder = workspace.folder / output["folder"]
    return all((folder / name).is_file() for name in ("router.json", "router.safetensors"))


CLASSIFY = Stage(
    "classify",
    "prompts are embedded and split into tasks",
    _classify_inputs,
    _classify,
    _classify_line,
)
PROBE = Stage("probe", "every teacher answers the same probes", _probe_inputs, _probe, _probe_line)
ROUTE = Stage(
    "route",
    "each task gets its teacher, and each prompt that another serves better",
    _route_inputs,
    _route,
    _route_line,
    router_is_there,
)
