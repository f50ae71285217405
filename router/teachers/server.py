"""A server of a model that this process starts, waits for, shares the machine with, and stops.

A server that already serves the model with the same settings, as another run's, is taken as it is. What is
started here ends with this process, however that ends (supervisor.py).
"""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil

from ledger.keys import content_key
from router.teachers import supervisor
from router.teachers.connections import Client
from router.teachers.errors import CallError

HOST = "127.0.0.1"
PORTS, FIRST_PORT, CANDIDATES = 12_000, 20_000, 16  # below those that systems give out themselves
START_S, LOOK_S, LOOK_EVERY_S = 1800.0, 5.0, 0.25
LAST_LINES = 15


@dataclass(frozen=True, slots=True)
class Served:
    """What serves a model: the command before host and port, and what it calls the model.

    `path` is where the weights are, as the server tells it. `port` is fixed, or None: one is found by
    what is served, so that others find the same server.
    """

    command: tuple[str, ...]
    name: str
    path: str
    port: int | None
    environment: Mapping[str, str]


class ModelServer:
    """A server, of one teacher or of several that ask the same model.

    `share` is of a GPU's memory, on `gpus` or on all. Methods are for one event loop at a time.
    """

    started: ClassVar[list["ModelServer"]] = []  # by this process, running or idle
    _known: ClassVar[dict[str, "ModelServer"]] = {}  # by what they serve

    def __init__(
        self, served: Served, *, share: float, gpus: Sequence[int] | None, log: Path
    ) -> None:
        self.served, self.log = served, log
        self.share, self.gpus = share, gpus
        self.url: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._starting: asyncio.Task[None] | None = None

    @classmethod
    def of(
        cls, served: Served, *, share: float, gpus: Sequence[int] | None, log: Path
    ) -> "ModelServer":
        """The one server in this process that serves this."""
        key = content_key([served.command, served.name, served.path, served.port, gpus])
        if key not in cls._known:
            cls._known[key] = cls(served, share=share, gpus=gpus, log=log)
        return cls._known[key]

    @property
    def is_running(self) -> bool:
        """Whether it was started here and has not ended."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Returns when the model is served, at `url`. Raises CallError, class `server_died`.

        Of several that wait, one starts it; when that one is cancelled, so is the start.
        """
        if self._starting is None or self._starting.done():
            if self.is_running:
                return
            self._starting = asyncio.create_task(self._find_or_start())
            await self._starting
        else:
            await asyncio.shield(self._starting)

    async def _find_or_start(self) -> None:
        await asyncio.to_thread(self.stop)  # what died before
        self.url = None
        for port in self._ports():
            serves = await self._serves(port)
            if serves is None:
                await self._start(port)
            if serves is not False:
                self.url = _base(port)
                return
        place = f"port {self.served.port} is" if self.served.port else "all ports tried are"
        raise CallError(
            "server_died",
            f"the server of `{self.served.name}` was not started, since {place} taken by something "
            f"that does not serve {self.served.name}: end that, or give another `--port` in `args:`",
            fatal=True,
        )

    def stop(self) -> None:
        """Ends what was started here, and waits until it has; a server that was found stays."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(supervisor.GRACE_S + LOOK_S)
            self._process.kill()
        self._process = None
        if self in self.started:
            self.started.remove(self)

    def death(self) -> CallError | None:
        """What there is to say if it was started here and has ended by itself."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        lines = self._last_lines()
        cause = next((line.strip()[:200] for line in reversed(lines) if "Error" in line), "")
        told = "\n".join(f"  {line}" for line in lines)
        return CallError(
            "server_died",
            f"the server of `{self.served.name}` ended with exit code {code}"
            f"{f' ({cause})' if cause else ''}. The last lines of {self.log}:\n{told}",
            fatal=True,
            charged_usd=None,
        )

    async def _start(self, port: int) -> None:
        command = [*self.served.command, "--host", HOST, "--port", str(port)]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                [sys.executable, "-P", supervisor.__file__, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=dict(self.served.environment),
            )
        self.started.append(self)
        try:
            await self._until_it_serves(port)
        except BaseException:
            await asyncio.to_thread(self.stop)
            raise
        if not await asyncio.to_thread(_listens, self._process, port):
            await asyncio.to_thread(self.stop)  # somebody else's was faster, and serves the same

    async def _until_it_serves(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + START_S
        while not await self._serves(port):
            if (death := self.death()) is not None:
                raise death
            if loop.time() > until:
                raise CallError(
                    "server_died",
                    f"the server of `{self.served.name}` does not answer after {START_S / 60:.0f} "
                    f"minutes (its log: {self.log}): start it by hand, and give its `url:`",
                    fatal=True,
                )
            await asyncio.sleep(LOOK_EVERY_S)

    async def _serves(self, port: int) -> bool | None:
        """Whether what listens at a port serves the model; None where nothing listens."""
        client = Client(_base(port), {}, ca_file=None, max_body_bytes=2**20)
        try:
            async with asyncio.timeout(LOOK_S):
                response = await client.call("GET", "/models")
            models = json.loads(response.body)["data"] if response.status == 200 else []
            return any(self._is_it(model) for model in models)
        except CallError as error:
            return None if error.error_class == "connection_refused" else False
        except (TimeoutError, ValueError, KeyError, TypeError):
            return False
        finally:
            client.close()

    def _is_it(self, model: Mapping[str, object]) -> bool:
        return model["id"] == self.served.name and model.get("root") in (None, self.served.path)

    def _ports(self) -> Iterator[int]:
        if self.served.port is not None:
            yield self.served.port
            return
        served = self.served
        first = int(content_key([served.command, served.name, served.path])[:8], 16)
        for offset in range(CANDIDATES):
            yield FIRST_PORT + (first + offset) % PORTS

    def _last_lines(self) -> list[str]:
        lines = self.log.read_text("utf-8", errors="replace").splitlines()
        return [line for line in lines if line.strip()][-LAST_LINES:]


def _listens(process: "subprocess.Popen[bytes]", port: int) -> bool:
    """Whether a process, or one that it has started, is who listens at a port; True if nobody may say."""
    try:
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
        sockets = [socket for one in family for socket in one.net_connections("tcp")]
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return process.poll() is None
    return any(s.laddr and s.laddr.port == port and s.status == "LISTEN" for s in sockets)


def stop_servers() -> None:
    """Ends every server that this process has started."""
    for server in list(ModelServer.started):
        server.stop()


def _base(port: int) -> str:
    return f"http://{HOST}:{port}/v1"
