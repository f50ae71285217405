"""The ledger's tables: narrow rows apart from wide text, and rows that refer to each other by id.

A row is put as a dict whose references are content keys; folding turns them into BIGINT ids. Every
table also has `id` (its row number) and `batch` (the fold that brought the row).
"""

from dataclasses import dataclass

SCHEMA_VERSION = 4


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its DuckDB type, and the table whose `key` it refers to, if any."""

    name: str
    type: str
    refers_to: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table. A row whose `unique` columns are there already is skipped; `wide` ones are not hashed."""

    name: str
    columns: tuple[Column, ...]
    unique: tuple[str, ...] = ()
    wide: bool = False

    def ddl(self) -> str:
        """The statement that creates the table."""
        columns = ", ".join(f'"{column.name}" {column.type}' for column in self.columns)
        return f"CREATE TABLE IF NOT EXISTS {self.name} (id BIGINT, batch BIGINT, {columns})"


def _table(name: str, columns: str, unique: str = "", wide: bool = False) -> Table:
    """Reads `columns` such as "key, prompt>prompt, n BIGINT"; a bare name is VARCHAR."""
    parsed = []
    for entry in columns.split(","):
        word, _, type_ = entry.strip().partition(" ")
        column, _, target = word.partition(">")
        parsed.append(Column(column, "BIGINT" if target else type_ or "VARCHAR", target or None))
    return Table(name, tuple(parsed), tuple(unique.split()), wide)


# Order matters: a table stands after those that it refers to.
TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        _table("prompt", "key, source, chars BIGINT", "key"),
        _table("prompt_text", "prompt>prompt, messages, tools, json_schema", "prompt", wide=True),
        _table("embedding", "prompt>prompt, model, vector FLOAT[]", "prompt model", wide=True),
        _table("licence", "kind, subject, licence, recorded_at TIMESTAMP"),
        _table(
            "label",
            "prompt>prompt, classifier, task, probability DOUBLE, novel BOOLEAN",
            "prompt classifier",
        ),
        _table("teacher", "key, name, kind, model, revision, settings", "key"),
        _table(
            "provider_batch",
            "key, teacher>teacher, state, file, provider_id, requests, sampling, stage, run, "
            "recorded_at TIMESTAMP",
        ),
        _table(
            "request",
            "key, prompt>prompt, teacher>teacher, task, n BIGINT, sampling, max_tokens BIGINT, "
            "top_logprobs BIGINT, state, reason, error_class, attempts BIGINT, queued_at TIMESTAMP, "
            "started_at TIMESTAMP, ended_at TIMESTAMP, prompt_tokens BIGINT, "
            "completion_tokens BIGINT, cost_usd DOUBLE, price_source, stage, run",
        ),
        _table(
            "sample",
            "key, request>request, prompt>prompt, teacher>teacher, model, text_sha, finish_reason, "
            "completion_tokens BIGINT, recorded_at TIMESTAMP",
            "key",
        ),
        _table(
            "sample_text", "sample>sample, text, reasoning, tool_calls, raw", "sample", wide=True
        ),
        _table(
            "score",
            "sample>sample, scorer, reference_sha, value DOUBLE, extracted BOOLEAN, recorded_at TIMESTAMP",
            "sample scorer reference_sha",
        ),
        _table(
            "route",
            "key, run, task, prompt>prompt, teacher>teacher, runner_up, policy, reason, evidence, "
            "recorded_at TIMESTAMP",
            "key task prompt",
        ),
        _table("flag", "sample>sample, mix, filter, detail", "sample mix filter"),
        _table(
            "mix",
            "key, run, path, lock_sha, plan_sha, samples BIGINT, tokens BIGINT, recorded_at TIMESTAMP",
            "key",
        ),
        _table(
            "mix_member",
            "mix>mix, stage, position BIGINT, sample>sample, repeat BIGINT",
            "mix position",
        ),
        _table(
            "stage",
            "run, name, inputs, output, started_at TIMESTAMP, ended_at TIMESTAMP, seconds DOUBLE",
        ),
        _table(
            "student_run",
            "key, run, mix>mix, base, settings, path, weights_sha, started_at TIMESTAMP, "
            "ended_at TIMESTAMP, seconds DOUBLE",
            "key",
        ),
        _table(
            "consumed",
            "student_run>student_run, sample>sample, times BIGINT",
            "student_run sample",
        ),
        _table(
            "evaluation",
            "key, run, task, model, role, mean DOUBLE, lo DOUBLE, hi DOUBLE, n BIGINT, detail, "
            "recorded_at TIMESTAMP",
            "key task model",
        ),
    )
}

BATCH_DDL = (
    "CREATE TABLE IF NOT EXISTS batch "
    "(sequence BIGINT, rows BIGINT, hash VARCHAR, inbox_seq BIGINT, recorded_at TIMESTAMP)"
)
META_DDL = "CREATE TABLE meta (schema_version BIGINT)"
