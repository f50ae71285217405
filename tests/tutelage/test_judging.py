"""Judges in a run: asked through the engine, kept, never of the graded, and used as a scorer."""

import json
from pathlib import Path

import pytest

from benchmarks.sets.judging import serving
from ledger.errors import InputError
from ledger.store import Ledger
from tests.tutelage.small_run import small_fields, write_small
from tutelage import check_recipe, plan_recipe, run_recipe

CALLS = "SELECT count(*) FROM request r JOIN teacher t ON r.teacher = t.id WHERE t.name = 'fair'"


def judge(text: str) -> str:
    """Right is what holds the reference; and two that hold it mean the same."""
    mark = text.rpartition("VERDICT ")[2].partition(":")[0]
    part = {
        name: text.split(f"<{name} {mark}>\n")[1].split(f"\n</{name} {mark}>")[0]
        for name in ("reference", "first", "second", "answer")
        if f"<{name} {mark}>" in text
    }
    right = {name: part["reference"] in part[name] for name in part if name != "reference"}
    if "answer" in right:
        word = "5" if right["answer"] else "1"
    elif f"VERDICT {mark}: SAME" in text:
        word = "SAME" if right["first"] == right["second"] else "DIFFERENT"
    elif right["first"] == right["second"]:
        word = "TIE"
    else:
        word = "FIRST" if right["first"] else "SECOND"
    return f"By the reference.\nVERDICT {mark}: {word}"


def fields_with(url: str, **more: object) -> dict[str, object]:
    judges = {"fair": {"http": "fair-1", "url": url, "licence": "MIT"}}
    return {"judges": judges, **more}


def test_judges_compare_the_student_with_its_teachers_and_grade(folder_of_module: Path) -> None:
    labelled = [
        {"prompt": f"{n} + 1?", "first": f"{n + 1}", "second": "x", "label": "tie"}
        for n in range(3)
    ]
    (folder_of_module / "pairs.jsonl").write_text("\n".join(map(json.dumps, labelled)))
    with serving(lambda text: judge(text) if "<reference " in text else "no") as url:
        path = write_small(
            folder_of_module,
            **fields_with(url, judge={"per_task": 6, "labelled": "pairs.jsonl"}),
            probes={"hold_out": 30, "scorer": {
                "caesar_cipher": "judge", "chain_sum": "exact", "spell_backward": "reasoning_gym"}},
            run="runs/judged",
        )  # fmt: skip
        result = run_recipe(path)
        ledger = Ledger(folder_of_module / "runs/ledger")
        calls = ledger.rows(CALLS)
        run_recipe(path)
        assert ledger.rows(CALLS) == calls
    judged = result["judged"]
    assert judged["by"] == {"fair": "fair-1"}
    for found in judged["tasks"].values():
        better = found["better"]
        assert better["wins"] + better["ties"] + better["losses"] == 6
        assert better["flips"]["mean"] == 0
        assert found["same"]["n"] == 6
    assert judged["agreement"]["n"] == 0  # it did not answer about the labelled pairs
    assert result["tasks"]["caesar_cipher"]["teacher"]["mean"] == 1
    assert "fair: student better" in result["judge_line"]
    page = (folder_of_module / "runs/judged/report.html").read_text()
    assert 'id="judged"' in page
    assert "fair-1" in page
    stored = ledger.rows("SELECT DISTINCT value FROM score WHERE scorer = 'judge'")
    assert {value for (value,) in stored} <= {0.0, 1.0}


def test_a_judge_that_is_party_is_refused_with_its_line(tmp_path: Path) -> None:
    teacher = small_fields()["teachers"]["adder"]
    with pytest.raises(
        InputError, match=r"small.yaml:\d+: judges: judge fair is .*, and so is adder"
    ):
        check_recipe(write_small(tmp_path, judges={"fair": teacher}))


def test_the_scorer_judge_needs_judges(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"small.yaml:\d+: probes.scorer: `judge` needs `judges:`"):
        check_recipe(write_small(tmp_path, probes={"hold_out": 30, "scorer": "judge"}))


def test_a_bad_labelled_pair_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('\n{"prompt": "1?", "first": "1", "second": "2"}')
    fields = fields_with("http://127.0.0.1:9/v1", judge={"labelled": "pairs.jsonl"})
    with pytest.raises(InputError, match=r"pairs.jsonl:2: a labelled pair has the texts"):
        check_recipe(write_small(tmp_path, **fields))


def test_the_plan_counts_what_judges_are_asked(tmp_path: Path) -> None:
    def told(price: float, **more: object) -> dict[str, str]:
        prices = {"input_usd_per_million": price, "output_usd_per_million": price}
        at = {"http": "fair-1", "url": "http://127.0.0.1:9/v1", "licence": "MIT", "price": prices}
        path = write_small(tmp_path, judges={"fair": at}, judge={"per_task": 5}, **more)
        return {stage.name: stage.what for stage in plan_recipe(path).stages}

    assert "at most 90 questions to judges, not counted here" in told(0.0)["evaluate"]
    told_of = told(1000.0, probes={"hold_out": 30, "scorer": "judge"})
    # Three tasks of 30 probes and 12 test items; four teachers.
    assert "at most 360 questions to judges for at most $" in told_of["probe"]
    assert "at most 36 questions to judges" in told_of["baseline"]
    # Two teachers and the student answer each test item.
    assert "at most 198 questions to judges" in told_of["evaluate"]
