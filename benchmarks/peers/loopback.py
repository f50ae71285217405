"""A chat completion server on loopback with a fixed latency, in a process of its own.

    python -m benchmarks.peers.loopback --latency 0.1 [--faults 0.05]

Prints its base URL and serves until standard input ends; then prints, as JSON, how many prompts it answered
and how many of them more than once. With faults, that share of the prompts first meets one: 429 with 0.2 s,
503, a reset connection, broken JSON, an empty answer, or a body so slow that a deadline of 2 s passes.
"""

import argparse
import asyncio
import contextlib
import json
import sys
from collections import Counter
from hashlib import blake2b

from aiohttp import web

FAULTS = ("429", "503", "reset", "broken", "empty", "slow")


def completion(text: str) -> bytes:
    """A chat completion's body."""
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60},
        }
    ).encode()


ANSWER = completion("The quick brown fox jumps over the lazy dog. " * 4)
EMPTY = completion("")


class Server:
    """Answers every chat completion after `latency_s`."""

    def __init__(self, latency_s: float, faults: float) -> None:
        self.latency_s, self.faults = latency_s, faults
        self.answered: Counter[int] = Counter()  # by a hash of the body
        self._met: set[int] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One call."""
        mark = int.from_bytes(blake2b(await request.read(), digest_size=8).digest(), "big")
        await asyncio.sleep(self.latency_s)
        fault = self._fault(mark)
        if fault is not None and fault != "empty":
            return await self._fail(request, fault)
        self.answered[mark] += 1
        return _json(EMPTY if fault else ANSWER)

    def _fault(self, mark: int) -> str | None:
        if mark % 10_000 >= self.faults * 10_000 or mark in self._met:
            return None
        self._met.add(mark)
        return FAULTS[mark // 10_000 % len(FAULTS)]

    async def _fail(self, request: web.BaseRequest, fault: str) -> web.StreamResponse:
        if fault == "429":
            return web.Response(status=429, headers={"Retry-After": "0.2"})
        if fault == "503":
            return web.Response(status=503)
        if fault == "broken":
            return _json(b'{"choices": [{')
        if fault == "slow":
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            with contextlib.suppress(ConnectionResetError):  # the client's deadline has passed
                for _ in range(30):
                    await response.write(b" ")
                    await asyncio.sleep(0.1)
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


async def serve(latency_s: float, faults: float) -> None:
    """Serves on a free port until standard input ends."""
    server = Server(latency_s, faults)
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    twice = sum(count > 1 for count in server.answered.values())
    print(json.dumps({"answered": len(server.answered), "twice": twice}), flush=True)
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--faults", type=float, default=0.0)
    options = parser.parse_args()
    asyncio.run(serve(options.latency, options.faults))
