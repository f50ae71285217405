"""How far two texts have words and letters in common, each in 0..1, by the libraries that papers quote.

BLEU and chrF are sacrebleu's for a sentence (Papineni et al. 2002; Popović 2015), ROUGE-L is Google's
rouge-score (Lin 2004), the F-measure with stems.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any


def bleu(text: str, references: Sequence[str]) -> float:
    """Sentence BLEU: up to 4-grams, tokens by `13a`, exponential smoothing."""
    return float(_bleu().sentence_score(text, list(references)).score) / 100


def chrf(text: str, references: Sequence[str]) -> float:
    """chrF2: F-score of character 6-grams that weighs recall twice."""
    return float(_chrf().sentence_score(text, list(references)).score) / 100


def rouge_l(text: str, references: Sequence[str]) -> float:
    """ROUGE-L: F-measure of the longest common subsequence of words, with the nearest reference."""
    return float(max(_rouge().score(each, text)["rougeL"].fmeasure for each in references))


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
