"""Runs a coroutine to its end from a synchronous function, in a notebook too.

Where the thread already has a running event loop (a notebook), the coroutine gets a thread of its
own. The first Ctrl-C asks it to come to an end, the second to do so at once; when it has cleaned up,
KeyboardInterrupt is raised. The loop is uvloop's, which takes a fifth less CPU per call.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

Main = Callable[[], Coroutine[Any, Any, None]]


def run_to_end(main: Main, drain: Callable[[], None], abort: Callable[[], None]) -> None:
    """Runs `main()`; `drain` makes it end soon, `abort` at once.

    Of a group of errors, the first is raised as itself.
    """
    body = _Body(main, drain, abort)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _run(body.run(takes_ctrl_c=_may_take_ctrl_c()))
    else:
        _run_in_thread(body)
    if body.pressed:
        raise KeyboardInterrupt


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Waits for an event, for so long at most; whether it came."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


class _Body:
    """A coroutine, and how often somebody pressed Ctrl-C while it ran."""

    def __init__(self, main: Main, drain: Callable[[], None], abort: Callable[[], None]) -> None:
        self._main, self._drain, self._abort = main, drain, abort
        self.loop: asyncio.AbstractEventLoop | None = None
        self.started = threading.Event()
        self.pressed = 0

    async def run(self, *, takes_ctrl_c: bool) -> None:
        self.loop = asyncio.get_running_loop()
        if takes_ctrl_c:
            self.loop.add_signal_handler(signal.SIGINT, self.interrupt)
        self.started.set()
        try:
            await self._main()
        except BaseExceptionGroup as group:
            first: BaseException = group
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise first from None
        finally:
            if takes_ctrl_c:
                self.loop.remove_signal_handler(signal.SIGINT)

    def interrupt(self) -> None:
        """What Ctrl-C does; called in the loop's thread."""
        self.pressed += 1
        if self.pressed == 1:
            self._drain()
        else:
            self._abort()


def _run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def _may_take_ctrl_c() -> bool:
    """Whether nobody else handles it; only a process's main thread may ask for it."""
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _run_in_thread(body: _Body) -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            _run(body.run(takes_ctrl_c=False))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="buy")
    thread.start()
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt:
            body.started.wait()
            assert body.loop is not None
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                body.loop.call_soon_threadsafe(body.interrupt)
    if raised:
        raise raised[0]
