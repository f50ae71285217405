"""classify, probe and route: what is each prompt, who is strongest there, who answers it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import InputError
from ledger.keys import content_key, now_us
from ledger.prompts import Item
from tutelage.buying import measured_answers, purchase_figures, require_teachers
from tutelage.stages.stage import Output, Stage
from tutelage.watch import Watch
from tutelage.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from router.deciding import (
        Discovered,
        Label,
        Probed,
        PromptRoute,
        Route,
        Router,
        TaskClassifier,
    )
    from router.engine import Request

SOUGHT_IN = 20_000  # prompts that tasks without examples are made of


def _classify_inputs(workspace: Workspace) -> Any:
    pools = workspace.pools
    return {
        "embedder": workspace.embedder.key,
        "tasks": workspace.recipe.tasks.model_dump(mode="json", exclude={"embedding", "examples"}),
        "examples": pools.fingerprint("examples"),
        "train": [item.prompt.key for item in pools.train],
        "probes": [item.prompt.key for item in pools.probes],
        "test": [item.prompt.key for item in pools.test],
        "sources": [[s.name, s.licence] for s in workspace.recipe.prompts],
        "seed": workspace.recipe.seed,
    }


def _classify(workspace: Workspace, watch: Watch) -> Output:
    pools, given = workspace.pools, workspace.recipe.tasks
    put_prompts(workspace, [*pools.examples, *pools.probes, *pools.test, *pools.train])
    probes = vectors_of(workspace, pools.probes, watch)
    examples, found = _examples(workspace, watch)
    vectors = vectors_of(workspace, [item for item, _ in examples], watch)
    classifier = fitted_classifier(workspace, vectors, [task for _, task in examples], probes)
    tasks, novel = Counter[str](), 0
    for keys, window in _embedded(workspace, pools.train, watch):
        labels = classifier.predict(window)
        workspace.ledger.put("label", _label_rows(classifier, keys, labels))
        tasks.update(label.task for label in labels)
        novel += sum(label.novel for label in labels)
    seen = zip(classifier.predict(probes), pools.probes, strict=True)
    named = [(label, item) for label, item in seen if item.task is not None]
    bare = [item for item in (*pools.probes, *pools.test) if item.task is None]
    guesses = classifier.predict(vectors_of(workspace, bare, watch)) if bare else []
    return {
        "classifier": classifier.version,
        "prompts": pools.key,
        "temperature": classifier.temperature,
        "sure_from": classifier.sure_from,
        "novel": novel,
        "task_names": list(classifier.tasks) if given.examples is None else pools.tasks,
        "tasks": dict(sorted(tasks.items())),
        "given": {i.prompt.key: g.best_task for i, g in zip(bare, guesses, strict=True)},
        "examples": [[i.prompt.key, task] for i, task in examples] if not given.examples else [],
        "discovered": sorted(set(found.tasks)) if found and given.discover else [],
        "tried": [asdict(split) for split in found.tried] if found else [],
        "probes_right": sum(label.best_task == item.task for label, item in named),
        "probes": len(named),
    }


def _label_rows(
    classifier: "TaskClassifier", keys: list[str], labels: "list[Label]"
) -> list[dict[str, Any]]:
    return [
        {
            "prompt": key,
            "classifier": classifier.version,
            "task": label.task,
            "probability": label.probability,
            "novel": label.novel,
        }
        for key, label in zip(keys, labels, strict=True)
    ]


def _examples(
    workspace: Workspace, watch: Watch
) -> "tuple[list[tuple[Item, str]], Discovered | None]":
    """Prompts that stand for each task: the recipe's own, or those that its way of making tasks found."""
    from router.deciding import discover, from_descriptions

    given, pools = workspace.recipe.tasks, workspace.pools
    if given.examples is not None:
        return [(item, str(item.task)) for item in pools.examples], None
    items = workspace.in_seeded_order(pools.train)[:SOUGHT_IN]
    vectors = vectors_of(workspace, items, watch)
    if given.describe is not None:
        sentences = workspace.embedder.encode(list(given.describe.values()))
        described = dict(zip(given.describe, sentences, strict=True))
        found = from_descriptions(vectors, described, workspace.recipe.seed)
    else:
        count = given.discover if isinstance(given.discover, int) else None
        texts = [item.prompt.text for item in items]
        found = discover(vectors, texts, workspace.recipe.seed, count)
        _refuse_unknown_names(workspace, sorted(set(found.tasks)))
    pairs = zip(found.rows.tolist(), found.tasks, strict=True)
    return [(items[row], given.names.get(task, task)) for row, task in pairs], found


def _refuse_unknown_names(workspace: Workspace, discovered: list[str]) -> None:
    """Raises InputError, with file:line, where `names:` names a task that was not discovered."""
    for name in workspace.recipe.tasks.names:
        if name not in discovered:
            raise InputError(
                f"{workspace.loaded.at('tasks', 'names', name)}: there is no discovered task {name!r}; "
                f"there are {', '.join(discovered)}"
            )


def example_pairs(workspace: Workspace) -> list[tuple[Item, str]]:
    """The examples that `classify` fitted its classifier on, and their tasks."""
    pools = workspace.pools
    if pools.examples:
        return [(item, str(item.task)) for item in pools.examples]
    by_key = {item.prompt.key: item for item in pools.train}
    return [(by_key[key], task) for key, task in workspace.outputs["classify"]["examples"]]


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
    workspace: Workspace, examples: "np.ndarray", tasks: list[str], probes: "np.ndarray"
) -> "TaskClassifier":
    """The classifier that examples, their tasks and the probes make; the same make the same one."""
    from router.deciding import fit

    return fit(examples, tasks, workspace.recipe.seed, workspace.recipe.tasks.error_rate, probes)


def vectors_of(workspace: Workspace, items: Sequence[Item], watch: Watch) -> "np.ndarray":
    """The items' vectors (N, D)."""
    import numpy as np

    windows = [window for _, window in _embedded(workspace, items, watch)]
    return np.concatenate(windows) if windows else np.zeros((0, 0), np.float32)


def _embedded(
    workspace: Workspace, items: Sequence[Item], watch: Watch
) -> "Iterator[tuple[list[str], np.ndarray]]":
    """Window by window, the items' prompt keys and vectors (n, D)."""
    from router.embedding import embedded

    windows = embedded(
        workspace.ledger,
        (item.prompt for item in items),
        workspace.embedder,
        len(items),
        lambda p: watch.progress(
            p.done,
            p.total,
            f"{p.done:,}/{p.total:,} prompts embedded, {p.reused:,} from the ledger",
        ),
    )
    for prompts, vectors in windows:
        yield [prompt.key for prompt in prompts], vectors


def _classify_line(output: Output) -> str:
    counts = ", ".join(f"{count:,} {task}" for task, count in output["tasks"].items())
    new = f"; {output['novel']:,} are like nothing that was probed" if output["novel"] else ""
    if not output["probes"]:
        return f"{counts}{new}"
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
    vectors = vectors_of(workspace, pools.probes, watch)
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
    pools = workspace.pools
    put_prompts(workspace, pools.test)
    tasks = {**labels(workspace), **{item.prompt.key: str(item.task) for item in pools.test}}
    confidence = workspace.recipe.route.confidence
    return [
        route
        for keys, window in _embedded(workspace, [*pools.train, *pools.test], watch)
        for route in router.leaving(keys, window, [tasks[key] for key in keys], confidence)
    ]


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
