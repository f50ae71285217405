"""How alike two models answer the same prompts, whether right or wrong.

    alike([(student's answer, teacher's answer), …], tokenise, embed)    # -> Likeness, by measure an Interval

Measures, each in 0..1 for a pair of answers: - `tokens`: positions with the same token, over the longer
answer's; `prefix`: tokens before the first that differs,
  over the same. Tokens are the student's, so that answers of any model can be held against its own.
- `bleu`, `rouge_l`, `chrf`: overlap of words and letters (evals.overlap), the second answer as the reference.
- `cosine`: of the embeddings, negative ones counted 0.
Two empty answers are alike, an empty one is unlike any other.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from evals.overlap import bleu, chrf, rouge_l
from evals.stats import Interval, mean_interval

if TYPE_CHECKING:
    import numpy as np

MEASURES = ("tokens", "prefix", "bleu", "rouge_l", "chrf", "cosine")
Likeness = dict[str, Interval]
Tokenise = Callable[[Sequence[str]], Sequence[Sequence[int]]]
Embed = Callable[[Sequence[str]], "np.ndarray"]


def alike(pairs: Sequence[tuple[str, str]], tokenise: Tokenise, embed: Embed) -> Likeness:
    """By measure the mean over pairs with its 95 % interval; nothing where there are no pairs.

    `embed` gives vectors (N, D) of length 1.
    """
    if not pairs:
        return {}
    ones, others = [one for one, _ in pairs], [other for _, other in pairs]
    texts = [
        text if text.strip() else "." for text in (*ones, *others)
    ]  # none is empty for an embedder
    vectors_2N_D = embed(texts)
    cosines_N = (vectors_2N_D[: len(pairs)] * vectors_2N_D[len(pairs) :]).sum(axis=1).tolist()
    tokens = zip(tokenise(ones), tokenise(others), strict=True)
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for (one, other), (own, its), cosine in zip(pairs, tokens, cosines_N, strict=True):
        for name, value in _of_pair(one, other, own, its, cosine).items():
            found[name].append(min(1.0, max(0.0, value)))
    return {name: mean_interval(values) for name, values in found.items()}


def _of_pair(
    one: str, other: str, own: Sequence[int], its: Sequence[int], cosine: float
) -> dict[str, float]:
    if not one.strip() or not other.strip():
        return dict.fromkeys(MEASURES, float(one.strip() == other.strip()))
    same = [a == b for a, b in zip(own, its, strict=False)]
    longer = max(len(own), len(its), 1)
    return {
        "tokens": sum(same) / longer,
        "prefix": (same.index(False) if False in same else len(same)) / longer,
        "bleu": bleu(one, [other]),
        "rouge_l": rouge_l(one, [other]),
        "chrf": chrf(one, [other]),
        "cosine": cosine,
    }
