"""LiteLLM's Router as a user would call it: `acompletion` to one deployment, answers kept in memory.

    python -m benchmarks.peers.litellm --url http://127.0.0.1:8000/v1 --requests 1000

Wall is from the first send to the last answer.
"""

import asyncio
from pathlib import Path

from benchmarks.peers.measure import IN_FLIGHT, MAX_TOKENS, Meter, main, prompts

SETTINGS = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def run(url: str, count: int, folder: Path) -> dict[str, float]:
    """A semaphore of `IN_FLIGHT` around `acompletion`."""
    from litellm import Router

    deployment = {"model": "openai/m", "api_base": url, "api_key": "none"}
    router = Router(model_list=[{"model_name": "m", "litellm_params": deployment}])

    async def ask() -> list[str]:
        free = asyncio.Semaphore(IN_FLIGHT)

        async def one(prompt: str) -> str:
            messages = [{"role": "user", "content": prompt}]
            async with free:
                done = await router.acompletion("m", messages, max_tokens=MAX_TOKENS)
            return str(done.choices[0].message.content)

        return await asyncio.gather(*(one(prompt) for prompt in prompts(count)))

    meter = Meter()
    answers = asyncio.run(ask())
    found = meter.read()
    assert len(list(filter(None, answers))) == count
    return found


if __name__ == "__main__":
    main(run, SETTINGS)
