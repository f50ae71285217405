"""route: each task gets its teacher, and each prompt that another serves better."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.keys import content_key, folder_hash
from router.deciding.classifier import UNSURE
from router.deciding.router import ROUTER_FORMAT
from tutelage.buying import cannot_take, limits
from tutelage.stages.classifying import embedded_windows, labels, vectors_of
from tutelage.stages.probing import Scores, in_rounds, score_table, usd_per_1000
from tutelage.stages.stage import Output, Stage
from tutelage.watch import Watch
from tutelage.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from ledger.prompts import Prompt
    from router.deciding import Probed, PromptRoute, Route, Router

ROUTER_FILES = "router.*"


def _route_inputs(workspace: Workspace) -> Any:
    return {
        "format": ROUTER_FORMAT,
        "probe": workspace.keys["probe"],
        "scores": content_key([workspace.outputs["probe"][part] for part in ("scores", "worth")]),
        "usd": workspace.outputs["probe"]["answer_usd"],
        "route": workspace.recipe.route.model_dump(mode="json"),
        "limits": limits(workspace),
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
    probes = workspace.outputs["probe"]
    usd = usd_per_1000(workspace, probes["answer_usd"], probes["scores"])
    worth = probed(workspace, vectors, probes["worth"] or probes["scores"])
    router = fit_router(worth, config, workspace.recipe.seed, usd, pools.tasks)
    folder = Path("router") / workspace.keys["route"][:12]
    router.save(workspace.folder / folder)
    leaving = _leaving(workspace, watch, router)
    for teacher in workspace.teachers.values():
        register(workspace.ledger, teacher)
    keys = {name: teacher.key for name, teacher in workspace.teachers.items()}
    routes: list[Route | PromptRoute] = [*router.routes, *leaving]
    put_routes(
        workspace.ledger, workspace.run, workspace.keys["route"], routes, keys, config.policy
    )
    workspace.ledger.fold()
    _show_routes(workspace, router.routes, watch)
    train = {item.prompt.key for item in pools.train}
    moved = [route for route in leaving if route.prompt in train]
    moves = Counter((route.task, route.teacher) for route in moved)
    output = {
        "folder": str(folder),
        "sha": folder_hash(workspace.folder / folder, [ROUTER_FILES]),
        "routes": {route.task: _compact(route) for route in router.routes},
        "guard": router.guard,
        "front": _front(workspace, usd),
        "left": [[task, teacher, count] for (task, teacher), count in sorted(moves.items())],
        "because": Counter(route.because for route in moved),
        "prompts": len(pools.train),
        "prompt_routes": content_key([[r.prompt, keys[r.teacher]] for r in leaving]),
    }
    watch.note(leaving_line(output))
    return output


def _front(workspace: Workspace, usd: dict[str, dict[str, float]] | None) -> list[dict[str, Any]]:
    """What other weights of price would choose, by the probes; nothing where nobody charges."""
    from router.deciding import front

    if usd is None or not any(price for at in usd.values() for price in at.values()):
        return []
    strengths = workspace.outputs["probe"]["strengths"]
    means = {
        task: {name: at[task]["mean"] for name, at in strengths.items() if task in at}
        for task in workspace.pools.tasks
    }
    known = {task: at for task, at in means.items() if at}
    return [asdict(c) for c in front(known, usd, workspace.outputs["classify"]["tasks"])]


def _leaving(workspace: Workspace, watch: Watch, router: "Router") -> "list[PromptRoute]":
    """Training prompts and test items that do not go to their task's teacher."""
    pools, config = workspace.pools, workspace.recipe.route
    prompts = {item.prompt.key: item.prompt for item in (*pools.train, *pools.test)}
    test = {item.prompt.key for item in pools.test}
    task_of = {key: task for key, (task, _) in labels(workspace).items()}
    task_of |= {item.prompt.key: str(item.task) for item in pools.test}
    by_task = {route.task: route.teacher for route in router.routes}
    leaving: dict[str, PromptRoute] = {}
    for keys, vectors in embedded_windows(workspace, [*pools.train, *pools.test], watch):
        tasks, asked = [task_of[key] for key in keys], [prompts[key] for key in keys]
        unable = _unable(workspace, asked, router.choose(vectors, tasks))
        routes = router.leaving(keys, vectors, tasks, config.confidence, unable)
        leaving |= {route.prompt: route for route in routes}
        own = [
            leaving[k].teacher if k in leaving else by_task[t]
            for k, t in zip(keys, tasks, strict=True)
        ]
        places = [i for i, key in enumerate(keys) if key not in test and tasks[i] != UNSURE]
        leaving |= _explored(workspace, router, [(asked[i], tasks[i], own[i]) for i in places])
    return list(leaving.values())


def _unable(
    workspace: Workspace, prompts: "Sequence[Prompt]", chosen: Sequence[str]
) -> dict[int, dict[str, str]]:
    """Of the prompts that their teacher cannot take: number -> every teacher that cannot, and why."""
    found: dict[int, dict[str, str]] = {}
    for name in dict.fromkeys(chosen):
        rows = [row for row, own in enumerate(chosen) if own == name]
        closed = cannot_take(workspace, name, [prompts[row] for row in rows])
        found |= {rows[i]: {} for i in closed}
    rows = sorted(found)
    for name in workspace.recipe.eligible if rows else ():
        for i, why in cannot_take(workspace, name, [prompts[row] for row in rows]).items():
            found[rows[i]][name] = why
    return found


def _explored(
    workspace: Workspace, router: "Router", routed: "list[tuple[Prompt, str, str]]"
) -> "dict[str, PromptRoute]":
    """The training prompts (with task and teacher) that are given to another teacher by lot."""
    from router.deciding import PromptRoute, drawn
    from router.deciding.sentences import explored

    share, seed = workspace.recipe.route.explore, workspace.recipe.seed
    if not share:
        return {}
    keys, chosen = [prompt.key for prompt, _, _ in routed], [own for _, _, own in routed]
    lots = drawn(keys, chosen, router.teachers, share, seed)
    found = {}
    for name in router.teachers:
        rows = [row for row, teacher in lots.items() if teacher == name]
        closed = cannot_take(workspace, name, [routed[row][0] for row in rows])
        for row in (row for i, row in enumerate(rows) if i not in closed):
            prompt, task, own = routed[row]
            reason = explored(name, own, share)
            found[prompt.key] = PromptRoute(prompt.key, task, name, own, "explored", None, reason)
    return found


def probed(workspace: Workspace, vectors: "np.ndarray", scores: Scores) -> "Probed":
    """The probes with their vectors (N, D), and every teacher's score on each, or what it is worth."""
    from router.deciding import Probed

    items, names = workspace.pools.probes, tuple(workspace.recipe.eligible)
    return Probed(
        tuple(item.prompt.key for item in items),
        vectors,
        tuple(str(item.task) for item in items),
        names,
        score_table(items, names, scores),
        in_rounds(workspace),
    )


def leaving_line(output: Output) -> str:
    """What came of letting prompts leave their task's teacher, and which others do not go there."""
    nearby, of = output["because"].get("nearby"), f"of {output['prompts']:,}"
    told = f"{output['guard']}; {nearby:,} {of} do" if nearby else output["guard"]
    if unable := output["because"].get("unable"):
        told += f"; {unable:,} {of} go elsewhere since theirs cannot take them"
    if lots := output["because"].get("explored"):
        told += f"; {lots:,} {of} are given to others by lot (`explore`)"
    return told


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
    if near := workspace.outputs["probe"]["learnability"]:
        watch.table(
            "likelihood of the answers under the student | share of their tokens in its reach",
            header,
            [
                [
                    name,
                    *(f"{at[t][0]:.3f} | {at[t][1]:.3f}" if t in at else "-" for t in header[1:]),
                ]
                for name, at in near.items()
            ],
        )
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
    """Whether the router that `route` fitted still stands in the run folder, as it was."""
    return folder_hash(workspace.folder / output["folder"], [ROUTER_FILES]) == output.get("sha")


ROUTE = Stage(
    "route",
    "each task gets its teacher, and each prompt that another serves better",
    _route_inputs,
    _route,
    _route_line,
    router_is_there,
)
