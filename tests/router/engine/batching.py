"""Buys by batches in processes that die at the step they are told to."""

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ledger.store import Ledger
from router.engine import batches
from router.teachers.connections import Client
from tests.router.engine import buying

STEPS = ((Client, "call"), (Ledger, "aput_all"))  # each has an effect outside of the process
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


def dies(folder: Path, teacher: Path, n: int, at: int) -> bool:
    """Buys in a process that is killed right after its `at`-th step; False if it came to its end."""
    child = CONTEXT.Process(target=_buy, args=(folder, teacher, n, at))
    child.start()
    child.join()
    assert child.exitcode in (-signal.SIGKILL, 0)
    return child.exitcode != 0


def quickly() -> None:
    """Has this process wait for no batch."""
    batches.POLL_S = batches.POLL_CEILING_S = 0.001


def _buy(folder: Path, teacher: Path, n: int, at: int) -> None:
    quickly()
    steps = itertools.count(1)

    def dying(step: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(*arguments: Any, **named: Any) -> Any:
            result = await step(*arguments, **named)
            if next(steps) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    for owner, name in STEPS:
        setattr(owner, name, dying(getattr(owner, name)))
    buying.buy_all(folder, teacher, n)
