"""Which probe to buy next: where answers can still change a route.

Teachers that are not in question somewhere need no more probes there. After a first round that asks every
teacher the same prompts, each further prompt goes to two: the best one in a draw from what teachers'
advantages near it may be, and the best of a further draw that is another (top-two Thompson sampling: Russo
2020, "Simple Bayesian algorithms for best-arm identification", Operations Research 68). A prompt on which one
teacher leads in as many draws as the recipe's confidence asks for is decided: it is passed over, until other
answers bring it back into question. Where there are probes for neighbourhoods, none is decided before these
are seen: teachers that look settled over all may change places from one to the next. The same scores and seed
give the same next round, so an allocation can be replayed.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from router.deciding.levels import FEWEST
from router.deciding.local import fit_local
from router.deciding.routes import Route

if TYPE_CHECKING:
    import numpy as np

FIRST = 40  # prompts that every teacher is asked
FIRST_PER_TASK = 8  # if that is more
GROWTH = 0.15  # of the prompts asked so far, that the next round adds
LEAST = 20  # prompts of a round
DRAWS = 200


def next_round(
    vectors: "np.ndarray",
    tasks: Sequence[str],
    scores: "np.ndarray",
    asked: "np.ndarray",
    budget: int,
    confidence: float,
    seed: int,
) -> "np.ndarray":
    """The answers (N, T) bool to buy next, at most `budget`; none where all prompts are asked or decided.

    Prompts (N, D) are asked in their order, so mix tasks in it; when all were asked of somebody, those in
    doubt go to further teachers. `scores` (N, T) hold NaN for what has no score, `asked` (N, T) bool what was
    bought, whatever came of it.
    """
    import numpy as np

    begun = asked.any(axis=1)
    cells = np.zeros(scores.shape, bool)
    teachers = scores.shape[1]
    first = min(max(FIRST, FIRST_PER_TASK * len(set(tasks))), len(scores))
    if begun.sum() < first:
        rest = np.flatnonzero(~begun)
        cells[rest[: min(first - int(begun.sum()), budget // teachers)]] = True
        return cells
    size = min(max(LEAST, int(GROWTH * begun.sum())), budget // min(2, teachers))
    scored = np.flatnonzero(~np.isnan(scores).all(axis=1))
    silent = np.isnan(scores).all(axis=0)
    if silent.any() and (~silent).sum() > 1:  # nothing can be said of them
        told, open_ = scores[:, ~silent], asked[:, ~silent]
        cells[:, ~silent] = next_round(vectors, tasks, told, open_, budget, confidence, seed)
        return cells
    if not size or asked.all() or silent.any():
        return cells
    named = np.array(tasks)
    model, _ = fit_local(vectors[scored], named[scored].tolist(), scores[scored], seed)
    rng = np.random.default_rng([seed, int(asked.sum())])
    doubt = 1 - confidence
    if not model.levels.centres and len(scores) >= FEWEST:
        doubt = -1.0  # nothing is decided yet

    def drawn(rows: "np.ndarray") -> "np.ndarray":
        return model.draw(vectors[rows], named[rows].tolist(), DRAWS, rng)

    def two(rows: "np.ndarray") -> "np.ndarray":
        return _top_two(drawn(rows), doubt)

    def another(rows: "np.ndarray") -> "np.ndarray":
        return _likeliest(np.where(asked[rows], 0.0, _leads(drawn(rows))), doubt)

    _mark(cells, np.flatnonzero(~begun), size, two)
    if not cells.any():
        _mark(cells, np.flatnonzero(begun & ~asked.all(axis=1)), size, another)
    return cells


def contested(
    routes: Sequence[Route],
    tasks: Sequence[str],
    teachers: Sequence[str],
    asked: "np.ndarray",
    budget: int,
) -> "np.ndarray":
    """The answers (N, T) bool to buy next, at most `budget`, for tasks that the guard keeps with the best
    single teacher though another looks stronger: probes that both have not been asked."""
    import numpy as np

    cells = np.zeros(asked.shape, bool)
    for route in routes:
        if route.guarded and route.runner_up is not None:
            pair = [teachers.index(route.teacher), teachers.index(route.runner_up)]
            rows = np.flatnonzero(np.array(tasks) == route.task)
            wanted = ~asked[rows][:, pair]
            rows, wanted = rows[wanted.any(axis=1)][:LEAST], wanted[wanted.any(axis=1)][:LEAST]
            for row, missing in zip(rows.tolist(), wanted, strict=True):
                if int(cells.sum()) + int(missing.sum()) <= budget:
                    cells[row, pair] = missing
    return cells


def _mark(
    cells: "np.ndarray",
    rows: "np.ndarray",
    size: int,
    wanted: "Callable[[np.ndarray], np.ndarray]",
) -> None:
    """Marks what is wanted (n, T) bool of prompts, part by part, until `size` prompts are marked."""
    import numpy as np

    room = size
    for start in range(0, len(rows), 2 * size):
        part = rows[start : start + 2 * size]
        found = wanted(part)
        open_ = np.flatnonzero(found.any(axis=1))[:room]
        cells[part[open_]] = found[open_]
        room -= len(open_)
        if not room:
            return


def _leads(drawn: "np.ndarray") -> "np.ndarray":
    """The share (n, T) of draws (R, n, T) in which each teacher leads."""
    import numpy as np

    first = drawn.argmax(axis=2)  # (R, n)
    return np.stack([(first == teacher).mean(axis=0) for teacher in range(drawn.shape[2])], axis=1)


def _likeliest(leads: "np.ndarray", doubt: float) -> "np.ndarray":
    """The teacher (n, T) bool that leads most often, where all of them (n, T) together do in more than
    `doubt` of the draws."""
    import numpy as np

    cells = np.zeros(leads.shape, bool)
    cells[np.arange(len(leads)), leads.argmax(axis=1)] = True
    return cells & (leads.sum(axis=1) > max(doubt, 0.0))[:, None]


def _top_two(drawn: "np.ndarray", doubt: float) -> "np.ndarray":
    """Two teachers (n, T) bool for each prompt that is in doubt; the runner-up of the first draw where one
    always leads."""
    import numpy as np

    leads = drawn.argmax(axis=2)  # (R, n)
    rows, first = np.arange(drawn.shape[1]), leads[0]
    others = leads != first
    second = leads[others.argmax(axis=0), rows]
    runner_up = np.argsort(drawn[0], axis=1)[:, -2:][:, 0]
    cells = np.zeros(drawn.shape[1:], bool)
    cells[rows, first] = True
    cells[rows, np.where(others.any(axis=0), second, runner_up)] = True
    return cells & (_leads(drawn).max(axis=1) < 1 - doubt)[:, None]
