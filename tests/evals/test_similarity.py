"""How alike two models answer, by worked examples."""

from collections.abc import Sequence

import numpy as np
import pytest

from evals.similarity import MEASURES, alike


def letters(texts: Sequence[str]) -> list[list[int]]:
    return [[ord(letter) for letter in text] for text in texts]


def counted(texts: Sequence[str]) -> np.ndarray:
    """Vectors of how often each letter occurs, of length 1."""
    found = np.zeros((len(texts), 128))
    for row, text in enumerate(texts):
        for letter in text:
            found[row, ord(letter)] += 1
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def means(*pairs: tuple[str, str]) -> dict[str, float]:
    return {name: each.mean for name, each in alike(pairs, letters, counted).items()}


def test_equal_answers_are_alike_by_every_measure() -> None:
    """Source: by definition, BLEU, ROUGE-L and chrF against their libraries in scorers/test_overlap.py."""
    assert means(("the cat sat on the mat", "the cat sat on the mat")) == pytest.approx(
        dict.fromkeys(MEASURES, 1.0)
    )


def test_tokens_and_prefix_by_hand() -> None:
    """abcd and abxde have a, b and d at the same of five places, and two before they part."""
    found = means(("abcd", "abxde"))
    assert found["tokens"] == pytest.approx(3 / 5)
    assert found["prefix"] == pytest.approx(2 / 5)


def test_cosine_by_hand() -> None:
    """Source: by hand, with letter counts for vectors: (2, 1) and (1, 2) make 4 / 5."""
    assert means(("aab", "abb"))["cosine"] == pytest.approx(4 / 5)


def test_nothing_is_alike_to_nothing_alone() -> None:
    assert means((" ", "")) == dict.fromkeys(MEASURES, 1.0)
    assert means(("", "some")) == dict.fromkeys(MEASURES, 0.0)
    assert alike([], letters, counted) == {}


def test_means_have_intervals() -> None:
    found = alike([("same", "same")] * 20 + [("this", "that")] * 20, letters, counted)
    assert found["tokens"].n == 40
    assert found["tokens"].lo < found["tokens"].mean < found["tokens"].hi
