"""Runs a coroutine to its end from a synchronous function, in a notebook too.

Where the thread already has a running event loop (a notebook), the coroutine gets a thread of its
own. Ctrl-C cancels it, waits for it to clean up, and is raised.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any


def run_to_end(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs `main()`; of a group of errors, the first is raised as itself."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(_plainly(main))
    else:
        _run_in_thread(main)


async def _plainly(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await main()
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def _run_in_thread(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    raised: list[BaseException] = []
    started = threading.Event()
    handle: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def remembered() -> None:
        task = asyncio.current_task()
        assert task is not None
        handle.append((asyncio.get_running_loop(), task))
        started.set()
        await _plainly(main)

    def body() -> None:
        try:
            asyncio.run(remembered())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=body, name="buy")
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        started.wait()
        loop, task = handle[0]
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    if raised:
        raise raised[0]
