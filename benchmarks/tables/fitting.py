"""What the benchmarks on tables share: our router fitted to scores, and jobs side by side."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import numpy as np

from router.deciding import Probed, RouteConfig, Router, fit_router, next_round

DEFAULTS = RouteConfig()

T = TypeVar("T")


def our_router(
    vectors: np.ndarray,
    tasks: Sequence[str],
    scores: np.ndarray,
    seed: int,
    config: RouteConfig = DEFAULTS,
    prices: np.ndarray | None = None,
) -> Router:
    """Our router of vectors (N, D) and scores (N, M), NaN where sequential probing did not ask; its teachers
    are named by their numbers. `prices` (M,) are what 1,000 answers cost, for `policy: cost`."""
    teachers = tuple(str(i) for i in range(scores.shape[1]))
    keys = tuple(str(i) for i in range(len(vectors)))
    selective = bool(np.isnan(scores).any())
    probed = Probed(keys, vectors, tuple(tasks), teachers, scores, selective)
    usd = None
    if prices is not None:
        usd = dict.fromkeys(tasks, dict(zip(teachers, prices.tolist(), strict=True)))
    return fit_router(probed, config, seed, usd)


def bought(
    vectors: np.ndarray, tasks: Sequence[str], truth: np.ndarray, budget: int, seed: int
) -> np.ndarray:
    """What sequential probing buys of scores (N, M): the others are NaN."""
    scores = np.full(truth.shape, np.nan)
    while True:
        asked = ~np.isnan(scores)
        left = budget - int(asked.sum())
        cells = next_round(vectors, tasks, scores, asked, left, DEFAULTS.confidence, seed)
        if not cells.any():
            return scores
        scores[cells] = truth[cells]


def picks(router: Router, vectors: np.ndarray, tasks: Sequence[str]) -> np.ndarray:
    """The models (n,) that our router picks, by number."""
    return np.array([int(name) for name in router.choose(vectors, tasks)], int)


def side_by_side(work: Callable[..., T], jobs: Iterable[Sequence[Any]]) -> list[T]:
    """What a function gives for each of the jobs' arguments: a process a core, each with one thread. How many
    are done is told on a terminal."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are spawned
    arguments, found = list(jobs), []
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as processes:
        for each in processes.map(work, *zip(*arguments, strict=True)):
            found.append(each)
            if sys.stderr.isatty():
                done = f"{work.__name__}: {len(found)} of {len(arguments)}"
                print(f"\r\033[K{done}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return found
