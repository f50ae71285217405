"""The format of a mix, which the mixer writes and the trainer reads.

A mix is a folder: `samples.parquet` (distinct samples), `order.parquet` (the ordered multiset),
`lock.json` (what it stands on) and `manifest.json`, written last, so that its presence means the
rest is complete. Nothing in it depends on when or where it was made.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import TutelageError
from ledger.keys import content_key, file_hash, write_atomically

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SAMPLES, ORDER, LOCK, MANIFEST = "samples.parquet", "order.parquet", "lock.json", "manifest.json"


class MixDamaged(TutelageError):
    """A mix folder is incomplete, or its files are not those that its manifest names."""


@dataclass(frozen=True, slots=True)
class MixStage:
    """One stage of the curriculum: positions [start, stop) of the order."""

    name: str
    start: int
    stop: int
    order: str  # "shuffled" or "length"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a mix holds. `samples` counts positions (repeats included), `tokens` likewise."""

    stages: tuple[MixStage, ...]
    seed: int
    unit: str
    samples: int
    distinct: int
    tokens: int
    plan_sha: str
    lock_sha: str
    files: dict[str, str]


def samples_schema() -> "pa.Schema":
    """Columns of `samples.parquet`; `prompt` and `completion` are as TRL reads them, `weight` multiplies a
    sample's loss.
    """
    import pyarrow as pa

    chat = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    texts = [(name, pa.string()) for name in ("sample", "prompt_key", "task", "teacher", "licence")]
    return pa.schema(
        [
            *texts,
            ("prompt", chat),
            ("completion", chat),
            ("tools", pa.string()),
            ("tokens", pa.int32()),
            ("weight", pa.float32()),
        ]
    )


def order_schema() -> "pa.Schema":
    """Columns of `order.parquet`; `row` points into `samples.parquet`, `repeat` counts from 0."""
    import pyarrow as pa

    return pa.schema(
        [
            ("position", pa.int32()),
            ("stage", pa.string()),
            ("row", pa.int32()),
            ("repeat", pa.int16()),
        ]
    )


def write_mix(
    folder: Path,
    samples: "pa.Table",
    order: "pa.Table",
    lock: dict[str, Any],
    stages: Sequence[MixStage],
    *,
    seed: int,
    unit: str,
) -> Manifest:
    """Writes a mix, its manifest last. The same arguments give the same bytes.

    `lock` is stored with the content hashes of both tables and `plan_sha` (a key over stages, order
    and the samples' keys) added to it.
    """
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for name, table, schema in (
        (SAMPLES, samples, samples_schema()),
        (ORDER, order, order_schema()),
    ):
        pq.write_table(table.cast(schema), folder / name, compression="zstd")
    files = {name: file_hash(folder / name) for name in (SAMPLES, ORDER)}
    plan_sha = content_key(
        [samples["sample"].to_pylist(), order["row"].to_pylist(), [asdict(s) for s in stages], seed]
    )
    text = _json({**lock, "files": files, "plan_sha": plan_sha})
    write_atomically(folder / LOCK, text)
    tokens = samples["tokens"].take(order["row"])
    manifest = Manifest(
        stages=tuple(stages),
        seed=seed,
        unit=unit,
        samples=order.num_rows,
        distinct=samples.num_rows,
        tokens=sum(tokens.to_pylist()),
        plan_sha=plan_sha,
        lock_sha=hashlib.sha256(text).hexdigest(),
        files=files,
    )
    write_atomically(folder / MANIFEST, _json(asdict(manifest)))
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a complete mix. Raises MixDamaged where files are missing or altered."""
    path = folder / MANIFEST
    if not path.is_file():
        raise MixDamaged(f"{folder} holds no {MANIFEST}: the mix was never finished; run again.")
    fields = json.loads(path.read_text("utf-8"))
    fields["stages"] = tuple(MixStage(**stage) for stage in fields["stages"])
    manifest = Manifest(**fields)
    for name, digest in manifest.files.items():
        if not (folder / name).is_file() or file_hash(folder / name) != digest:
            raise MixDamaged(
                f"{folder / name} is not the file that {MANIFEST} names (SHA-256 {digest}); "
                f"delete {folder} and run again."
            )
    return manifest


def training_order(folder: Path, epochs: int) -> "np.ndarray":
    """Rows of `samples.parquet` in the order of training, (epochs x samples,) int32.

    Each stage in turn is passed over `epochs` times, so a stage that ends at 0.3 of the mix ends at
    0.3 of the training. Every pass of a shuffled stage has an order of its own, which depends on the
    plan, the stage and the pass alone; a stage ordered by length keeps its order.
    """
    import numpy as np
    import pyarrow.parquet as pq

    manifest = read_manifest(folder)
    rows = np.array(pq.read_table(folder / ORDER, columns=["row"])["row"])
    passes = []
    for stage in manifest.stages:
        members = rows[stage.start : stage.stop]
        for number in range(epochs):
            if stage.order == "shuffled" and number > 0:
                seed = int(content_key([manifest.plan_sha, stage.name, number]), 16)
                passes.append(np.random.default_rng(seed).permutation(members))
            else:
                passes.append(members)
    return np.concatenate(passes).astype(np.int32) if passes else np.empty(0, np.int32)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
