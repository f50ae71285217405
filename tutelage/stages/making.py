"""generate and mix: the routed teachers answer what the mix needs, and the mix is written."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import InputError
from ledger.mixes import MixDamaged, read_manifest
from ledger.prompts import Item
from router.deciding.classifier import UNSURE
from tutelage.buying import AnswersMissing, buy_answers, closed_to, cost_usd, limits
from tutelage.judging import judge_inputs, judged_scores, uses_judge
from tutelage.stages.classifying import declare_sources, labels
from tutelage.stages.stage import Output, Stage
from tutelage.watch import Watch
from tutelage.workspace import Workspace

if TYPE_CHECKING:
    from mixer import Candidate, Need
    from router.engine import BoughtAnswer, Failure, Request

GRADED = {"unverified", "not_best"}  # the filters that go by scores
FIRST_GUESS_TOKENS = 64.0  # of an answer, where no probe of its task was answered


def labelled(workspace: Workspace) -> dict[str, list[Item]]:
    """The training prompts of each task, as the classifier labelled them, in seeded order."""
    task_of = labels(workspace)
    tasks: dict[str, list[Item]] = defaultdict(list)
    for item in workspace.in_seeded_order(workspace.pools.train):
        tasks[task_of[item.prompt.key][0]].append(item)
    return tasks


def asked_for(
    workspace: Workspace, task: str, items: Sequence[Item], start: int
) -> "Iterator[tuple[Item, Request]]":
    """A task's requests from a place on: `n` for each prompt in turn, to each of its teachers."""
    from router.engine import Request

    each, place = workspace.recipe.generate.n, 0
    for item in items:
        for teacher in teachers_of(workspace, task, item.prompt.key):
            for n in range(each):
                if place >= start:
                    yield item, Request(item.prompt, teacher, n, task)
                place += 1


def teachers_of(workspace: Workspace, task: str, prompt: str) -> list[str]:
    """Who answers a prompt, by its key and task: its routed teacher first, and further ones that can."""
    if task == UNSURE and workspace.recipe.route.unsure == "aside":
        return []
    routed = workspace.routed.teacher(task, prompt)
    further = (name for name in further_teachers(workspace, task) if name != routed)
    return [routed, *(name for name in further if prompt not in closed_to(workspace, name))]


def further_teachers(workspace: Workspace, task: str) -> list[str]:
    """Who answers the prompts of a task besides their routed teacher."""
    route = workspace.recipe.route
    if route.policy == "all":
        return workspace.recipe.eligible
    second = workspace.outputs["route"]["routes"][task]["runner_up"]
    return [str(second)] if task == UNSURE and route.unsure == "two_teachers" and second else []


def answers_asked(workspace: Workspace) -> dict[tuple[str, str], int]:
    """By task and teacher, the answers that `generate` asked for."""
    by_task = labelled(workspace)
    return Counter(
        (task, request.teacher)
        for task, count in workspace.outputs["generate"]["taken"].items()
        for _, request in islice(asked_for(workspace, task, by_task[task], 0), count)
    )


def answered(
    workspace: Workspace, taken: dict[str, int]
) -> "list[tuple[Item, Request, BoughtAnswer]]":
    """The answers there are to the first `taken` requests of each task."""
    from router.engine import answers

    by_task = labelled(workspace)
    chosen = [
        pair
        for task, count in taken.items()
        for pair in islice(asked_for(workspace, task, by_task[task], 0), count)
    ]
    requests = [request for _, request in chosen]
    found = answers(workspace.ledger, requests, workspace.teachers, workspace.routed_sampling)
    return [
        (item, request, found[key])
        for item, request in chosen
        if (key := (request.prompt.key, request.teacher, request.n)) in found
    ]


def candidates(
    workspace: Workspace, taken: dict[str, int], watch: Watch | None = None
) -> "list[Candidate]":
    """The answers to the first `taken` requests of each task, as the mixer takes them.

    Without a watcher, no judge is asked for a grade that is not in the ledger.
    """
    from mixer import Candidate
    from trainer.base import count_tokens

    kept = answered(workspace, taken)
    pairs = [(item.prompt, answer.text) for item, _, answer in kept]
    tokens = count_tokens(workspace.recipe.student.base, workspace.base, pairs)
    if GRADED & set(workspace.recipe.mix.drop):
        grade_answers(workspace, kept, watch, "generate")
    strengths = workspace.outputs["probe"]["strengths"]
    return [
        Candidate(
            sample=answer.sample_key,
            prompt_key=item.prompt.key,
            task=request.task,
            teacher=request.teacher,
            licence=workspace.recipe.teachers[request.teacher].licence,
            source=item.source,
            source_licence=item.licence,
            messages=item.prompt.messages,
            answer=answer.text,
            tokens=count,
            state=answer.state,
            tools=_tools(item),
            score=workspace.graded.get(answer.sample_key),
            strength=strengths[request.teacher].get(request.task, {}).get("mean", 0.0),
            weight=item.weight,
        )
        for (item, request, answer), count in zip(kept, tokens, strict=True)
    ]


def grade_answers(
    workspace: Workspace,
    answered: "Iterable[tuple[Item, Request, BoughtAnswer]]",
    watch: Watch | None,
    stage: str,
) -> None:
    """Grades the answers whose prompt has a reference, each once, into `workspace.graded`; and into the ledger
    where a run does it, which has a watcher."""
    from evals.summary import grade

    scorers = workspace.scorer("probes")
    new = [
        (scorers[task], item, answer)
        for item, request, answer in answered
        if item.reference is not None
        and answer.sample_key not in workspace.graded
        and (task := item.task or request.task) in scorers
    ]
    judged = judged_scores(workspace, watch, stage, new)
    workspace.graded |= grade(workspace.ledger if watch else None, new, judged)


def mix_tasks(workspace: Workspace) -> list[str]:
    """The tasks that shares may name."""
    return [*workspace.pools.tasks, UNSURE]


def refuse_small_pool(workspace: Workspace) -> None:
    """Raises InputError where the prompts cannot be enough, before anything is bought.

    Where tasks are yet to be discovered, `generate` will tell.
    """
    mix = workspace.recipe.mix
    if not workspace.pools.tasks:
        return
    least = {task: need.at_least for task, need in mix_needs(workspace).items()}
    prompts, each = len(workspace.pools.train), _usable_of_a_prompt(workspace)
    if mix.unit == "samples" and sum(least.values()) > prompts * each:
        answered = f" with {each} answers each" if each > 1 else ""
        raise InputError(
            f"{workspace.loaded.at('mix', 'total')}: {mix.total:,} samples need "
            f"{sum(least.values()):,} different answers at least, but there are {prompts:,} prompts to "
            f"train on{answered}: add prompts, lower `total`, or allow more repeats by `max_repeats`"
        )


def _usable_of_a_prompt(workspace: Workspace, task: str = "") -> int:
    """How many answers of one prompt of a task the mix may hold at most."""
    recipe = workspace.recipe
    if "not_best" in recipe.mix.drop:
        return 1
    teachers = len(recipe.eligible)
    if recipe.route.policy != "all":
        two = task == UNSURE and recipe.route.unsure == "two_teachers"
        teachers = min(teachers, 2 if two else 1)
    return recipe.generate.n * teachers


def mix_needs(workspace: Workspace) -> "dict[str, Need]":
    """What the mix needs of each task. Raises InputError, with file:line, for a task it has not."""
    from mixer import UnknownTask
    from mixer.quota import needs

    try:
        return needs(workspace.recipe.mix, mix_tasks(workspace))
    except UnknownTask as error:
        raise InputError(f"{workspace.loaded.line('mix', 'shares')}: {error}") from error


def refuse_unknown_tasks(workspace: Workspace) -> None:
    """Raises InputError, with file:line, where the recipe routes, caps, weighs or shares out a task that does
    not exist. Tasks that are discovered are known once `classify` has run: before, nothing is said."""
    if not workspace.pools.tasks:
        return
    recipe = workspace.recipe
    _refuse_unknown(
        workspace, recipe.generate.task_budget_usd, ("generate", "task_budget_usd"), "cap"
    )
    _refuse_unknown(workspace, recipe.route.to, ("route", "to"), "route")
    _refuse_unknown(workspace, recipe.student.weights, ("student", "weights"), "weigh")
    mix_needs(workspace)


def _refuse_unknown(
    workspace: Workspace, named: Iterable[str], place: tuple[str, str], to_what: str
) -> None:
    known = mix_tasks(workspace)
    for task in named:
        if task not in known:
            raise InputError(
                f"{workspace.loaded.at(*place, task)}: there is no task {task!r} to {to_what}; the tasks are "
                f"{', '.join(known)}"
            )


def short_tasks(workspace: Workspace, there: Mapping[str, int]) -> list[str]:
    """What the mix needs of a task beyond what the prompts there give; by samples only."""
    if workspace.recipe.mix.unit != "samples":
        return []
    aside = workspace.recipe.route.unsure == "aside"
    usable = {task: 0 if task == UNSURE and aside else count for task, count in there.items()}
    return [
        f"{task} needs {need.at_least:,} different answers at least, and {usable.get(task, 0):,} "
        "prompts are there"
        for task, need in mix_needs(workspace).items()
        if need.at_least > usable.get(task, 0) * _usable_of_a_prompt(workspace, task)
    ]


def _refuse_short_tasks(workspace: Workspace, by_task: dict[str, list[Item]]) -> None:
    """Raises InputError where a task has too few prompts by the classifier's word, before buying."""
    if short := short_tasks(workspace, {task: len(items) for task, items in by_task.items()}):
        raise InputError(
            f"{workspace.loaded.at('mix')}: {'; '.join(short)}, as the classifier labelled them: "
            "add prompts, lower the share or `total`, or allow more repeats by `max_repeats`"
        )


def _tools(item: Item) -> str | None:
    import json

    return json.dumps(list(item.prompt.tools), ensure_ascii=False) if item.prompt.tools else None


def _generate_inputs(workspace: Workspace) -> Any:
    routes = workspace.outputs["route"]["routes"]
    further = {task: further_teachers(workspace, task) for task in routes}
    return {
        "labels": workspace.keys["classify"],
        "teachers": {
            task: [workspace.teachers[name].key for name in [route["teacher"], *further[task]]]
            for task, route in routes.items()
        },
        "limits": limits(workspace) if any(further.values()) else None,
        "left": workspace.outputs["route"]["prompt_routes"],
        "answering": workspace.recipe.route.model_dump(mode="json", include={"policy", "unsure"}),
        "references": _references(workspace),
        "sampling": [
            workspace.sampling.key_fields,
            workspace.sampling.max_tokens,
            workspace.routed_sampling.top_logprobs,
            workspace.recipe.generate.n,
        ],
        "mix": workspace.recipe.mix.model_dump(mode="json"),
        "student": workspace.baseline_key,
        "seed": workspace.recipe.seed,
    }


def _references(workspace: Workspace) -> Any:
    """What answers are graded by, where a filter goes by it."""
    if not GRADED & set(workspace.recipe.mix.drop):
        return None
    judged = judge_inputs(workspace, compares=False) if uses_judge(workspace, "probes") else None
    return [workspace.pools.fingerprint("train"), workspace.scorer("probes"), judged]


def _generate(workspace: Workspace, watch: Watch) -> Output:
    """Buys in rounds. A round asks for what is missing after the answers and filters of all before
    it, so that killed and unkilled runs ask for the same answers in the same batches."""
    from mixer import still_needed

    by_task, tasks = labelled(workspace), mix_tasks(workspace)
    _refuse_short_tasks(workspace, by_task)
    taken: dict[str, int] = {}
    states: Counter[str] = Counter()
    paused: set[str] = set()
    failures: dict[str, dict[str, Failure]] = {}  # by teacher and error class, over all rounds
    while True:
        have = candidates(workspace, taken, watch)
        missing = still_needed(workspace.recipe.mix, have, tasks=tasks)
        batch = {
            task: _next_requests(
                workspace, by_task[task], taken.get(task, 0), task, need, have, paused
            )
            for task, need in missing.items()
        }
        requests = [request for part, _ in batch.values() for request in part]
        if not requests:
            break
        found, purchase = buy_answers(
            workspace,
            watch,
            "generate",
            requests,
            workspace.teachers,
            workspace.routed_sampling,
        )
        states.update(purchase.states)
        paused |= purchase.paused.keys()
        for name, own in purchase.failures_of.items():
            failures.setdefault(name, {}).update(own)
        taken |= {task: stop for task, (part, stop) in batch.items() if part}
        if purchase.failures and (not found or "cancelled" in purchase.failures):
            break
    _refuse_short(workspace, by_task, missing, failures, paused)
    return {
        "taken": taken,
        "states": dict(states),
        "paused": sorted(paused),
        "cost_usd": cost_usd(workspace, "generate"),
    }


def _next_requests(
    workspace: Workspace,
    items: list[Item],
    start: int,
    task: str,
    need: "Need",
    have: "list[Candidate]",
    paused: set[str],
) -> "tuple[list[Request], int]":
    """As many further requests as should fill the need, by the drop rate measured so far, and the place
    after the last of them. Teachers that were given up are passed over."""
    from math import ceil

    mine = [c for c in have if c.task == task]
    each = (
        sum(c.tokens for c in mine) / len(mine) if mine else _probe_tokens(workspace, task, items)
    )
    wanted = need.answers(each)
    usable = _usable_share(workspace, mine) if start else 1.0
    count, stop = ceil(wanted / max(usable, 0.05)), start
    whole = (
        "not_best" in workspace.recipe.mix.drop
    )  # the best of a prompt's answers needs all of them
    requests: list[Request] = []
    for place, (_, request) in enumerate(asked_for(workspace, task, items, start), start + 1):
        begins = not requests or requests[-1].prompt.key != request.prompt.key
        if len(requests) >= count and (begins or not whole):
            break
        if request.teacher not in paused:
            requests.append(request)
            stop = place
    return requests, stop


def _usable_share(workspace: Workspace, mine: "list[Candidate]") -> float:
    from mixer import apply_filters

    if not mine:
        return 1.0
    return len(apply_filters(workspace.recipe.mix, mine).kept) / len(mine)


def _probe_tokens(workspace: Workspace, task: str, items: list[Item]) -> float:
    """Mean tokens of the routed teachers' probe answers: what the first round goes by."""
    lengths = workspace.outputs["probe"]["answer_tokens"]
    asked = Counter(
        teacher for item in items for teacher in teachers_of(workspace, task, item.prompt.key)
    )
    known = {name: lengths[name][task] for name in asked if task in lengths.get(name, {})}
    total = sum(asked[name] for name in known)
    return sum(asked[n] * known[n] for n in known) / total if total else FIRST_GUESS_TOKENS


def _refuse_short(
    workspace: Workspace,
    by_task: dict[str, list[Item]],
    missing: "dict[str, Need]",
    failures: "dict[str, dict[str, Failure]]",
    paused: set[str],
) -> None:
    """Failed calls that leave the mix short stop the run; an exhausted pool is the mixer's to judge."""
    for task, need in missing.items():
        own = [
            (failure.count, error_class, name, failure)
            for name in sorted(
                {n for item in by_task[task] for n in teachers_of(workspace, task, item.prompt.key)}
            )
            for error_class, failure in failures.get(name, {}).items()
        ]
        if need.at_least > 0 and own:
            count, error_class, teacher, worst = max(own, key=lambda found: found[0])
            raise AnswersMissing(
                f"generate: {task} lacks answers, since {count:,} requests to {teacher} ended "
                f"{worst.state} ({error_class}: {worst.example}). What was bought is kept: mend the cause "
                "and run again.",
                paused,
            )


def _mix_inputs(workspace: Workspace) -> Any:
    return {
        "generate": workspace.keys["generate"],
        "taken": workspace.outputs["generate"]["taken"],
        "mix": workspace.recipe.mix.model_dump(mode="json"),
        "licences": {name: t.licence for name, t in sorted(workspace.recipe.teachers.items())},
        "sources": [[s.name, s.licence] for s in workspace.recipe.prompts],
        "weights": {i.prompt.key: i.weight for i in workspace.pools.train if i.weight != 1.0},
        "seed": workspace.recipe.seed,
    }


def _mix(workspace: Workspace, watch: Watch) -> Output:
    from mixer import build
    from router.teachers.protocol import register

    # Another recipe on this ledger may have said otherwise since; audits go by what stands now.
    declare_sources(workspace)
    for teacher in workspace.teachers.values():
        register(workspace.ledger, teacher)
    key = workspace.keys["mix"]
    folder = Path("mix") / key[:12]
    manifest = build(
        workspace.recipe.mix,
        candidates(workspace, workspace.outputs["generate"]["taken"]),
        workspace.folder / folder,
        tasks=mix_tasks(workspace),
        seed=workspace.recipe.seed,
        ledger=workspace.ledger,
        run=workspace.run,
        key=key,
    )
    return {
        "folder": str(folder),
        "samples": manifest.samples,
        "distinct": manifest.distinct,
        "tokens": manifest.tokens,
        "lock_sha": manifest.lock_sha,
        "plan_sha": manifest.plan_sha,
        "stages": [stage.name for stage in manifest.stages],
    }


def _mix_is_there(workspace: Workspace, output: Output) -> bool:
    try:
        read_manifest(workspace.folder / output["folder"])
    except MixDamaged:
        return False
    return True


def _generate_line(output: Output) -> str:
    answers = sum(output["taken"].values())
    ended = ", ".join(f"{count:,} {state}" for state, count in sorted(output["states"].items()))
    return f"{answers:,} answers asked for ({ended}), ${output['cost_usd']:.2f}"


def _mix_line(output: Output) -> str:
    stages = ", ".join(output["stages"])
    return (
        f"{output['samples']:,} samples ({output['distinct']:,} different), "
        f"{output['tokens']:,} tokens, stages: {stages}; {output['folder']}"
    )


GENERATE = Stage(
    "generate",
    "the routed teachers answer what the mix needs",
    _generate_inputs,
    _generate,
    _generate_line,
)
MIX = Stage(
    "mix", "shares, caps, filters and curriculum", _mix_inputs, _mix, _mix_line, _mix_is_there
)


def preview_candidates(workspace: Workspace) -> "list[Candidate]":
    """What a preview mixes: what `generate` took, and before that every routed answer there is."""
    if "generate" in workspace.outputs:
        return candidates(workspace, workspace.outputs["generate"]["taken"])
    by_task = labelled(workspace)
    each = workspace.recipe.generate.n * len(workspace.recipe.eligible)  # at most
    return candidates(workspace, {task: len(items) * each for task, items in by_task.items()})
