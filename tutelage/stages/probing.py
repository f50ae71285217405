"""probe: teachers answer held-out prompts, bought where they can still change a route."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from ledger.errors import InputError
from ledger.prompts import Item
from tutelage.buying import cannot_take, cost_usd, limits, measured_answers, require_teachers
from tutelage.judging import judge_inputs, judged_scores, uses_judge
from tutelage.stages.classifying import vectors_of
from tutelage.stages.stage import Output, Stage
from tutelage.watch import Watch
from tutelage.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from evals.likelihood import Learnability
    from router.deciding.strata import Strata
    from router.engine import Request
    from tutelage.buying import Measured

Scores = dict[str, dict[str, dict[str, float]]]  # task -> teacher -> prompt key


def probe_requests(workspace: Workspace) -> "list[Request]":
    """All that may be bought: every probe, of every teacher."""
    from router.engine import Request

    return [
        Request(item.prompt, name, task=str(item.task))
        for name in workspace.recipe.eligible
        for item in workspace.pools.probes
    ]


def _probe_inputs(workspace: Workspace) -> Any:
    probes = workspace.recipe.probes
    return {
        "probes": workspace.pools.fingerprint("probes"),
        "teachers": {name: teacher.key for name, teacher in workspace.teachers.items()},
        "limits": limits(workspace),
        "sampling": [workspace.sampling.key_fields, workspace.sampling.max_tokens],
        "scorer": workspace.scorer("probes"),
        **(judge_inputs(workspace, compares=False) if uses_judge(workspace, "probes") else {}),
        "route": workspace.recipe.route.model_dump(
            mode="json", include={"confidence", "alpha", "objective", "policy", "to", "guard"}
        ),
        "student": workspace.baseline_key if _learnable(workspace) else None,
        "allocation": [probes.allocation, probes.max_calls],
        "embedder": workspace.embedder.key if probes.allocation == "sequential" else None,
        "seed": workspace.recipe.seed,
    }


def _probe(workspace: Workspace, watch: Watch) -> Output:
    """Buys in rounds, each decided by the scores before it: killed and unkilled runs buy the same."""
    import numpy as np

    from evals.likelihood import mean_learnability, worth
    from evals.summary import score_answers, values
    from router.deciding import strata_of, strengths_of
    from router.engine import Request

    names, items = _names(workspace), _in_turn(workspace)
    by_key = {item.prompt.key: item for item in items}
    tasks, confidence = [str(item.task) for item in items], workspace.recipe.route.confidence
    vectors, strata = None, None
    if in_rounds(workspace):
        vectors = vectors_of(workspace, items, watch)
        strata = strata_of(list(by_key), vectors, tasks, workspace.recipe.seed)
    scorers, states, paused = workspace.scorer("probes"), Counter[str](), set[str]()
    asked, closed = np.zeros((len(items), len(names)), bool), _closed(workspace, items, names)
    found: Measured = {}
    scores: Scores = {}
    weighed: Scores = {}
    near: dict[str, Learnability] = {}
    while (
        cells := _next_probes(workspace, items, vectors, strata, weighed, asked, closed, found)
    ).any():
        requests = [
            Request(items[row].prompt, names[column], task=str(items[row].task))
            for column, row in np.argwhere((cells & ~closed).T).tolist()
            if names[column] not in paused
        ]
        bought, purchase = measured_answers(workspace, watch, "probe", requests, workspace.teachers)
        if not asked.any():
            require_teachers(requests, bought, purchase, "probe")
        asked |= cells
        found |= bought
        states.update(purchase.states)
        paused |= purchase.paused.keys()
        graded = [(by_key[key], answer) for (key, _, _), answer in bought.items()]
        by_scorer = [(scorers[str(item.task)], item, answer) for item, answer in graded]
        judged = judged_scores(workspace, watch, "probe", by_scorer)
        new = values(score_answers(workspace.ledger, bought, items, scorers, judged))
        for task, by_teacher in new.items():
            for name, by_prompt in by_teacher.items():
                scores.setdefault(task, {}).setdefault(name, {}).update(by_prompt)
        if _learnable(workspace):
            near = _learnability(workspace, watch, items, found)
        weighed = worth(scores, found, near) if near else scores
    strengths = strengths_of(scores, workspace.pools.tasks, names, confidence, strata)
    return {
        "states": dict(states),
        "paused": sorted(paused),
        "cost_usd": cost_usd(workspace, "probe"),
        "asked": int((asked & ~closed).sum()),
        "of": asked.size,
        "teachers": {name: teacher.key for name, teacher in workspace.teachers.items()},
        "scores": scores,
        "worth": weighed if near else None,
        "learnability": {
            name: {task: [mean.likelihood, mean.reach] for task, mean in at.items()}
            for name, at in mean_learnability(scores, found, near).items()
        },
        "strengths": {
            name: {
                task: asdict(strengths[task][name])
                for task in workspace.pools.tasks
                if name in strengths[task]
            }
            for name in workspace.recipe.eligible
        },
        "answer_tokens": _means(items, names, found, "completion_tokens"),
        "answer_usd": _means(items, names, found, "cost_usd"),
    }


def _closed(workspace: Workspace, items: list[Item], names: list[str]) -> "np.ndarray":
    """The probes (N, T) bool that a teacher cannot take, so that nobody asks it."""
    import numpy as np

    prompts = [item.prompt for item in items]
    found = np.zeros((len(items), len(names)), bool)
    for column, name in enumerate(names):
        found[list(cannot_take(workspace, name, prompts)), column] = True
    return found


def _means(
    items: list[Item], names: list[str], found: "Measured", figure: str
) -> dict[str, dict[str, float]]:
    """By teacher and task, the mean of a figure of its answers, where it is known."""
    known: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for item in items:
        for name in names:
            value = getattr(found.get((item.prompt.key, name, 0)), figure, None)
            if value is not None:
                known[name].setdefault(str(item.task), []).append(value)
    return {
        name: {task: sum(values) / len(values) for task, values in tasks.items()}
        for name, tasks in known.items()
    }


def _learnable(workspace: Workspace) -> bool:
    return workspace.recipe.route.objective == "learnable"


def _learnability(
    workspace: Workspace, watch: Watch, items: list[Item], found: "Measured"
) -> "dict[str, Learnability]":
    """By sample key, how near the answers to the probes are to the student's reach."""
    from evals.likelihood import learnability

    prompts = {item.prompt.key: item.prompt for item in items}
    return learnability(
        workspace.ledger,
        workspace.baseline,
        [(prompts[key], answer) for (key, _, _), answer in found.items()],
        lambda done, total: watch.progress(
            done, total, f"{done:,}/{total:,} answers held against what the student could say"
        ),
    )


def in_rounds(workspace: Workspace) -> bool:
    """Whether probes are bought where they can change a route: with one teacher none can."""
    return workspace.recipe.probes.allocation == "sequential" and len(workspace.recipe.eligible) > 1


def _names(workspace: Workspace) -> list[str]:
    """The teachers in an order that new names for them do not change, so that these buy nothing."""
    return sorted(workspace.recipe.eligible, key=lambda name: workspace.teachers[name].key)


def _in_turn(workspace: Workspace) -> list[Item]:
    """The probes, a task after the other in turn, so that the first ones are of all tasks."""
    by_task: dict[str, list[Item]] = {}
    for item in workspace.in_seeded_order(workspace.pools.probes):
        by_task.setdefault(str(item.task), []).append(item)
    turns = zip_longest(*(by_task[task] for task in sorted(by_task)))
    return [item for turn in turns for item in turn if item is not None]


def _next_probes(
    workspace: Workspace,
    items: list[Item],
    vectors: "np.ndarray | None",
    strata: "Strata | None",
    scores: Scores,
    asked: "np.ndarray",
    closed: "np.ndarray",
    found: "Measured",
) -> "np.ndarray":
    """The answers (N, T) bool to buy next; none where all is bought that is wanted."""
    import numpy as np

    from router.deciding import contested, decide, next_round, utilities

    names, recipe = _names(workspace), workspace.recipe
    budget = (recipe.probes.max_calls or asked.size) - int((asked & ~closed).sum())
    if vectors is None:
        wanted = np.zeros(asked.shape, bool)
        wanted[: max(budget, 0) // len(names)] = not asked.any()
        return wanted
    tasks, table = [str(item.task) for item in items], score_table(items, names, scores)
    usd = None
    if recipe.route.policy == "cost" and found:
        usd = usd_per_1000(workspace, _means(items, names, found, "cost_usd"), scores)
    table = utilities(recipe.route, tasks, names, table, usd)
    confidence, seed = recipe.route.confidence, recipe.seed
    cells = next_round(vectors, tasks, table, asked, budget, confidence, seed)
    if not cells.any() and recipe.route.guard and found:
        routes = decide(recipe.route, workspace.pools.tasks, names, scores, usd, strata)
        cells = contested(routes, tasks, names, asked, budget)
    return cells


def usd_per_1000(
    workspace: Workspace, answer_usd: dict[str, dict[str, float]], scores: Scores
) -> dict[str, dict[str, float]] | None:
    """By task and teacher, what 1,000 answers cost where one costs `answer_usd` (by teacher and task); a
    teacher's mean where a task has none. Teachers without a score have no price either. None where a price is
    not known; raises InputError then under `cost`."""
    recipe = workspace.recipe
    scored = {name for at in scores.values() for name, by_key in at.items() if by_key}
    names = [name for name in recipe.eligible if name in scored]
    if unknown := [name for name in names if not answer_usd.get(name)]:
        if recipe.route.policy == "cost":
            raise InputError(
                f"{workspace.loaded.at('route', 'policy')}: `cost` needs the price of {unknown[0]}, and it is "
                "not known: give the teacher a `price:`, or use `policy: strongest`"
            )
        return None
    means = {name: sum(answer_usd[name].values()) / len(answer_usd[name]) for name in names}
    return {
        task: {name: 1000 * answer_usd[name].get(task, means[name]) for name in names}
        for task in workspace.pools.tasks
    }


def score_table(items: Sequence[Item], names: Sequence[str], scores: Scores) -> "np.ndarray":
    """Scores by task, teacher and prompt key as (N, T), NaN where there is none."""
    import numpy as np

    return np.array(
        [
            [
                scores.get(str(item.task), {}).get(name, {}).get(item.prompt.key, np.nan)
                for name in names
            ]
            for item in items
        ]
    )


def _probe_line(output: Output) -> str:
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(output["states"].items()))
    share = (
        f"{output['asked']:,} of {output['of']:,} answers of {len(output['strengths'])} teachers"
    )
    return f"{share}: {states}, ${output['cost_usd']:.2f}"


PROBE = Stage("probe", "teachers answer held-out probes", _probe_inputs, _probe, _probe_line)
