"""Files of top-k records: what comes back is what went in, and files for something else are refused."""

from pathlib import Path

import numpy as np
import pytest

from ledger.errors import LedgerDamaged
from ledger.records import (
    RecordsHead,
    RecordsMismatch,
    RecordsMissing,
    count_records,
    read_records,
    vocabulary_key,
    writing_records,
)
from ledger.topk import TopKFormat

HEAD = RecordsHead(TopKFormat(4, 90), vocabulary_key({"a": 0, "b": 1}), 1.0)


def records(tokens: int, seed: int = 0) -> bytes:
    """Random ones for so many tokens."""
    draw = np.random.default_rng(seed)
    ids = draw.permuted(np.tile(np.arange(90), (tokens, 1)), axis=1)[:, :4]
    return HEAD.format.encode(ids, draw.dirichlet(np.ones(5), tokens)[:, :4])


def write(path: Path, count: int = 1_200) -> dict[str, bytes]:
    """A file of so many samples."""
    samples = {f"s{i}": records(i % 5, i) for i in range(count)}
    with writing_records(path, HEAD) as put:
        for name, data in samples.items():
            put(name, "ann", data)
    return samples


def test_what_comes_back_is_what_went_in(tmp_path: Path) -> None:
    samples = write(tmp_path / "deep" / "records.parquet")
    found = read_records(tmp_path / "deep", HEAD, tmp_path)
    assert all(name in found for name in samples)
    assert "s7" in found
    assert "t" not in found
    assert [found.tokens(name) for name in ("s0", "s1", "s1199")] == [0, 1, 4]
    ids, probabilities = found.decode(["s1199", "s0", "s513"])
    expected = HEAD.format.decode(samples["s1199"] + samples["s513"])
    assert (ids == expected[0]).all()
    assert (probabilities == expected[1]).all()


def test_tokens_without_a_record_are_counted_apart(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    with writing_records(path, HEAD) as put:
        put("s", "ann", records(3) + bytes(2 * HEAD.format.record.itemsize))
        put("t", "ann", b"")
    assert count_records(path) == {"tokens": 5, "covered": 3}


def test_a_file_is_complete_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"

    def stopped() -> None:
        with writing_records(path, HEAD) as put:
            put("s", "ann", records(3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not list(tmp_path.iterdir())
    with pytest.raises(RecordsMissing, match=r"holds no records.*tutelage run"):
        read_records(tmp_path, HEAD, tmp_path)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (RecordsHead(HEAD.format, HEAD.vocabulary_key, 2.0), r"temperature \(1.0\).*\(2.0\)"),
        (RecordsHead(HEAD.format, vocabulary_key({"a": 1, "b": 0}), 1.0), "another vocabulary"),
        (RecordsHead(TopKFormat(8, 90), HEAD.vocabulary_key, 1.0), r"tokens a position \(4\)"),
    ],
)
def test_files_for_something_else_are_refused(
    tmp_path: Path, other: RecordsHead, told: str
) -> None:
    write(tmp_path / "records.parquet", 3)
    with pytest.raises(RecordsMismatch, match=told):
        read_records(tmp_path, other, tmp_path)


@pytest.mark.parametrize("keep", [0, 100, -8])
def test_a_torn_file_says_so(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "records.parquet"
    write(path, 10)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(LedgerDamaged, match="delete it"):
        read_records(tmp_path, HEAD, tmp_path)
