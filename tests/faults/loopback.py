"""What the suite's servers share: an aiohttp application on loopback, in a thread of its own."""

import asyncio
import ssl
import threading
from pathlib import Path
from typing import Self

from aiohttp import web

CERTIFICATES = Path(__file__).parent / "certificates"


class LoopbackServer:
    """Serves `routes` while it is entered.

    `certificate`, a name in tests/faults/certificates, makes it https on localhost.
    """

    def __init__(self, port: int = 0, certificate: str | None = None) -> None:
        self.port, self.certificate = port, certificate

    def routes(self) -> list[web.RouteDef]:
        """What it answers."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Base URL."""
        host = "https://localhost" if self.certificate else "http://127.0.0.1"
        return f"{host}:{self.port}/v1"

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._start())
            started.set()
            self._loop.run_forever()
            self._loop.run_until_complete(self._runner.cleanup())
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.close()

        self._thread = threading.Thread(target=run, name="loopback-server")
        self._thread.start()
        started.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _start(self) -> None:
        app = web.Application(client_max_size=64 * 2**20)
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        trust = None
        if self.certificate:
            trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            trust.load_cert_chain(CERTIFICATES / f"{self.certificate}.pem")
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=trust)
        await site.start()
        self.port = self._runner.addresses[0][1]
