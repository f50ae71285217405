"""How far two texts have words and letters in common, each in 0..1, by the libraries that papers quote.

BLEU and chrF are sacrebleu's for a sentence (Papineni et al. 2002; Popović 2015), ROUGE-L is Google's
rouge-score (Lin 2004), the F-measure with stems. Its own tokens are a to z and digits: texts of mostly other
letters are cut into words of any script, and Chinese, Japanese and Korean ones into characters.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

_ALONE = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # kana, Chinese characters, hangul
_WORDS = re.compile(rf"[{_ALONE}]|(?:(?![{_ALONE}])[^\W_])+")


def bleu(text: str, references: Sequence[str]) -> float:
    """Sentence BLEU: up to 4-grams, tokens by `13a`, exponential smoothing."""
    return float(_bleu().sentence_score(text, list(references)).score) / 100


def chrf(text: str, references: Sequence[str]) -> float:
    """chrF2: F-score of character 6-grams that weighs recall twice."""
    return float(_chrf().sentence_score(text, list(references)).score) / 100


def rouge_l(text: str, references: Sequence[str]) -> float:
    """ROUGE-L: F-measure of the longest common subsequence of words, with the nearest reference."""
    return max(_rouge_l(text, each) for each in references)


def _rouge_l(text: str, reference: str) -> float:
    letters = [letter for letter in text + reference if letter.isalnum()]
    if not letters:
        return float(text.split() == reference.split())
    foreign = 2 * sum(not letter.isascii() for letter in letters) > len(letters)
    return float(_rouge(foreign).score(reference, text)["rougeL"].fmeasure)


@lru_cache(maxsize=1)
def _bleu() -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(effective_order=True)


@lru_cache(maxsize=1)
def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()


class _AnyScript:
    """Cuts a text into words of any script."""

    def tokenize(self, text: str) -> list[str]:
        """Words in lower case; characters where words are not written apart."""
        return _WORDS.findall(text.lower())


@lru_cache(maxsize=2)
def _rouge(foreign: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    tokenizer = _AnyScript() if foreign else None
    return RougeScorer(["rougeL"], use_stemmer=True, tokenizer=tokenizer)
