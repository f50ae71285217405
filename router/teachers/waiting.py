"""Waits for a coroutine from a synchronous function, in a notebook too, whose thread runs a loop already."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def result_of(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns, run to its end in a thread of its own; raises what it raises."""
    with ThreadPoolExecutor(1, "waiting") as pool:
        return pool.submit(asyncio.run, work).result()
