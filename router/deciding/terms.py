"""What sets a group of texts apart: its terms, and a name made of them.

A term's weight is its part of the group's Kullback-Leibler divergence from all groups: how many of the
group's texts hold it, times the log of how many more that are than elsewhere (Tomokiyo and Hurst 2003,
"A language model approach to keyphrase extraction"). A term is a word with its accents and vowel signs, or
two characters that follow each other where a script has no spaces between words.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

TERMS = 8
TEXTS = 2_000  # of a group
LONGEST = 30  # letters of a word that can be a term
# Thai, Lao, Burmese, Khmer, Japanese syllables and Chinese characters.
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"


def terms_of(groups: Sequence[Sequence[str]], count: int = TERMS) -> list[list[str]]:
    """The `count` terms at most that set each group of texts apart, best first. No group is empty."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(
        stop_words="english",
        binary=True,
        tokenizer=lambda text: list(_words(text)),
        token_pattern=None,
        max_features=20_000,
    )
    flat = [text for group in groups for text in group[:TEXTS]]
    try:
        counts = vectorizer.fit_transform(flat)
    except ValueError:  # no word in any text
        return [[] for _ in groups]
    bounds = np.cumsum([0, *(len(group[:TEXTS]) for group in groups)])
    shares = np.stack(
        [
            np.asarray(counts[start:stop].mean(axis=0)).ravel()
            for start, stop in zip(bounds, bounds[1:], strict=False)
        ]
    )
    weights = shares * np.log(np.maximum(shares, 1e-12) / shares.mean(axis=0))
    words = vectorizer.get_feature_names_out()
    return [
        [str(words[i]) for i in np.argsort(-row, kind="stable")[:count] if row[i] > 0]
        for row in weights
    ]


def _words(text: str) -> Iterator[str]:
    """The words of a text, of two letters at least; pairs of characters where it has no spaces."""
    for unspaced, word in _pattern().findall(text):
        if unspaced:
            yield from (unspaced[i : i + 2] for i in range(len(unspaced) - 1))
        elif len(word) <= LONGEST:
            yield word


@cache
def _pattern() -> re.Pattern[str]:
    marks = "".join(chr(i) for i in range(0x10000) if unicodedata.category(chr(i))[0] == "M")
    letter = rf"(?![{UNSPACED}])[^\W\d_]"
    return re.compile(rf"([{UNSPACED}]+)|({letter}(?:{letter}|[{marks}])+)")


def names_of(groups: Sequence[Sequence[str]]) -> list[str]:
    """A name for each group: its two best terms that no name before it has, else `task_N`."""
    names: list[str] = []
    used: set[str] = set()
    for number, terms in enumerate(terms_of(groups), 1):
        own = [term for term in terms if term not in used][:2]
        used.update(own)
        names.append("_".join(own) or f"task_{number}")
    return names
