"""A user's own function as a scorer."""

from pathlib import Path

import pytest

from evals.config import ProbesConfig
from evals.scorers import BadScorer, Score, score

MODULE = """
def polite(answer, reference, meta):
    if not answer:
        return None
    return meta.get("worth", "please" in answer)

def broken(answer, reference, meta):
    return answer.nothing

constant = 3
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grades_of_ours.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)


def test_a_function_grades() -> None:
    name = "grades_of_ours:polite"
    assert ProbesConfig(file="probes.jsonl", scorer=name).scorer == name
    assert score(name, "please", None, {}) == Score(1.0, extracted=True)
    assert score(name, "now", None, {}) == Score(0.0, extracted=True)
    assert score(name, "now", None, {"worth": 0.25}) == Score(0.25, extracted=True)
    assert score(name, "", None, {}) == Score(0.0, extracted=False)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("grades_of_ours:rude", "cannot be imported: AttributeError"),
        ("no_such_module:f", "cannot be imported: ModuleNotFoundError"),
        ("grades_of_ours:constant", "is a int, not a function"),
        ("grades_of_ours:broken", "raised AttributeError"),
    ],
)
def test_what_is_wrong_with_it_is_told(name: str, why: str) -> None:
    with pytest.raises(BadScorer, match=why):
        score(name, "please", None, {})


@pytest.mark.parametrize("worth", [2, -0.1, "much", float("nan")])
def test_a_grade_that_is_none_is_told(worth: object) -> None:
    with pytest.raises(BadScorer, match="from 0 to 1"):
        score("grades_of_ours:polite", "please", None, {"worth": worth})
