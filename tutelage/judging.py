"""Judges: what they are asked in a run, bought and kept like any answer, and what they say of its student."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.config import JUDGE
from ledger.errors import InputError
from ledger.prompts import Item, Prompt
from tutelage.buying import buy_answers
from tutelage.watch import Watch
from tutelage.workspace import STUDENT_NAME, Workspace

if TYPE_CHECKING:
    from evals.judge import Agreement, Ask, Pair
    from evals.summary import Judged, Sampled

CHARS_PER_TOKEN = 4  # a plan's guess
PARTS = ("prompt", "first", "second")  # of a labelled pair
LABELS = {"first": "win", "second": "loss", "tie": "tie"}


def refuse_judges(workspace: Workspace) -> None:
    """Raises InputError, with file:line, where a judge would grade itself or its family, or where the labelled
    pairs cannot be read."""
    from evals.judge import JudgeIsParty, refuse_parties

    judges = {name: (judge.key, judge.model) for name, judge in workspace.judges.items()}
    if not judges:
        return
    graded = {name: (teacher.key, teacher.model) for name, teacher in workspace.teachers.items()}
    graded[STUDENT_NAME] = (workspace.baseline_key, workspace.recipe.student.base)
    try:
        refuse_parties(judges, graded, workspace.recipe.judge.allow_family)
    except JudgeIsParty as error:
        raise InputError(f"{workspace.loaded.at('judges')}: {error}") from error
    _labelled(workspace)


def judge_inputs(workspace: Workspace, *, compares: bool) -> dict[str, Any]:
    """What of the judges can change a stage's output, for its key; nothing where there are none."""
    if not workspace.judges:
        return {}
    config = workspace.recipe.judge
    found: dict[str, Any] = {
        "judges": {name: judge.key for name, judge in workspace.judges.items()},
        "judge": config.model_dump(
            mode="json", exclude=None if compares else {"asks", "per_task", "labelled"}
        ),
    }
    if compares:
        found["labelled"] = [[pair.prompt.key, pair.first, pair.second, label]
                             for pair, label in _labelled(workspace)]  # fmt: skip
    return found


def uses_judge(workspace: Workspace, section: str) -> bool:
    """Whether `probes` or `evaluate` has the scorer `judge` on any task."""
    return JUDGE in workspace.scorer(section).values()


def judged_scores(
    workspace: Workspace,
    watch: Watch | None,
    stage: str,
    answered: "Iterable[tuple[str, Item, Sampled]]",
) -> "Judged":
    """The scores that judges give where the scorer, which stands first, is `judge`.

    Without a watcher, they are asked nothing: only what they said before counts.
    """
    from evals.judge import Case, rate

    cases = {
        (item.prompt.key, answer.text): Case(item.prompt, answer.text, item.reference)
        for scorer, item, answer in answered
        if scorer == JUDGE
    }
    if not cases:
        return {}
    ask, rubric = _ask(workspace, watch, stage), workspace.recipe.judge.rubric
    scores = rate(list(cases.values()), list(workspace.judges), ask, rubric)
    return dict(zip(cases, scores, strict=True))


def judge_calls(workspace: Workspace) -> int:
    """How many questions `evaluate` asks of judges at most, besides those of the scorer `judge`."""
    config = workspace.recipe.judge
    items = Counter(item.task for item in workspace.pools.test)
    pairs = sum(min(count, config.per_task) for count in items.values())
    labelled = len(_labelled(workspace)) if workspace.judges else 0
    # A pair that was won is asked about under another prompt, too.
    asks = 2 * ("better" in config.asks) + ("same" in config.asks)
    return 2 * len(workspace.judges) * (pairs * asks + 2 * labelled)


def judge_ratings(workspace: Workspace, section: str, tasks: Iterable[object]) -> int:
    """How many questions of the scorer `judge` answers of these tasks take at most."""
    scorers = workspace.scorer(section)
    return len(workspace.judges) * sum(scorers.get(str(task)) == JUDGE for task in tasks)


def judge_usd(workspace: Workspace, questions: int) -> float | None:
    """The most that so many questions cost, as many to each judge; None where one has no known price.

    Each counts as the longest that there can be: two answers of `generate.max_tokens` to the longest item.
    """
    from evals.judge import longest_question
    from router.teachers.protocol import Sampling

    items, longest = workspace.pools.test, CHARS_PER_TOKEN * workspace.sampling.max_tokens
    asked = longest_question(items, longest, workspace.recipe.judge.rubric)
    sampling = Sampling(max_tokens=workspace.recipe.judge.max_tokens)
    each = [judge.worst_cost_usd(asked, sampling) for judge in workspace.judges.values()]
    known = [usd for usd in each if usd is not None]
    return questions * sum(known) / len(each) if len(known) == len(each) else None


def verdicts(
    workspace: Workspace,
    watch: Watch,
    answers: "Mapping[tuple[str, str, int], Sampled]",
    routed: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """What judges say of the student's answers to test items beside those of the teachers that the items are
    routed to.

    By task `better` (evals.judge.Judgement) and `same` (the share that means the same, as an interval); over
    all labelled pairs their `agreement`; `of`, by prompt key, how each item came out. Empty without judges.
    """
    from evals.judge import compare, judgement, mean_the_same
    from evals.stats import wilson

    config, judges = workspace.recipe.judge, list(workspace.judges)
    if not judges:
        return {}
    ask = _ask(workspace, watch, "evaluate")
    pairs = _pairs(workspace, answers, routed)
    rows = [(task, pair) for task, own in pairs.items() for pair in own]
    every = [pair for _, pair in rows]
    better = compare(every, judges, ask, config.rubric) if "better" in config.asks else []
    same = mean_the_same(every, judges, ask) if "same" in config.asks else []
    tasks: dict[str, dict[str, Any]] = {task: {} for task in pairs}
    for task, own in pairs.items():
        at = [row for row, (name, _) in enumerate(rows) if name == task]
        if better:
            tasks[task]["better"] = asdict(judgement(own, [better[row] for row in at]))
        if same:
            known = [same[row] for row in at if same[row] is not None]
            tasks[task]["same"] = asdict(wilson(sum(map(bool, known)), len(known)))
    return {
        "by": {name: judge.model for name, judge in workspace.judges.items()},
        "tasks": tasks,
        "agreement": _agreement(workspace, ask),
        "of": {pair.prompt.key: each.outcome for pair, each in zip(every, better, strict=False)},
    }


def _pairs(
    workspace: Workspace,
    answers: "Mapping[tuple[str, str, int], Sampled]",
    routed: Mapping[str, Mapping[str, str]],
) -> "dict[str, list[Pair]]":
    """By task the student's and the routed teacher's answers, of at most `per_task` items."""
    from evals.judge import Pair

    found: dict[str, list[Pair]] = {task: [] for task in routed}
    for item in workspace.in_seeded_order(workspace.pools.test):
        task = str(item.task)
        teacher = routed[task].get(item.prompt.key, "")
        ours, theirs = (answers.get((item.prompt.key, name, 0)) for name in (STUDENT_NAME, teacher))
        if ours and theirs and len(found[task]) < workspace.recipe.judge.per_task:
            found[task].append(Pair(item.prompt, ours.text, theirs.text, item.reference))
    return found


def _agreement(workspace: Workspace, ask: "Ask") -> dict[str, Any] | None:
    from evals.judge import agreement, compare

    labelled = _labelled(workspace)
    if not labelled:
        return None
    pairs = [pair for pair, _ in labelled]
    found = compare(pairs, list(workspace.judges), ask, workspace.recipe.judge.rubric)
    known = [(LABELS[label], each.outcome)
             for (_, label), each in zip(labelled, found, strict=True) if each.outcome]  # fmt: skip
    agreed: Agreement = agreement([label for label, _ in known], [said for _, said in known])
    return asdict(agreed)


def _ask(workspace: Workspace, watch: Watch | None, stage: str) -> "Ask":
    """Buys what judges are asked, through the engine: paced, within budgets, each question once."""
    from router.engine import Request, answers
    from router.teachers.protocol import Sampling

    sampling = Sampling(max_tokens=workspace.recipe.judge.max_tokens)

    def ask(questions: Sequence[tuple[str, Prompt]]) -> list[str | None]:
        prompts = {prompt.key: prompt for _, prompt in questions}
        each = dict.fromkeys((judge, prompt.key) for judge, prompt in questions)
        requests = [Request(prompts[key], judge) for judge, key in each]
        if watch is None:
            found = answers(workspace.ledger, requests, workspace.judges, sampling)
        else:
            rows: dict[str, list[dict[str, Any]]] = {}
            for prompt in prompts.values():
                for table, own in prompt.rows(JUDGE):
                    rows.setdefault(table, []).extend(own)
            workspace.ledger.put_all(list(rows.items()))
            found, _ = buy_answers(workspace, watch, stage, requests, workspace.judges, sampling)
        texts = [found.get((prompt.key, judge, 0)) for judge, prompt in questions]
        return [None if answer is None else answer.text for answer in texts]

    return ask


def _labelled(workspace: Workspace) -> "list[tuple[Pair, str]]":
    """The pairs of `judge.labelled` with their labels. Raises InputError, with file:line."""
    from evals.judge import Pair

    name = workspace.recipe.judge.labelled
    if name is None:
        return []
    path, found = workspace.base / name, []
    for number, line in enumerate(_text(workspace, path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{where}: not JSON: {error}") from error
        known = row if isinstance(row, dict) else {}
        texts = [known[key] for key in PARTS if isinstance(known.get(key), str)]
        if len(texts) < len(PARTS) or known.get("label") not in LABELS:
            raise InputError(
                f"{where}: a labelled pair has the texts {', '.join(PARTS)}, and a `label` that is one of "
                f"{', '.join(LABELS)}"
            )
        prompt, first, second = texts
        found.append((Pair(Prompt.of(prompt), first, second), known["label"]))
    return found


def _text(workspace: Workspace, path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{workspace.loaded.at('judge', 'labelled')}: {path} cannot be read: {error}"
        ) from error
