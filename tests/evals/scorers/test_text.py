"""`exact` and `regex`, and what all scorers share."""

import pytest

from evals.config import SCORERS
from evals.scorers import BadScorer, Score, score
from ledger.errors import InputError

RIGHT, WRONG, NOTHING = Score(1.0, True), Score(0.0, True), Score(0.0, False)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("abc", "abc", RIGHT),
        ("  abc\n", "abc", RIGHT),
        ("Abc", "abc", WRONG),
        ("abc.", "abc", WRONG),
        ("cafe\u0301", "caf\u00e9", RIGHT),
        ("", "abc", NOTHING),
        (" \n ", "abc", NOTHING),
        ("\ud800", "abc", WRONG),
        ("<think>hm</think>\n42", "42", RIGHT),
        ("<think>42</think>\n41", "42", WRONG),
        ("<think>42</think>\n", "42", NOTHING),
    ],
)
def test_exact(answer: str, reference: str, expected: Score) -> None:
    """Source: worked by hand."""
    assert score("exact", answer, reference, {}) == expected


@pytest.mark.parametrize(
    ("answer", "reference", "pattern", "expected"),
    [
        ("it is 42 today", r"\b42\b", None, RIGHT),
        ("it is 421 today", r"\b42\b", None, WRONG),
        ("", "42", None, NOTHING),
        ("Answer: 7\nAnswer: 9", "9", r"Answer: (\d+)", RIGHT),
        ("Answer: 7\nAnswer: 9", "7", r"Answer: (\d+)", WRONG),
        ("seven", "7", r"Answer: (\d+)", NOTHING),
        ("#yes#", "#yes#", r"#\w+#", RIGHT),
        ("<think>maybe 42</think>41", "42", None, WRONG),
        ("<think>maybe 41</think>42", "^42$", None, RIGHT),
        ("<think>42</think> ", "42", None, NOTHING),
        ("Answer: 7</think>Answer: 9", "9", r"Answer: (\d+)", RIGHT),
        ("<think>Answer: 7</think>seven", "7", r"Answer: (\d+)", NOTHING),
        ("x", "x", r"x(y)?", NOTHING),  # the group took no part in the match
    ],
)
def test_regex(answer: str, reference: str, pattern: str | None, expected: Score) -> None:
    """Source: worked by hand, by the syntax of the `regex` package."""
    meta = {} if pattern is None else {"pattern": pattern}
    assert score("regex", answer, reference, meta) == expected


@pytest.mark.parametrize("meta", [{"pattern": "(unclosed"}, {"pattern": 3}])
def test_a_bad_pattern_is_the_users_to_mend(meta: dict[str, object]) -> None:
    with pytest.raises(InputError, match="pattern"):
        score("regex", "text", "42", meta)


def test_a_bad_reference_pattern_is_named() -> None:
    with pytest.raises(BadScorer, match=r"'\[a-' is not a valid pattern"):
        score("regex", "text", "[a-", {})


def test_a_pattern_that_would_never_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evals.scorers.text.PATIENCE_S", 0.2)
    with pytest.raises(BadScorer, match="nested repeats"):
        score("regex", "a" * 5000 + "!", r"^(a|aa)+$", {})


@pytest.mark.parametrize(
    "name", [name for name in SCORERS if name not in ("judge", "reasoning_gym")]
)
def test_a_missing_reference_is_said(name: str) -> None:
    with pytest.raises(BadScorer, match=f"'{name}' needs a `reference`"):
        score(name, "text", None, {})


def test_an_unknown_scorer_is_an_input_error_with_the_near_one() -> None:
    with pytest.raises(InputError, match="Did you mean 'exact'"):
        score("exakt", "a", "a", {})
