"""The one httpx client that LiteLLM may use: no redirects, no proxies, capped bodies, no repeats.

What really passed over the wire is kept beside the call, since LiteLLM renames errors (a 429 may
come out as a connection error) and fills in what an answer lacks (a finish reason).
"""

from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, field

import httpx

from router.teachers.body import Body
from router.teachers.secrets import Secret

KEY_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


@dataclass(slots=True)
class Wire:
    """What one call sent and got: the last response, or the error in its place."""

    status: int | None = None
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    body: Body | None = None
    error: Exception | None = None
    failed_urls: set[str] = field(default_factory=set)
    secrets: list[Secret] = field(default_factory=list)

    def strike(self, text: str) -> str:
        """`text` without the keys that were sent."""
        for secret in self.secrets:
            text = secret.strike(text)
        return text


WIRE: ContextVar[Wire | None] = ContextVar("wire", default=None)


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends requests and watches over what comes back."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self._inner = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        wire = WIRE.get() or Wire()
        if str(request.url) in wire.failed_urls:
            # LiteLLM sends again by itself after some errors; retries are the engine's.
            raise httpx.ConnectError("not repeated", request=request)
        request.headers["Accept-Encoding"] = "gzip"
        wire.secrets += _secrets(request)
        try:
            response = await self._inner.handle_async_request(request)
        except httpx.HTTPError as error:
            wire.error = error
            wire.failed_urls.add(str(request.url))
            raise
        headers = httpx.Headers(response.headers)
        wire.status, wire.headers = response.status_code, headers.copy()
        wire.body = Body(headers.pop("Content-Encoding", ""))
        headers.pop("Content-Length", None)
        headers.pop("Location", None)  # nothing can be followed
        assert isinstance(response.stream, httpx.AsyncByteStream)
        return httpx.Response(
            response.status_code,
            headers=headers,
            stream=_Capped(response.stream, wire, str(request.url)),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Capped(httpx.AsyncByteStream):
    """A response's body, unpacked and counted."""

    def __init__(self, stream: httpx.AsyncByteStream, wire: Wire, url: str) -> None:
        self._stream, self._wire, self._url = stream, wire, url

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert self._wire.body is not None
        try:
            async for chunk in self._stream:
                yield self._wire.body.feed(chunk)
        except Exception as error:
            self._wire.error = error
            self._wire.failed_urls.add(self._url)
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()


def guarded_client() -> httpx.AsyncClient:
    """A client over the guarded transport, without time limits of its own (the engine has one)."""
    return httpx.AsyncClient(
        transport=GuardedTransport(), timeout=None, follow_redirects=False, trust_env=False
    )


def _secrets(request: httpx.Request) -> list[Secret]:
    values = [request.headers[name] for name in KEY_HEADERS if name in request.headers]
    return [Secret(value.removeprefix("Bearer ").strip()) for value in values]
