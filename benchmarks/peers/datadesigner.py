"""NeMo Data Designer: a seed dataset of prompts, and one column that a model writes.

    python -m benchmarks.peers.datadesigner --url http://127.0.0.1:8000/v1 --requests 1000

Wall is that of `create`: when it returns, the answers lie in Parquet files and are profiled.
"""

from pathlib import Path

from benchmarks.peers.measure import IN_FLIGHT, MAX_TOKENS, Meter, main, prompts

SETTINGS = {
    "NEMO_TELEMETRY_ENABLED": "false",
    # The profile would count tokens with an encoding from the internet; without, it leaves them out.
    "https_proxy": "http://127.0.0.1:9",
}


def run(url: str, count: int, folder: Path) -> dict[str, float]:
    """One dataset of one column."""
    import data_designer.config as dd
    import pandas
    from data_designer.interface import DataDesigner

    provider = dd.ModelProvider(name="loopback", endpoint=url, api_key="none")
    designer = DataDesigner(artifact_path=folder, model_providers=[provider])
    designer.set_run_config(dd.RunConfig(otel_metrics_port=None))
    settings = dd.ChatCompletionInferenceParams(
        max_tokens=MAX_TOKENS, max_parallel_requests=IN_FLIGHT
    )
    model = dd.ModelConfig(
        alias="m", model="m", provider="loopback", inference_parameters=settings,
        skip_health_check=True,
    )  # fmt: skip
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    rows = pandas.DataFrame({"text": prompts(count)})
    builder.with_seed_dataset(dd.DataFrameSeedSource(df=rows))
    column = dd.LLMTextColumnConfig(name="answer", prompt="{{ text }}", model_alias="m")
    builder.add_column(column)
    meter = Meter()
    made = designer.create(builder, num_records=count)
    found = meter.read()
    answers = made.load_dataset()
    assert len(list(filter(None, answers["answer"]))) == count
    assert answers["text"].nunique() == count
    return found


if __name__ == "__main__":
    main(run, SETTINGS)
