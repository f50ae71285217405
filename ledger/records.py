"""Files of a mix's top-k records: one for each teacher, one row a sample, beside the ledger.

    head = RecordsHead(TopKFormat(32, 49_152), vocabulary_key(tokenizer.get_vocab()), temperature=1.0)
    with writing_records(folder / "ann.parquet", head) as put:
        put(sample, "ann", data)                    # the sample's records, one for each trained token
    records = read_records(folder, head, scratch)   # raises RecordsMismatch
    ids, probabilities = records.decode([sample])   # (T, K) both

Record i of a sample is the teacher's distribution over the student's vocabulary for the trained token i, at
the file's temperature: a top-k record cannot be tempered afterwards. A file is complete or absent.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import InputError, LedgerDamaged
from ledger.keys import content_key, folder_hash
from ledger.topk import TopKFormat

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FILES = "*.parquet"
HEAD = b"tutelage"  # the key of a file's metadata
ROWS_AT_ONCE = 512


class RecordsMissing(InputError):
    """Samples are to be trained by a teacher's distributions that nobody captured."""


class RecordsMismatch(InputError):
    """A file of records was captured for another vocabulary, temperature or number of tokens."""


@dataclass(frozen=True, slots=True)
class RecordsHead:
    """What a file's records are over: their format, the vocabulary's key, the temperature."""

    format: TopKFormat
    vocabulary_key: str
    temperature: float


@dataclass(frozen=True, slots=True)
class Records:
    """A folder that is open for reading; its bytes stay on disk until they are asked for."""

    head: RecordsHead
    _rows: dict[str, int]
    _data: "pa.ChunkedArray"

    def __contains__(self, sample: str) -> bool:
        return sample in self._rows

    def tokens(self, sample: str) -> int:
        """How many tokens of the sample have a record (which may be empty)."""
        return len(self._bytes(sample)) // self.head.format.record.itemsize

    def decode(self, samples: Sequence[str]) -> "tuple[np.ndarray, np.ndarray]":
        """Ids (T, K) int64 and probabilities (T, K) float32 of the samples' tokens, one after another."""
        return self.head.format.decode(b"".join(self._bytes(sample) for sample in samples))

    def _bytes(self, sample: str) -> memoryview:
        return memoryview(self._data[self._rows[sample]].as_buffer())


def vocabulary_key(vocabulary: Mapping[str, int]) -> str:
    """Which vocabulary it is: the same for the same tokens at the same ids, whatever else differs."""
    return content_key(sorted(vocabulary.items()))


def records_key(folder: Path) -> str:
    """Which records a folder holds: a hash of its files."""
    return folder_hash(folder, [FILES])


def count_records(path: Path) -> dict[str, int]:
    """How many `tokens` a file's samples have, and how many of them are `covered` by a record that says
    something. Raises LedgerDamaged.
    """
    import numpy as np
    import pyarrow.parquet as pq

    tokens = covered = 0
    with _damage_named(path), pq.ParquetFile(path) as file:
        record = _head(file.schema_arrow).format.record
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=["records"]):
            for data in batch["records"]:
                highest = np.frombuffer(data.as_buffer(), record)["highest"]
                tokens, covered = tokens + len(highest), covered + int((highest > 0).sum())
    return {"tokens": tokens, "covered": covered}


@contextlib.contextmanager
def writing_records(path: Path, head: RecordsHead) -> Iterator[Callable[[str, str, bytes], None]]:
    """A function that puts down one sample's records. The file appears when the block ends well."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    waiting: list[dict[str, Any]] = []

    def put(sample: str, teacher: str, data: bytes) -> None:
        waiting.append({"sample": sample, "teacher": teacher, "records": data})
        if len(waiting) >= ROWS_AT_ONCE:
            flush()

    def flush() -> None:
        writer.write_table(pa.Table.from_pylist(waiting, schema))
        waiting.clear()

    schema = _schema(head)
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd", use_dictionary=False) as writer:
            yield put
            flush()
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_records(folder: Path, wanted: RecordsHead, scratch: Path) -> Records:
    """Opens a folder's files of records, by an uncompressed copy in `scratch` that memory maps.

    Raises RecordsMissing, RecordsMismatch, LedgerDamaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted(folder.glob(FILES))
    if not paths:
        raise RecordsMissing(
            f"{folder} holds no records: the teachers' distributions were not captured, or the files "
            "were deleted; `tutelage run` captures them again."
        )
    copy = scratch / "records.arrow"
    names: list[str] = []
    with pa.OSFile(str(copy), "wb") as sink, pa.ipc.new_file(sink, _schema(wanted)) as writer:
        for path in paths:
            with _damage_named(path), pq.ParquetFile(path) as file:
                _require_same(path, _head(file.schema_arrow), wanted)
                for batch in file.iter_batches(ROWS_AT_ONCE):
                    writer.write_batch(batch)
                    names += batch["sample"].to_pylist()
    table = pa.ipc.open_file(pa.memory_map(str(copy))).read_all()
    return Records(wanted, {name: row for row, name in enumerate(names)}, table["records"])


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, OSError, KeyError, TypeError) as error:
        raise LedgerDamaged(
            f"{path} cannot be read ({error}): delete it, and `tutelage run` captures it again."
        ) from error


def _schema(head: RecordsHead) -> "pa.Schema":
    import pyarrow as pa

    fields = [("sample", pa.string()), ("teacher", pa.string()), ("records", pa.large_binary())]
    return pa.schema(fields, metadata={HEAD: json.dumps(asdict(head)).encode()})


def _head(schema: "pa.Schema") -> RecordsHead:
    fields = json.loads(schema.metadata[HEAD])
    return RecordsHead(**{**fields, "format": TopKFormat(**fields["format"])})


def _require_same(path: Path, head: RecordsHead, wanted: RecordsHead) -> None:
    pairs = {
        "temperature": (head.temperature, wanted.temperature),
        "vocabulary": (head.vocabulary_key, wanted.vocabulary_key),
        "tokens a position": (head.format.k, wanted.format.k),
        "size of the vocabulary": (head.format.vocabulary, wanted.format.vocabulary),
    }
    for what, (is_so, should_be) in pairs.items():
        if is_so != should_be:
            raise RecordsMismatch(
                f"{path} was captured for another {what} ({is_so}) than the student is to be trained "
                f"with ({should_be}): such records cannot be converted; delete the file, and "
                "`tutelage run` captures them again."
            )
