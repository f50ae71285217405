"""What answers are worth to a student: by its own probabilities, once, and kept in the ledger."""

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from evals.likelihood import Learnability, learnability
from ledger.keys import content_key
from ledger.prompts import Prompt
from ledger.store import Ledger
from router.teachers import open_local
from router.teachers.local import LocalTeacher
from tests.evals.rows import row

BASE = Path(__file__).parents[2] / "recipes" / "quickstart" / "base"
QUESTION = Prompt.of("What is 4 + 5?")


@dataclass(frozen=True)
class Answer:
    sample_key: str | None
    text: str


def _student(context: int | None = None) -> LocalTeacher:
    return open_local("baseline", BASE, context=context)


def _answers(ledger: Ledger, texts: list[str]) -> list[tuple[Prompt, Answer]]:
    """Answers whose samples stand in the ledger."""
    pairs = [(QUESTION, Answer(content_key(text), text)) for text in texts]
    ledger.put_all(QUESTION.rows("test"))
    ledger.put_all([row("sample", key=a.sample_key, prompt=QUESTION.key) for _, a in pairs])
    return pairs


def test_an_answer_that_the_student_would_give_is_worth_more(tmp_path: Path) -> None:
    with (ledger := Ledger(tmp_path)).writing("test"):
        pairs = _answers(ledger, ["9", "9 ~~ qzx!! 77#"])
        found = learnability(ledger, _student(), pairs)
        plain, odd = (found[str(answer.sample_key)] for _, answer in pairs)
        assert plain.likelihood > odd.likelihood
        assert plain.reach >= odd.reach
        assert plain.worth(1.0) > odd.worth(1.0) >= 0.5
        rows = ledger.rows("SELECT scorer, reference_sha, value FROM score ORDER BY score.id")
    student = _student().key
    assert [row[:2] for row in rows] == [("likelihood", student), ("reach", student)] * 2
    assert rows[0][2] == pytest.approx(plain.likelihood)


def test_what_is_known_is_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (ledger := Ledger(tmp_path)).writing("test"):
        pairs = _answers(ledger, ["9", "10"])
        before = learnability(ledger, _student(), pairs)
        monkeypatch.setattr(LocalTeacher, "_logprobs", None)
        nothing = (QUESTION, Answer(None, ""))
        assert learnability(ledger, _student(), [*pairs, nothing]) == before


def test_tokens_beyond_the_context_are_out_of_reach(tmp_path: Path) -> None:
    with (ledger := Ledger(tmp_path)).writing("test"):
        pairs = _answers(ledger, ["1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"])
        key = str(pairs[0][1].sample_key)
        cut = learnability(ledger, _student(context=16), pairs)[key]
    with (other := Ledger(tmp_path / "whole")).writing("test"):
        whole = learnability(other, _student(), _answers(other, [pairs[0][1].text]))[key]
    assert cut.reach < whole.reach
    assert cut.likelihood < whole.likelihood


def test_worth_lies_between_half_and_all_of_the_score() -> None:
    assert Learnability(0.0, 0.0).worth(0.8) == pytest.approx(0.4)
    assert Learnability(1.0, 1.0).worth(0.8) == pytest.approx(0.8)
    assert Learnability(0.25, 0.36).worth(1.0) == pytest.approx((1 + math.sqrt(0.09)) / 2)
    assert Learnability(1.0, 1.0).worth(0.0) == 0.0
