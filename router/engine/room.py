"""The machine that teachers share: which of them may be on it together, and who waits.

Servers take shares of the memory of GPUs; a model in this process takes the whole. What does not fit
waits for its turn. A server goes on running after its turn, so that the next purchase finds it, until
another needs the room: each starts as few times as possible when those that run have the first turn.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from router.teachers.protocol import Teacher
from router.teachers.server import ModelServer

ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Need:
    """A share of the memory of some GPUs, or of all."""

    share: float
    gpus: frozenset[int] | None

    @classmethod
    def of(cls, teacher: Teacher) -> "Need":
        """What a teacher takes while it answers."""
        return cls.of_server(teacher.server) if teacher.server else cls(1.0, None)

    @classmethod
    def of_server(cls, server: ModelServer) -> "Need":
        """What a server takes while it runs."""
        return cls(server.share, None if server.gpus is None else frozenset(server.gpus))


class Room:
    """Turns on one machine, in the order in which they are asked for."""

    def __init__(self) -> None:
        self._busy: list[Teacher] = []
        self._queue = asyncio.Lock()
        self._freed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def turn(self, teacher: Teacher) -> AsyncIterator[None]:
        """A teacher's turn: it fits beside whatever else is on the machine."""
        async with self._queue:
            while not fit(_needs([teacher, *self._busy])):
                self._freed.clear()
                await self._freed.wait()
            await self._make_room([teacher, *self._busy])
            self._busy.append(teacher)
        try:
            yield
        finally:
            self._busy.remove(teacher)
            self._freed.set()

    async def _make_room(self, asked: Sequence[Teacher]) -> None:
        """Stops servers that nobody asks now, the longest running first, until there is room."""
        servers = [teacher.server for teacher in asked]
        idle = [server for server in ModelServer.started if server not in servers]
        while idle and not fit([*_needs(asked), *map(Need.of_server, idle)]):
            await asyncio.to_thread(idle.pop(0).stop)


def _needs(teachers: Sequence[Teacher]) -> list[Need]:
    """What teachers take together; those of one server take its share once."""
    return list({id(teacher.server or teacher): Need.of(teacher) for teacher in teachers}.values())


def fit(needs: Sequence[Need]) -> bool:
    """Whether no GPU is asked for more than it has."""
    numbered = {gpu for need in needs for gpu in need.gpus or ()}
    gpus: Iterable[int] = numbered or {0}
    return all(
        sum(need.share for need in needs if need.gpus is None or gpu in need.gpus) <= 1 + ROUNDING
        for gpu in gpus
    )


def needs_room(teacher: Teacher) -> bool:
    """Whether a teacher is on this machine, so far as it is ours to say."""
    return teacher.server is not None or not teacher.remote


def in_turn(teachers: Sequence[Teacher]) -> list[Teacher]:
    """Those whose server runs, then the other servers, each with all that ask it, then models here."""
    servers = list(dict.fromkeys(teacher.server for teacher in teachers))

    def place(teacher: Teacher) -> tuple[int, int]:
        if teacher.server is None:
            return 2, 0
        return 0 if teacher.server.is_running else 1, servers.index(teacher.server)

    return sorted(teachers, key=place)
