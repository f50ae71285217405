"""`objective: learnable`: routes go by what scores are worth to the student."""

from pathlib import Path

import pytest

from ledger.store import Ledger
from tests.tutelage.small_run import write_small
from tutelage.asking import explain_route
from tutelage.pipeline import run_recipe
from tutelage.workspace import open_run

COUNTS = """
SELECT scorer, count(*) FROM score JOIN sample ON score.sample = sample.id WHERE reference_sha = ?
GROUP BY 1
"""


def test_routes_go_by_what_scores_are_worth_to_the_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_recipe(write_small(tmp_path, route={"objective": "learnable"}))
    stages = open_run(Path("runs/small")).outputs
    probe, route = stages["probe"], stages["route"]
    for task, by_teacher in probe["scores"].items():
        for teacher, scores in by_teacher.items():
            worth = probe["worth"][task][teacher]
            assert worth.keys() == scores.keys()
            assert all(scores[key] / 2 <= worth[key] <= scores[key] for key in scores)
    likelihood, reach = probe["learnability"]["speller"]["spell_backward"]
    assert 0 < likelihood < reach < 1
    ledger = Ledger(Path("runs/ledger"))
    [student] = {
        key for (key,) in ledger.rows("SELECT reference_sha FROM score WHERE scorer = 'reach'")
    }
    counts = dict(ledger.rows(COUNTS, [student]))
    assert counts["likelihood"] == counts["reach"] <= probe["asked"]
    chosen = {task: found["teacher"] for task, found in route["routes"].items()}
    assert chosen["caesar_cipher"] == "decoder"
    assert "weighed by how likely the answers are" in route["routes"]["caesar_cipher"]["reason"]
    told = explain_route(
        Path("runs/small"), "Spell this word backward (example: sun -> nus): house"
    )
    assert told.measure == "worth to the student"
    assert "the student’s reach" in Path("runs/small/report.html").read_text()
