"""Bespoke Curator's LLM over its own OpenAI client: rows in, a dataset on disk out.

    python -m benchmarks.peers.curator --url http://127.0.0.1:8000/v1 --requests 1000

Wall is that of the call with the rows: when it returns, the answers lie in a JSONL file, which got each as
it came, and in an Arrow file. Its limits per minute are set out of the way.
"""

import importlib.util
import os
from pathlib import Path

from benchmarks.peers.measure import IN_FLIGHT, MAX_TOKENS, Meter, main, prompts

UNLIMITED = 1_000_000_000
SETTINGS = {
    "CURATOR_VIEWER": "0",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "TELEMETRY_ENABLED": "False",
}


def run(url: str, count: int, folder: Path) -> dict[str, float]:
    """One call of an `LLM` with all prompts."""
    os.environ["CURATOR_CACHE_DIR"] = str(folder)
    os.environ["TIKTOKEN_CACHE_DIR"] = tokenizers_of_litellm()
    from bespokelabs.curator import LLM

    llm = LLM(
        model_name="m",
        backend="openai",
        generation_params={"max_tokens": MAX_TOKENS},
        backend_params={
            "base_url": url,
            "api_key": "none",
            "max_concurrent_requests": IN_FLIGHT,
            "max_requests_per_minute": UNLIMITED,
            "max_tokens_per_minute": UNLIMITED,
        },
    )
    meter = Meter()
    answers = llm(prompts(count)).dataset
    found = meter.read()
    assert len(list(filter(None, answers["response"]))) == count
    return found


def tokenizers_of_litellm() -> str:
    """Where the encoding lies that tiktoken would download."""
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "litellm_core_utils" / "tokenizers")


if __name__ == "__main__":
    main(run, SETTINGS)
