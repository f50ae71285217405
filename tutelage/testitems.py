"""The test items of a run with what student, routed teacher and baseline answered, and what each got for it.

    write_items(folder, workspace, answered, routed)      # `evaluate` leaves them beside the report
    read_items(workspace)                                 # of a finished run, for whoever compares or gates

One Parquet file a run and state of its recipe, written whole or not at all.
"""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import InputError
from ledger.keys import write_atomically
from tutelage.workspace import BASELINE_NAME, STUDENT_NAME, Workspace, require_stage

if TYPE_CHECKING:
    from evals.scorers import Score
    from evals.summary import Sampled, Scored

ROLES = ("student", "teacher", "baseline")


@dataclass(frozen=True, slots=True)
class Given:
    """A model's answer to an item: its text, its score in 0..1, whether there was anything in it to grade."""

    answer: str
    score: float
    extracted: bool


@dataclass(frozen=True, slots=True)
class ExaminedItem:
    """One item; None where a model gave no answer. `teacher` is by the routed teacher, `routed`."""

    key: str  # the prompt's
    task: str
    prompt: str
    reference: str | None
    routed: str
    scorer: str
    cluster: str | None  # what `evaluate.cluster_by` says that it shares
    student: Given | None
    teacher: Given | None
    baseline: Given | None


def write_items(
    path: Path,
    workspace: Workspace,
    answers: "Mapping[tuple[str, str, int], Sampled]",
    scored: "Scored",
    routed: Mapping[str, Mapping[str, str]],
) -> None:
    """Puts all test items of a run into a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def given(key: str, task: str, model: str) -> dict[str, Any] | None:
        score: Score | None = scored[task].get(model, {}).get(key)
        if score is None:
            return None
        return asdict(Given(answers[key, model, 0].text, score.value, score.extracted))

    rows = []
    clusters, scorers = workspace.pools.clusters, workspace.scorer("evaluate")
    for item in workspace.pools.test:
        key, task = item.prompt.key, str(item.task)
        teacher = routed[task][key]
        rows.append(
            {
                "key": key,
                "task": task,
                "prompt": item.prompt.text,
                "reference": item.reference,
                "routed": teacher,
                "scorer": scorers[task],
                "cluster": clusters.get(key),
                "student": given(key, task, STUDENT_NAME),
                "teacher": given(key, task, teacher),
                "baseline": given(key, task, BASELINE_NAME),
            }
        )
    one = pa.struct({"answer": pa.string(), "score": pa.float64(), "extracted": pa.bool_()})
    texts = [each.name for each in fields(ExaminedItem) if each.name not in ROLES]
    schema = pa.schema({**dict.fromkeys(texts, pa.string()), **dict.fromkeys(ROLES, one)})
    written = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), written, compression="zstd")
    write_atomically(path, written.getvalue())


def read_items(workspace: Workspace) -> list[ExaminedItem]:
    """The test items of a run that came through `evaluate`. Raises InputError."""
    import pyarrow.parquet as pq

    require_stage(workspace, "evaluate")
    path = workspace.folder / workspace.outputs["evaluate"]["items"]
    try:
        rows = pq.read_table(path).to_pylist()
    except OSError as error:
        raise InputError(
            f"the test items of {workspace.folder} cannot be read ({path}: {error}): "
            f"`{workspace.loaded.command('run')}` writes them again."
        ) from error
    return [
        ExaminedItem(**row | {role: Given(**row[role]) if row[role] else None for role in ROLES})
        for row in rows
    ]
