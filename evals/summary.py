"""Scores answers, and sums them up per task: means with intervals, tests, verdicts.

scored = score_answers(ledger, answers, items, scorers)   # {task: {model: {key: Score}}}
summary = summarise(scored, {"maths": {key: "coder"}}, margin=0.05)
put_summary(ledger, summary, run="r", key=stage_key)
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from evals.config import JUDGE
from evals.recovery import Recovery, Scores, overall_recovery, recovery
from evals.scorers import BadScorer, Score, score
from evals.stats import Clusters, PairedTest, holm, mean_interval, paired_test
from evals.verdict import Overall, Verdict, overall, within
from ledger.errors import InputError
from ledger.keys import content_key, now_us
from ledger.prompts import Item
from ledger.store import Ledger

# task -> model -> prompt key -> score
Scored = dict[str, dict[str, dict[str, Score]]]
# (prompt key, answer) -> what judges gave it; None where none gave a verdict
Judged = Mapping[tuple[str, str], Score | None]

STUDENT, BASELINE = "student", "baseline"


class Sampled(Protocol):
    """An answer with its place in the ledger, such as `router.engine.BoughtAnswer`.

    An answer that held nothing has no place there: its `sample_key` is None.
    """

    @property
    def sample_key(self) -> str | None: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Nothing:
    """A model's answer that held nothing: graded like any other, without a sample."""

    sample_key: None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """One model on one task. Answers without anything to grade count 0, and are counted apart.

    `missing` items were answered by another model but not by this one; they are not in `n`.
    """

    mean: float
    lo: float
    hi: float
    n: int
    nothing_found: int
    missing: int


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """A task: all models' standings, the student's test and verdict.

    `routed` counts the items of each teacher that they are routed to, most first, and `teacher` is the
    standing of the answers that items got there; `oracle` is that of each item's best answer by any teacher.
    """

    task: str
    models: dict[str, Standing]
    routed: dict[str, int]
    teacher: Standing
    oracle: Standing
    against_baseline: PairedTest
    against_teacher: PairedTest
    recovery: Recovery
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Summary:
    """The evaluation of a run."""

    tasks: dict[str, TaskSummary]
    overall: Overall
    recovery: Recovery


def score_answers(
    ledger: Ledger,
    answers: Mapping[tuple[str, str, int], Sampled],
    items: Iterable[Item],
    scorers: Mapping[str, str],
    judged: Judged | None = None,
) -> Scored:
    """Grades the first answer of every model to every item, and puts the scores into the ledger.

    `answers` is by (prompt key, model, n), as `router.engine.answers` gives it; `scorers` are by
    task; items without a task are left out. The scorer `judge` has its scores in `judged`, and what
    is not there counts as not answered. Call it inside `ledger.writing()`. Raises BadScorer,
    naming the item.
    """
    models = sorted({model for _, model, n in answers if n == 0})
    with_task = [(item.task, item) for item in items if item.task is not None]
    scored: Scored = {task: {model: {} for model in models} for task, _ in with_task}
    rows: list[dict[str, Any]] = []
    for task, item in with_task:
        name, mark = scorers[task], _reference_key(item)
        for model in models:
            answer = answers.get((item.prompt.key, model, 0))
            if answer is not None:
                found = _graded(name, answer.text, item, judged)
                if found is None:
                    continue
                scored[task][model][item.prompt.key] = found
                if answer.sample_key is not None:
                    rows.append(score_row(answer.sample_key, name, mark, found))
    if rows:
        ledger.put("score", rows)
        ledger.fold()
    return scored


def grade(
    ledger: Ledger | None,
    answered: Iterable[tuple[str, Item, Sampled]],
    judged: Judged | None = None,
) -> dict[str, float]:
    """Grades answers by a scorer's name each: sample key -> value. Raises BadScorer, naming the item.

    The scores are put into the ledger, if one is given; then call it inside `ledger.writing()`.
    """
    found: dict[str, float] = {}
    rows = []
    for name, item, answer in answered:
        assert answer.sample_key is not None
        score = _graded(name, answer.text, item, judged)
        if score is None:
            continue
        found[answer.sample_key] = score.value
        rows.append(score_row(answer.sample_key, name, _reference_key(item), score))
    if rows and ledger is not None:
        ledger.put("score", rows)
    return found


def standings(
    scored: Scored, clusters: Mapping[str, str] | None = None
) -> dict[str, dict[str, Standing]]:
    """Every model's standing on every task: {task: {model: Standing}}.

    `clusters` names by prompt key the source that items share (evals.stats); the others are on their own.
    """
    return {
        task: {
            model: _standing(found, len(_keys(by_model)), clusters)
            for model, found in by_model.items()
        }
        for task, by_model in scored.items()
    }


def values(scored: Scored) -> dict[str, dict[str, dict[str, float]]]:
    """The plain values {task: {model: {prompt key: value}}}, for `router.deciding.decide`."""
    return {
        task: {
            model: {key: found.value for key, found in by_key.items()}
            for model, by_key in by_model.items()
        }
        for task, by_model in scored.items()
    }


def summarise(
    scored: Scored,
    routed: Mapping[str, Mapping[str, str]],
    *,
    student: str = STUDENT,
    baseline: str = BASELINE,
    margin: float = 0.05,
    clusters: Mapping[str, str] | None = None,
) -> Summary:
    """The whole evaluation. `routed` names by task the teacher that each item (prompt key) is routed to, and
    `clusters` is as in `standings`.

    Test and verdict pair the items that student, routed teacher and baseline all answered. Raises
    InputError for a task without a route.
    """
    if astray := [task for task in scored if task not in routed]:
        raise InputError(
            f"the test has items of task {astray[0]!r}, which has no route (there are routes for "
            f"{', '.join(sorted(routed)) or 'nothing'}): give it probes, or take its items out."
        )
    all_standings = standings(scored, clusters)
    trios: dict[str, Scores] = {}
    shared: list[Clusters] = []  # by task
    found: dict[str, tuple[Standing, Standing]] = {}
    for task, by_model in scored.items():
        taught = {
            key: by_model[teacher][key]
            for key, teacher in routed[task].items()
            if key in by_model.get(teacher, {})
        }
        all_three = [by_model.get(student, {}), taught, by_model.get(baseline, {})]
        keys = sorted(set.intersection(*(set(each) for each in all_three)))
        ours, theirs, before = ([each[key].value for key in keys] for each in all_three)
        trios[task] = (ours, theirs, before)
        shared.append(clusters_of(keys, clusters))
        teachers = [each for name, each in by_model.items() if name not in (student, baseline)]
        items = len(_keys(by_model))
        found[task] = (
            _standing(taught, items, clusters),
            _standing(_best(teachers), items, clusters),
        )
    by_task = list(zip(trios.values(), shared, strict=True))
    learnt = holm([paired_test(ours, before, each) for (ours, _, before), each in by_task])
    behind = holm([paired_test(ours, theirs, each) for (ours, theirs, _), each in by_task])
    tasks = {
        task: TaskSummary(
            task,
            all_standings[task],
            dict(Counter(routed[task].values()).most_common()),
            *found[task],
            against_baseline=learnt[number],
            against_teacher=behind[number],
            recovery=recovery(*trio, clusters=shared[number]),
            verdict=within(*trio, margin, clusters=shared[number]),
        )
        for number, (task, trio) in enumerate(trios.items())
    }
    return Summary(
        tasks,
        overall({task: each.verdict for task, each in tasks.items()}),
        overall_recovery(list(trios.values()), clusters=shared),
    )


def clusters_of(keys: Sequence[str], clusters: Mapping[str, str] | None) -> Clusters:
    """The cluster of every item; an item that shares no source is one by itself. None where none does."""
    return [clusters.get(key, key) for key in keys] if clusters else None


def _best(teachers: Sequence[Mapping[str, Score]]) -> dict[str, Score]:
    """By item, the best of the scores that teachers got for it."""
    keys = {key for each in teachers for key in each}
    return {
        key: max((each[key] for each in teachers if key in each), key=lambda score: score.value)
        for key in sorted(keys)
    }


def mean_of(standings: Sequence[Standing]) -> Standing:
    """The mean over tasks that count alike, of standings on different items.

    The interval joins theirs by the method of variance estimates recovery (Zou and Donner 2008): the distance
    to a bound is the root of the tasks' squared distances, over their number.
    """
    count = len(standings)
    mean = sum(each.mean for each in standings) / count
    below = sum((each.mean - each.lo) ** 2 for each in standings) ** 0.5 / count
    above = sum((each.hi - each.mean) ** 2 for each in standings) ** 0.5 / count
    return Standing(
        mean,
        mean - below,
        mean + above,
        sum(each.n for each in standings),
        sum(each.nothing_found for each in standings),
        sum(each.missing for each in standings),
    )


def put_standings(
    ledger: Ledger,
    found: Mapping[str, Mapping[str, Standing]],
    *,
    run: str,
    key: str,
    roles: Mapping[str, str],
    details: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
) -> None:
    """Puts an `evaluation` row per task and model, whose role is `teacher` unless `roles` says."""
    at, details = now_us(), details or {}
    rows = [
        {
            "key": key,
            "run": run,
            "task": task,
            "model": model,
            "role": roles.get(model, "teacher"),
            "mean": standing.mean,
            "lo": standing.lo,
            "hi": standing.hi,
            "n": standing.n,
            "detail": json.dumps(
                {
                    "nothing_found": standing.nothing_found,
                    "missing": standing.missing,
                    **details.get((task, model), {}),
                }
            ),
            "recorded_at": at,
        }
        for task, by_model in found.items()
        for model, standing in by_model.items()
    ]
    if rows:
        ledger.put("evaluation", rows)


def put_summary(
    ledger: Ledger,
    summary: Summary,
    *,
    run: str,
    key: str,
    student: str = STUDENT,
    baseline: str = BASELINE,
) -> None:
    """Puts an `evaluation` row per task and model; the student's holds its test and its verdict."""
    put_standings(
        ledger,
        {task: found.models for task, found in summary.tasks.items()},
        run=run,
        key=key,
        roles={student: "student", baseline: "baseline"},
        details={
            (task, student): {
                "routed": found.routed,
                "verdict": asdict(found.verdict),
                "against_baseline": asdict(found.against_baseline),
                "against_teacher": asdict(found.against_teacher),
                "recovery": asdict(found.recovery),
            }
            for task, found in summary.tasks.items()
        },
    )


def _graded(name: str, text: str, item: Item, judged: Judged | None) -> Score | None:
    if name == JUDGE:
        return (judged or {}).get((item.prompt.key, text))
    try:
        return score(name, text, item.reference, item.meta)
    except BadScorer as error:
        raise BadScorer(f"{item.source}, {item.prompt.text[:60]!r}: {error}") from error


def _reference_key(item: Item) -> str:
    """What the answer was graded against: the reference and the item's notes for its scorer."""
    return content_key([item.reference, item.meta])


def score_row(sample: str, scorer: str, reference_sha: str, found: Score) -> dict[str, Any]:
    """The row of table `score` for an answer, by its sample's key, and what it was held against."""
    return {
        "sample": sample,
        "scorer": scorer,
        "reference_sha": reference_sha,
        "value": found.value,
        "extracted": found.extracted,
        "recorded_at": now_us(),
    }


def _standing(
    found: Mapping[str, Score], items: int, clusters: Mapping[str, str] | None
) -> Standing:
    shared = clusters_of(list(found), clusters)
    interval = mean_interval([each.value for each in found.values()], clusters=shared)
    nothing = sum(not each.extracted for each in found.values())
    missing = items - len(found)
    return Standing(interval.mean, interval.lo, interval.hi, interval.n, nothing, missing)


def _keys(by_model: Mapping[str, Mapping[str, Score]]) -> set[str]:
    """The prompts of a task that any model answered."""
    return {key for found in by_model.values() for key in found}
