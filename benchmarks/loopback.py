"""A chat completion server on loopback with a fixed latency, in a process of its own.

    python -m benchmarks.loopback --latency 0.1

Prints its base URL and serves until standard input ends.
"""

import argparse
import asyncio
import json
import sys

from aiohttp import web

ANSWER = "The quick brown fox jumps over the lazy dog. " * 4
MESSAGE = {"role": "assistant", "content": ANSWER}
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60},
}
BODY = json.dumps(COMPLETION).encode()


async def serve(latency_s: float) -> None:
    """Serves on a free port until standard input ends."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        await asyncio.sleep(latency_s)
        return web.Response(body=BODY, content_type="application/json")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.1)
    asyncio.run(serve(parser.parse_args().latency))
