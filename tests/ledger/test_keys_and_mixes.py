"""Content keys and the mix format: the same content gives the same name and the same bytes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.keys import canonical_json, content_key, prompt_key, request_key, write_atomically
from ledger.mixes import (
    ORDER,
    MixDamaged,
    MixStage,
    order_schema,
    read_manifest,
    samples_schema,
    training_order,
    write_mix,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(), json_values))
def test_key_order_does_not_change_a_key(value: dict) -> None:
    assert content_key(value) == content_key(dict(reversed(value.items())))


def test_a_key_changes_with_whatever_can_change_the_answer() -> None:
    prompt = prompt_key([{"role": "user", "content": "hi"}])
    keys = {
        request_key(prompt, "t", {"temperature": 0.0}, 0),
        request_key(prompt, "t", {"temperature": 0.5}, 0),
        request_key(prompt, "t", {"temperature": 0.0}, 1),
        request_key(prompt, "u", {"temperature": 0.0}, 0),
    }
    assert len(keys) == 4
    assert prompt_key([{"role": "user", "content": "hi"}], []) == prompt


def test_nan_has_no_canonical_form() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_atomic_write_leaves_no_scratch_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "deep" / "file", b"x")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


def make_mix(folder: Path) -> None:
    chat = [[{"role": "user", "content": "q"}]] * 4
    samples = pa.table(
        {
            "sample": list("abcd"), "prompt_key": list("abcd"), "task": ["t"] * 4,
            "teacher": ["x"] * 4, "licence": ["MIT"] * 4, "prompt": chat, "completion": chat,
            "tools": [None] * 4, "tokens": [1, 2, 3, 4], "weight": [1.0] * 4,
        },
        schema=samples_schema(),
    )  # fmt: skip
    order = pa.table(
        {
            "position": range(6), "stage": ["s", "s", "s", "l", "l", "l"],
            "row": [2, 0, 1, 0, 3, 3], "repeat": [0, 0, 0, 1, 0, 1],
        },
        schema=order_schema(),
    )  # fmt: skip
    stages = [MixStage("s", 0, 3, "shuffled"), MixStage("l", 3, 6, "length")]
    write_mix(folder, samples, order, {"seed": 7}, stages, seed=7, unit="samples")


def test_training_order_passes_over_each_stage_in_turn(tmp_path: Path) -> None:
    make_mix(tmp_path)
    order = training_order(tmp_path, epochs=3)
    assert order.dtype == np.int32
    assert order.tolist()[:3] == [2, 0, 1]
    assert all(sorted(order[start : start + 3].tolist()) == [0, 1, 2] for start in (0, 3, 6))
    assert order.tolist()[9:] == [0, 3, 3] * 3
    assert read_manifest(tmp_path).tokens == 3 + 1 + 2 + 1 + 4 + 4


def test_a_mix_is_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_mix(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 4
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_an_altered_or_unfinished_mix_is_refused(tmp_path: Path) -> None:
    make_mix(tmp_path)
    (tmp_path / ORDER).write_bytes(b"")
    with pytest.raises(MixDamaged, match=ORDER):
        read_manifest(tmp_path)
    with pytest.raises(MixDamaged, match="never finished"):
        read_manifest(tmp_path / "absent")
