"""Answers are graded once, kept in the ledger, and summed up per task with what was missing."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from evals.scorers import BadScorer, Score
from evals.stats import wilson
from evals.summary import (
    Nothing,
    Scored,
    put_standings,
    put_summary,
    score_answers,
    standings,
    summarise,
    values,
)
from ledger.errors import InputError
from ledger.keys import content_key, sample_key
from ledger.prompts import Item, Prompt
from ledger.store import Ledger
from tests.evals.rows import row


@dataclass(frozen=True)
class Answer:
    sample_key: str
    text: str


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger")
    with opened.writing("test"):
        yield opened


def item(text: str, task: str | None, reference: str | None) -> Item:
    return Item(Prompt.of(text), "items.jsonl:1", "CC0-1.0", task, reference)


ITEMS = [
    item("2 + 2", "maths", "4"),
    item("3 + 3", "maths", "6"),
    item("capital of France", "facts", "Paris"),
    item("anything", None, "x"),
]


def bought(
    ledger: Ledger, texts: dict[str, list[str | None]]
) -> dict[tuple[str, str, int], Answer]:
    """Answers of models to ITEMS, in the ledger as the engine leaves them; None is no answer."""
    answers = {}
    for model, given in texts.items():
        teacher = content_key(model)
        ledger.put_all([row("teacher", key=teacher, name=model)])
        for each, text in zip(ITEMS, given, strict=True):
            if text is None:
                continue
            request = content_key([each.prompt.key, teacher])
            key, at = sample_key(request, text), {"prompt": each.prompt.key, "teacher": teacher}
            ledger.put_all([*each.prompt.rows("test"), row("request", key=request, **at)])
            ledger.put_all([row("sample", key=key, request=request, **at)])
            answers[each.prompt.key, model, 0] = Answer(key, text)
    return answers


SCORERS = {"maths": "numeric", "facts": "exact"}


def test_answers_are_graded_by_their_tasks_scorer(ledger: Ledger) -> None:
    answers = bought(ledger, {"a": ["4", "is 6.0", "Paris", "x"], "b": ["5", "dunno", None, "x"]})
    scored = score_answers(ledger, answers, ITEMS, SCORERS)
    assert values(scored) == {
        "maths": {
            "a": {ITEMS[0].prompt.key: 1.0, ITEMS[1].prompt.key: 1.0},
            "b": {ITEMS[0].prompt.key: 0.0, ITEMS[1].prompt.key: 0.0},
        },
        "facts": {"a": {ITEMS[2].prompt.key: 1.0}, "b": {}},
    }


def test_nothing_found_and_missing_are_counted_apart(ledger: Ledger) -> None:
    answers = bought(ledger, {"a": ["4", "6", "Paris", None], "b": ["5", "dunno", None, None]})
    found = standings(score_answers(ledger, answers, ITEMS, SCORERS))
    maths, facts = found["maths"]["b"], found["facts"]["b"]
    assert (maths.n, maths.mean, maths.nothing_found, maths.missing) == (2, 0.0, 1, 0)
    assert (facts.n, facts.lo, facts.hi, facts.missing) == (0, 0.0, 1.0, 1)


def test_scores_are_in_the_ledger_once_however_often_they_are_computed(ledger: Ledger) -> None:
    answers = bought(ledger, {"a": ["4", "nothing", "Paris", None]})
    for _ in range(2):
        score_answers(ledger, answers, ITEMS, SCORERS)
    rows = ledger.rows(
        "SELECT x.key, s.scorer, s.value, s.extracted FROM score s JOIN sample x ON s.sample = x.id "
        "ORDER BY s.scorer, s.value"
    )
    keys = [answers[each.prompt.key, "a", 0].sample_key for each in ITEMS[:3]]
    assert rows == [
        (keys[2], "exact", 1.0, True),
        (keys[1], "numeric", 0.0, False),
        (keys[0], "numeric", 1.0, True),
    ]


def test_another_reference_adds_a_score(ledger: Ledger) -> None:
    answers = bought(ledger, {"a": ["4", None, None, None]})
    score_answers(ledger, answers, ITEMS[:1], {"maths": "numeric"})
    score_answers(ledger, answers, [item("2 + 2", "maths", "5")], {"maths": "numeric"})
    assert ledger.rows("SELECT value FROM score ORDER BY value") == [(0.0,), (1.0,)]


def test_an_answer_that_held_nothing_counts_0_and_leaves_no_row(ledger: Ledger) -> None:
    key = (ITEMS[0].prompt.key, "a", 0)
    scored = score_answers(ledger, {key: Nothing()}, ITEMS[:1], {"maths": "numeric"})
    assert scored["maths"]["a"][ITEMS[0].prompt.key] == Score(0.0, extracted=False)
    assert ledger.rows("SELECT * FROM score") == []


def test_an_item_that_does_not_fit_its_scorer_is_named(ledger: Ledger) -> None:
    answers = bought(ledger, {"a": [None, None, "Paris", None]})
    with pytest.raises(BadScorer, match=r"items.jsonl:1, 'capital of France': .*no number"):
        score_answers(ledger, answers, ITEMS, dict.fromkeys(SCORERS, "numeric"))


def scores(right: int, n: int, prefix: str = "p") -> dict[str, Score]:
    return {f"{prefix}{i:04}": Score(float(i < right), True) for i in range(n)}


def run_of(student: int, n: int = 300) -> Scored:
    return {
        "maths": {
            "adder": scores(n, n),
            "speller": scores(0, n),
            "baseline": scores(3, n),
            "student": scores(student, n),
        }
    }


def routed(**others: int) -> dict[str, dict[str, str]]:
    """All items to `adder`, but for the first so many of each other teacher."""
    keys = list(run_of(0)["maths"]["adder"])
    names = [name for name, count in others.items() for _ in range(count)]
    return {"maths": dict.fromkeys(keys, "adder") | dict(zip(keys, names, strict=False))}


def test_each_item_is_held_against_its_own_teacher() -> None:
    task = summarise(run_of(298), routed(speller=60)).tasks["maths"]
    assert task.routed == {"adder": 240, "speller": 60}
    assert task.teacher.n == 300
    assert task.teacher.mean == pytest.approx(task.models["adder"].mean - 60 / 300, abs=0.01)
    scored = run_of(298)
    scored["maths"]["speller"] = dict(list(scored["maths"]["speller"].items())[:60])
    assert summarise(scored, routed(speller=60)).tasks["maths"].verdict == task.verdict


def test_the_summary_has_every_models_figures_and_the_students_verdict() -> None:
    summary = summarise(run_of(298), routed())
    task = summary.tasks["maths"]
    assert set(task.models) == {"adder", "speller", "baseline", "student"}
    student, expected = task.models["student"], wilson(298, 300)
    assert (student.mean, student.lo, student.hi, student.n) == (
        expected.mean,
        expected.lo,
        expected.hi,
        300,
    )
    assert task.routed == {"adder": 300}
    assert task.teacher == task.models["adder"]
    assert (task.against_baseline.better, task.against_baseline.worse) == (295, 0)
    assert task.against_baseline.p_value < 1e-50
    assert task.verdict.decision == "yes"
    assert summary.overall.decision == "yes"


def test_the_margin_reaches_the_verdict() -> None:
    assert summarise(run_of(250), routed()).overall.decision == "no"
    assert summarise(run_of(250), routed(), margin=0.3).overall.decision == "yes"


def test_the_verdict_pairs_only_what_all_three_answered() -> None:
    scored = run_of(300)
    for key in list(scored["maths"]["adder"])[:40]:
        del scored["maths"]["adder"][key]
    task = summarise(scored, routed()).tasks["maths"]
    assert task.verdict.n == 260
    assert task.models["adder"].missing == 40


def test_a_model_without_answers_is_not_enough_data() -> None:
    scored = run_of(300)
    scored["maths"]["student"] = {}
    assert summarise(scored, routed()).overall.decision == "not enough data"


def test_a_task_without_a_route_is_said() -> None:
    with pytest.raises(InputError, match="items of task 'maths', which has no route"):
        summarise(run_of(300), {"facts": {}})


def test_the_summary_is_in_the_ledger(ledger: Ledger) -> None:
    summary = summarise(run_of(298), routed())
    put_summary(ledger, summary, run="r", key=content_key("evaluate"))
    ledger.fold()
    rows = ledger.rows("SELECT model, role, mean, n, detail FROM evaluation ORDER BY model")
    assert [row[:2] for row in rows] == [
        ("adder", "teacher"),
        ("baseline", "baseline"),
        ("speller", "teacher"),
        ("student", "student"),
    ]
    assert rows[3][2:4] == (298 / 300, 300)
    detail = json.loads(rows[3][4])
    assert detail["verdict"]["decision"] == "yes"
    assert detail["against_baseline"]["better"] == 295
    assert json.loads(rows[0][4]) == {"nothing_found": 0, "missing": 0}


def test_standings_alone_can_be_kept_before_there_is_a_student(ledger: Ledger) -> None:
    found = standings({"maths": {"baseline": scores(3, 10)}})
    put_standings(ledger, found, run="r", key=content_key("b"), roles={"baseline": "baseline"})
    ledger.fold()
    assert ledger.rows("SELECT task, role, n FROM evaluation") == [("maths", "baseline", 10)]


def test_headroom_recovery_and_tests_over_tasks() -> None:
    scored = run_of(270)
    keys = list(scored["maths"]["adder"])
    scored["maths"]["adder"] |= dict.fromkeys(keys[-30:], Score(0.0, True))
    scored["maths"]["speller"] |= dict.fromkeys(keys[-10:], Score(1.0, True))
    scored["words"] = {name: dict(found) for name, found in scored["maths"].items()}
    summary = summarise(scored, routed() | {"words": routed()["maths"]})
    task = summary.tasks["maths"]
    assert task.teacher.mean == pytest.approx(270 / 300)
    assert task.oracle.mean == pytest.approx(280 / 300)
    assert task.recovery.value == pytest.approx(1.0)
    assert summary.recovery.n == 600
    assert task.against_teacher.p_value == 1.0
    assert task.against_baseline.adjusted == pytest.approx(2 * task.against_baseline.p_value)
