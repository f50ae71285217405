"""What sets a group of texts apart: its terms, and a name made of them.

A term's weight is its part of the group's Kullback-Leibler divergence from all groups: how many of the
group's texts hold it, times the log of how many more that are than elsewhere (Tomokiyo and Hurst 2003,
"A language model approach to keyphrase extraction").
"""

from collections.abc import Sequence

TERMS = 8
TEXTS = 2_000  # of a group


def terms_of(groups: Sequence[Sequence[str]], count: int = TERMS) -> list[list[str]]:
    """The `count` terms at most that set each group of texts apart, best first. No group is empty."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(
        stop_words="english",
        binary=True,
        token_pattern=r"(?u)\b[^\W\d_]{2,}\b",
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


def names_of(groups: Sequence[Sequence[str]]) -> list[str]:
    """A name for each group: its two best terms that no name before it has, else `task_N`."""
    names: list[str] = []
    used: set[str] = set()
    for number, terms in enumerate(terms_of(groups), 1):
        own = [term for term in terms if term not in used][:2]
        used.update(own)
        names.append("_".join(own) or f"task_{number}")
    return names
