"""A chat completion server on loopback with a fixed latency, in a process of its own.

    python -m benchmarks.loopback --latency 0.1 [--faults 0.05]

Prints its base URL and serves until standard input ends. With faults, that share of calls fails in
turn by 429 with 0.2 s, 503, a reset connection, broken JSON, an empty answer, and a body so slow that
a deadline of 2 s passes.
"""

import argparse
import asyncio
import json
import sys
import zlib

from aiohttp import web

ANSWER = "The quick brown fox jumps over the lazy dog. " * 4
FAULTS = ("429", "503", "reset", "broken", "empty", "slow")


class Server:
    """Answers every chat completion after `latency_s`."""

    def __init__(self, latency_s: float, faults: float) -> None:
        self.latency_s, self.faults = latency_s, faults
        self._seen: dict[int, int] = {}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One call."""
        data = await request.read()
        fault = self._fault(data)
        await asyncio.sleep(self.latency_s)
        if fault is None:
            return _completion(ANSWER)
        return await getattr(self, f"_{fault}")(request)

    def _fault(self, data: bytes) -> str | None:
        """Which fault a call meets: the first asking of a share of the prompts, by their hash."""
        if not self.faults:
            return None
        mark = zlib.crc32(data)
        times = self._seen.get(mark, 0)
        self._seen[mark] = times + 1
        if times or mark % 10_000 >= self.faults * 10_000:
            return None
        return FAULTS[mark // 10_000 % len(FAULTS)]

    async def _429(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "0.2"}, text="{}")

    async def _503(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=503, text="{}")

    async def _reset(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _broken(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text='{"choices": [{', content_type="application/json")

    async def _empty(self, request: web.BaseRequest) -> web.StreamResponse:
        return _completion("")

    async def _slow(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for _ in range(40):
            await response.write(b" ")
            await asyncio.sleep(0.1)
        return response


def _completion(text: str) -> web.Response:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60},
    }
    return web.Response(body=json.dumps(body).encode(), content_type="application/json")


async def serve(latency_s: float, faults: float) -> None:
    """Serves on a free port until standard input ends."""
    runner = web.ServerRunner(web.Server(Server(latency_s, faults).handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--faults", type=float, default=0.0)
    options = parser.parse_args()
    asyncio.run(serve(options.latency, options.faults))
