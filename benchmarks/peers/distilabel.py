"""Distilabel's pipeline of two steps: rows, and text generation by its client for OpenAI's API.

    python -m benchmarks.peers.distilabel --url http://127.0.0.1:8000/v1 --requests 1000

Wall is that of the pipeline's run, which starts a process a step and sends a batch's calls together: a
batch holds as many as may be in flight. When it returns, the answers lie in Parquet files. Its cache is off.
"""

import logging
from pathlib import Path

from benchmarks.peers.measure import IN_FLIGHT, MAX_TOKENS, Meter, main, prompts

SETTINGS = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def run(url: str, count: int, folder: Path) -> dict[str, float]:
    """One run of the pipeline."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    # Distilabel silences httpx; openai 3 uses httpx2, which would log a line for every call.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    rows = [{"instruction": prompt} for prompt in prompts(count)]
    settings = {"max_new_tokens": MAX_TOKENS}
    with Pipeline(name="benchmark", cache_dir=folder / "pipelines") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=IN_FLIGHT)
        llm = OpenAILLM(model="m", base_url=url, api_key="none", generation_kwargs=settings)
        load >> TextGeneration(llm=llm, input_batch_size=IN_FLIGHT)
    meter = Meter()
    answers = pipeline.run(use_cache=False)["default"]["train"]
    found = meter.read()
    assert len(list(filter(None, answers["generation"]))) == count
    return found


if __name__ == "__main__":
    main(run, SETTINGS)
