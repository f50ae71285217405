"""HTTP/1.1 calls to one server, with little CPU: httptools parses, connections are used again.

A call takes 0.2 ms of CPU here where aiohttp's client takes 0.5 (`python -m benchmarks.generation`). It
does nothing by itself: no redirects, proxies, cookies, netrc or environment, and a call is sent once,
since whether it may be repeated is the engine's to say. TLS is checked. Every failure is a CallError.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httptools

from router.teachers.body import Body
from router.teachers.errors import CallError

MAX_HEADER_BYTES = 64 * 1024
Arrival = tuple[float, int]  # when so many bytes of a body were there


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response. Names of headers are in lower case; the body is unpacked."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """Connections to the server of `base_url`, as many as there are calls at once."""

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        *,
        ca_file: Path | None,
        max_body_bytes: int,
    ) -> None:
        """`ca_file` holds certificates to trust in place of the system's. Headers go with every call."""
        parts = urlsplit(base_url)
        assert parts.hostname is not None
        self._host, self._tls = parts.hostname, parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._path = parts.path.rstrip("/")
        own = {"Host": parts.netloc, "Accept-Encoding": "gzip", **headers}
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in own.items())
        self._ca_file, self._max_body_bytes = ca_file, max_body_bytes
        self._idle: list[_Connection] = []

    async def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        content_type: str = "application/json",
        arrivals: list[Arrival] | None = None,
    ) -> Response:
        """Sends one request to `path` below the base URL; `arrivals` is told of each piece of the body.

        Raises CallError where no response came.
        """
        connection = await self._connection()
        about = f"Content-Type: {content_type}\r\n" if body else ""
        head = (
            f"{method} {self._path}{path} HTTP/1.1\r\n{self._headers}{about}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        try:
            return await connection.send(head.encode("latin-1") + body, arrivals)
        finally:
            if connection.is_reusable:
                self._idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Closes the connections that are kept; the next call opens new ones."""
        while self._idle:
            self._idle.pop().close()

    async def _connection(self) -> "_Connection":
        while self._idle:
            if (connection := self._idle.pop()).is_reusable:
                return connection
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: _Connection(self._max_body_bytes),
                self._host,
                self._port,
                ssl=self._trust if self._tls else None,
            )
        except (OSError, UnicodeError) as error:
            raise connect_error(error) from error
        return connection

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:  # ssl's errors are some too
            raise CallError(
                "tls", f"`ca_file` {self._ca_file} holds no certificates: {error}", fatal=True
            ) from error


def connect_error(error: Exception) -> CallError:
    """The class of what kept a connection from coming about, and whether it passes."""
    if isinstance(error, socket.gaierror):
        return dns_error(error.errno, str(error))
    if isinstance(error, ssl.SSLError):
        told = getattr(error, "verify_message", "") or str(error)
        return CallError("tls", f"the server's certificate is not trusted: {told}", fatal=True)
    if isinstance(error, UnicodeError):
        return CallError("bad_url", f"the host of `url:` is not one: {error}", fatal=True)
    return CallError("connection_refused", f"no connection: {error}", transient=True)


def lost(told: str) -> CallError:
    """A connection that broke under a call, which may have been charged."""
    message = f"the connection broke: {told}"
    return CallError("connection_lost", message, transient=True, charged_usd=None)


def dns_error(errno: int | None, told: str) -> CallError:
    """A name that does not exist ends a teacher; one that was not resolved just now does not."""
    if errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)):
        return CallError("unknown_host", f"there is no such host: {told}", fatal=True)
    return CallError("dns", f"the host's name was not resolved: {told}", transient=True)


class _Connection(asyncio.Protocol):
    """One connection: one call at a time."""

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[Response] | None = None
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        self._body: Body | None = None
        self._arrivals: list[Arrival] | None = None
        self._stays_open = True

    @property
    def is_reusable(self) -> bool:
        """Whether the last response came whole, and the server keeps the connection open."""
        return (
            self._stays_open
            and self._transport is not None
            and not self._transport.is_closing()
            and not self._transport.get_write_buffer_size()  # it answered before it had read all
        )

    async def send(self, request: bytes, arrivals: list[Arrival] | None = None) -> Response:
        """Sends one request and waits for its response. Raises CallError."""
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._header_bytes, self._body = {}, 0, None
        self._stays_open, self._arrivals = False, arrivals
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._reply

    def close(self) -> None:
        """Lets go of the connection."""
        self._reply = None
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        if self._reply is None or self._reply.done():
            self.close()  # nobody asked for anything
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(_broken(error))

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None and self._ends_with_the_connection:
            self.on_message_complete()
        told = str(exc) if exc else "the server closed it"
        self._fail(lost(told))

    # What the parser calls. It loses what they raise, so they do not.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            self._fail(_broken("its headers are too long"))
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        try:
            self._body = Body(self._headers.get("content-encoding", ""), self._max_body_bytes)
        except CallError as error:
            self._fail(error)

    def on_body(self, data: bytes) -> None:
        if self._body is None or self._reply is None or self._reply.done():
            return
        try:
            self._body.feed(data)
        except CallError as error:
            self._fail(error)
            return
        if self._arrivals is not None:
            self._arrivals.append((time.perf_counter(), self._body.size))

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # only a word in between
            self._headers, self._body = {}, None
            return
        if self._reply is not None and not self._reply.done() and self._body is not None:
            self._stays_open = self._parser.should_keep_alive()
            self._reply.set_result(Response(status, self._headers, self._body.whole()))

    @property
    def _ends_with_the_connection(self) -> bool:
        """Whether nothing but the connection's end says where the body ends."""
        lengths = self._headers.keys() & {"content-length", "transfer-encoding"}
        return self._body is not None and not lengths

    def _fail(self, error: CallError) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)
        if self._transport is not None:
            self._transport.abort()


def _broken(told: object) -> CallError:
    return CallError(
        "broken_http",
        f"the server's answer is not HTTP: {told}",
        transient=True,
        state="invalid",
        charged_usd=None,
    )
