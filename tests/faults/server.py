"""An OpenAI-compatible server on loopback that misbehaves as it is told; it runs in a thread.

    with FaultServer() as server:
        server.script(status(429, {"Retry-After": "2"}), content(None))    # then well-behaved

By hand, `python -m tests.faults.server 8080`: a prompt that begins with the name of a fault in square
brackets, such as `[429 Retry-After=2]` or `[reset]`, meets it; every other one is answered.
"""

import asyncio
import gzip
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.faults.loopback import LoopbackServer

MODEL = "m"


@dataclass(slots=True)
class Call:
    """One request that reached the server."""

    at: float  # monotonic
    prompt: str
    body: dict[str, Any]
    headers: dict[str, str]
    path: str
    answered_at: float | None = None


Reply = Callable[[web.Request, Call], Awaitable[web.StreamResponse]]


def completion(text: Any, finish: Any = "stop", model: Any = MODEL, **more: Any) -> dict[str, Any]:
    """A chat completion of 10 prompt and 5 answer tokens."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": finish,
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        **more,
    }


def payload(value: Any) -> Reply:
    """Status 200 with this JSON."""
    return body(json.dumps(value).encode())


def content(text: Any, finish: Any = "stop", **more: Any) -> Reply:
    """A completion with this content."""
    return payload(completion(text, finish, **more))


def body(
    data: bytes, status: int = 200, headers: dict[str, str] | None = None, type_: str = "json"
) -> Reply:
    """These very bytes."""

    async def reply(request: web.Request, call: Call) -> web.StreamResponse:
        return web.Response(
            body=data, status=status, headers=headers, content_type=f"application/{type_}"
        )

    return reply


def status(code: int, headers: dict[str, str] | None = None, told: str = "no") -> Reply:
    """An error with a JSON body."""
    return body(json.dumps({"error": {"message": told}}).encode(), code, headers)


def zipped(data: bytes) -> Reply:
    """These bytes, gzipped."""
    return body(gzip.compress(data), headers={"Content-Encoding": "gzip"})


async def reset(request: web.Request, call: Call) -> web.StreamResponse:
    """Breaks the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def dripping(seconds: float) -> Reply:
    """A good answer, a byte at a time."""

    async def reply(request: web.Request, call: Call) -> web.StreamResponse:
        data = json.dumps(completion("slow")).encode()
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for byte in data:
            await response.write(bytes([byte]))
            await asyncio.sleep(seconds / len(data))
        return response

    return reply


def silent(seconds: float) -> Reply:
    """Nothing for a while."""

    async def reply(request: web.Request, call: Call) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.json_response(completion("late"))

    return reply


def always(reply: Reply | None) -> Callable[[Call], Reply | None]:
    """A rule that gives every request the same reply."""
    return lambda call: reply


class FaultServer(LoopbackServer):
    """The server. `rule(call)` may choose a reply per request, before the script."""

    def __init__(
        self,
        delay_s: float = 0.0,
        rule: Callable[[Call], Reply | None] | None = None,
        port: int = 0,
        certificate: str | None = None,
    ) -> None:
        super().__init__(port, certificate)
        self.delay_s, self.rule = delay_s, rule
        self.calls: list[Call] = []
        self._script: deque[Reply] = deque()

    def script(self, *replies: Reply) -> None:
        """The next replies, in the order in which requests arrive."""
        self._script.extend(replies)

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/{path:.*}", self._handle)]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        sent = await request.json()
        prompt = sent["messages"][-1]["content"]
        call = Call(time.monotonic(), prompt, sent, dict(request.headers), request.path)
        self.calls.append(call)
        reply = self.rule(call) if self.rule else None
        if reply is None and self._script:
            reply = self._script.popleft()
        if reply is not None:
            return await reply(request, call)
        await asyncio.sleep(self.delay_s)
        call.answered_at = time.monotonic()
        return web.json_response(completion(f"echo {prompt}"))


BY_NAME: dict[str, Reply] = {
    "reset": reset,
    "silent": silent(3600),
    "drip": dripping(3600),
    "empty": content(""),
    "null": content(None),
    "truncated": content("cut", "length"),
    "html": body(b"<html>", type_="html"),
    "broken": body(b'{"choices": ['),
    "other-model": content("x", model="other"),
}


def by_name(call: Call) -> Reply | None:
    """The fault that a prompt names: `[reset] …`, `[503] …`, `[429 Retry-After=2] …`."""
    if not call.prompt.startswith("["):
        return None
    name, *headers = call.prompt[1:].partition("]")[0].split()
    if name.isdecimal():
        return status(int(name), dict(header.split("=", 1) for header in headers))
    return BY_NAME.get(name)


if __name__ == "__main__":
    with FaultServer(port=int(sys.argv[1]), rule=by_name) as server:
        print(server.url, flush=True)
        threading.Event().wait()
