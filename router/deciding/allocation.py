"""Which probe to buy next: where answers can still change a route.

Teachers that are not in question somewhere need no more probes there. After a first round that asks every
teacher the same prompts, each further prompt goes to two: the best one in a draw from what teachers'
advantages near it may be, and the best of a further draw that is another (top-two Thompson sampling: Russo
2020, "Simple Bayesian algorithms for best-arm identification", Operations Research 68). The same scores and
seed give the same next round, so an allocation can be replayed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from router.deciding.local import LocalModel, fit_local

if TYPE_CHECKING:
    import numpy as np

FIRST = 40  # prompts that every teacher is asked
GROWTH = 0.15  # of the prompts asked so far, that the next round adds
LEAST = 20  # prompts of a round
DRAWS = 64


def next_round(
    vectors: "np.ndarray", tasks: Sequence[str], scores: "np.ndarray", budget: int, seed: int
) -> "np.ndarray":
    """The answers (N, T) bool to buy next, at most `budget`; none where all prompts were asked.

    Prompts (N, D) are asked in their order, so mix tasks in it. `scores` (N, T) hold NaN for what has
    not been bought. A prompt that was asked of anybody counts as asked.
    """
    import numpy as np

    asked = ~np.isnan(scores)
    begun = int(asked.any(axis=1).sum())
    cells = np.zeros(scores.shape, bool)
    teachers = scores.shape[1]
    if begun < min(FIRST, len(scores)):
        cells[begun : min(FIRST, begun + budget // teachers)] = True
        return cells
    size = min(max(LEAST, int(GROWTH * begun)), budget // min(2, teachers))
    new = slice(begun, begun + size)
    if len(vectors[new]):
        model, _ = fit_local(vectors[:begun], tasks[:begun], scores[:begun], seed)
        rng = np.random.default_rng([seed, begun])
        cells[new] = _top_two(model, vectors[new], tasks[new], rng)
    return cells


def _top_two(
    model: LocalModel, vectors: "np.ndarray", tasks: Sequence[str], rng: "np.random.Generator"
) -> "np.ndarray":
    """Two teachers (N, T) bool for each prompt; the runner-up of the first draw where one always leads."""
    import numpy as np

    drawn = model.draw(vectors, tasks, DRAWS, rng)  # (R, N, T)
    leads = drawn.argmax(axis=2)  # (R, N)
    rows, first = np.arange(len(vectors)), leads[0]
    others = leads != first
    second = leads[others.argmax(axis=0), rows]
    runner_up = np.argsort(drawn[0], axis=1)[:, -2:][:, 0]
    cells = np.zeros(drawn.shape[1:], bool)
    cells[rows, first] = True
    cells[rows, np.where(others.any(axis=0), second, runner_up)] = True
    return cells
