"""`reasoning_gym` grades as the families' own scorers do, also after a trip through JSON."""

import json
from typing import Any

import pytest

from evals.scorers import BadScorer, Score, score

factory = pytest.importorskip("reasoning_gym.factory")

FAMILIES: dict[str, dict[str, Any]] = {
    "spell_backward": {"min_word_len": 3, "max_word_len": 6},
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 2, "max_digits": 2},
    "caesar_cipher": {"delimiter": " ", "min_words": 1, "max_words": 1},
    "letter_counting": {},
    "leg_counting": {},
}


def meta_of(family: str, index: int = 0) -> dict[str, Any]:
    data = factory.create_dataset(family, size=5, seed=3, **FAMILIES[family])
    meta = {"family": family, "config": FAMILIES[family], "entry": data[index]}
    return dict(json.loads(json.dumps(meta)))


def grade(meta: dict[str, Any], answer: str) -> Score:
    return score("reasoning_gym", answer, None, meta)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_right_answer_gets_all_and_a_wrong_one_not(family: str) -> None:
    meta = meta_of(family)
    right = meta["entry"]["answer"]
    for answer in (right, f" {right}\n", f"<answer>{right}</answer>", f"<think>?</think>{right}"):
        assert grade(meta, answer) == Score(1.0, True)
    wrong = grade(meta, "-987654321")
    assert wrong.value < 0.5


def test_half_a_word_gets_part_of_the_credit() -> None:
    """spell_backward gives a share per letter in place: 2 of `niar` in `nixx`."""
    meta = meta_of("spell_backward")
    meta["entry"]["answer"] = "niar"
    assert grade(meta, "nixx") == Score(0.5, True)
    assert grade(meta, "niarxx").value <= 1.0


def test_partial_credit_is_the_familys_own_scorers() -> None:
    meta = meta_of("caesar_cipher")
    answer = f"The text is {meta['entry']['answer']}"
    data = factory.create_dataset("caesar_cipher", size=1, seed=0, **FAMILIES["caesar_cipher"])
    assert grade(meta, answer).value == pytest.approx(data.score_answer(answer, meta["entry"]))


@pytest.mark.parametrize(("given", "value"), [(1.7, 1.0), (-0.5, 0.0), (0.25, 0.25)])
def test_values_are_cut_to_their_range(
    given: float, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    meta = meta_of("chain_sum")
    kind = type(factory.create_dataset("chain_sum", size=1, seed=0))
    monkeypatch.setattr(kind, "score_answer", lambda self, answer, entry: given)
    assert grade(meta, "5") == Score(value, True)


@pytest.mark.parametrize("failing", [ValueError("cannot read"), float("nan")])
def test_what_the_family_cannot_read_is_counted_apart(
    failing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score_answer(self: object, answer: str, entry: dict[str, Any]) -> float:
        if isinstance(failing, Exception):
            raise failing
        return float(failing)

    meta = meta_of("chain_sum")
    kind = type(factory.create_dataset("chain_sum", size=1, seed=0))
    monkeypatch.setattr(kind, "score_answer", score_answer)
    assert grade(meta, "5") == Score(0.0, False)


def test_an_empty_answer_is_counted_apart() -> None:
    assert grade(meta_of("chain_sum"), "  ") == Score(0.0, False)


@pytest.mark.parametrize(
    "meta", [{}, {"family": "chain_sum"}, {"family": 3, "entry": {"answer": ""}}]
)
def test_meta_without_family_and_entry_is_refused(meta: dict[str, Any]) -> None:
    with pytest.raises(BadScorer, match="needs `meta:"):
        score("reasoning_gym", "5", None, meta)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(BadScorer, match="no family 'chain_sums'"):
        score("reasoning_gym", "5", None, {"family": "chain_sums", "entry": {"answer": "5"}})


def test_a_configuration_that_the_family_refuses_is_said() -> None:
    meta = {"family": "chain_sum", "config": {"min_terms": -4}, "entry": {"answer": "5"}}
    with pytest.raises(BadScorer, match="refuses"):
        score("reasoning_gym", "5", None, meta)
