"""What the benchmarks on tables share: our router fitted to scores, and jobs side by side."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import numpy as np

from router.deciding import Probed, RouteConfig, Router, fit_router

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
    """Our router of vectors (N, D) and scores (N, M); its teachers are named by their numbers. `prices` (M,)
    are what 1,000 answers cost, for `policy: cost`."""
    teachers = tuple(str(i) for i in range(scores.shape[1]))
    keys = tuple(str(i) for i in range(len(vectors)))
    probed = Probed(keys, vectors, tuple(tasks), teachers, scores)
    usd = None
    if prices is not None:
        usd = dict.fromkeys(tasks, dict(zip(teachers, prices.tolist(), strict=True)))
    return fit_router(probed, config, seed, usd)


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
