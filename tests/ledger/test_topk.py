"""Top-k records come back as they were put, to the precision that they promise, or are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import LedgerDamaged
from ledger.topk import NoDistribution, TopKFormat


def distributions(rows: int, vocabulary: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, vocabulary)) * rng.uniform(0.1, 6, (rows, 1))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    ids = np.argsort(-p, axis=1)[:, :k]
    return ids, np.take_along_axis(p, ids, axis=1)


def test_a_position_takes_three_bytes_a_token_and_two() -> None:
    ids, p = distributions(5, 100, 32, 0)
    assert len(TopKFormat(32, 49_152).encode(ids, p)) == 5 * 98
    assert len(TopKFormat(32, 151_936).encode(ids, p)) == 5 * 162


@given(st.integers(1, 40), st.sampled_from([50, 65_537]), st.integers(0, 10_000))
def test_probabilities_come_back_to_a_step_of_their_root(
    k: int, vocabulary: int, seed: int
) -> None:
    ids, p = distributions(4, 50, k, seed)
    format_ = TopKFormat(40, vocabulary)
    got_ids, got = format_.decode(format_.encode(ids, p))
    assert (got_ids[:, :k] == ids).all()
    assert (got[:, k:] == 0).all()
    assert got.sum(axis=1).max() <= 1 + 1e-6
    roots = np.sqrt(got[:, :k] / p.max(axis=1, keepdims=True))
    assert np.abs(roots - np.sqrt(p / p.max(axis=1, keepdims=True))).max() < 0.5 / 255 + 2e-3


def test_the_tail_is_kept_and_nothing_is_shared_out() -> None:
    format_ = TopKFormat(4, 1_000)
    _, p = format_.decode(
        format_.encode(np.array([[7, 8, 0, 0]]), np.array([[0.5, 0.2, 0.0, 0.0]]))
    )
    assert p[0].tolist() == pytest.approx([0.5, 0.2, 0.0, 0.0], abs=2e-3)


def test_no_positions_are_no_bytes() -> None:
    format_ = TopKFormat(4, 1_000)
    assert format_.encode(np.zeros((0, 4), int), np.zeros((0, 4))) == b""
    assert format_.decode(b"")[1].shape == (0, 4)


@pytest.mark.parametrize(
    ("ids", "p", "told"),
    [
        ([1, 2], [0.9, 0.3], "1.2 in all"),
        ([1, 2], [float("nan"), 0.3], "nan in all"),
        ([1, 2], [0.5, -0.1], "position 0"),
        ([1, 10], [0.5, 0.1], "token 10 is outside the vocabulary of 10"),
        ([3, 3], [0.5, 0.1], "names a token twice"),
    ],
)
def test_what_is_no_distribution_is_refused(ids: list[int], p: list[float], told: str) -> None:
    with pytest.raises(NoDistribution, match=told):
        TopKFormat(2, 10).encode(np.array([ids]), np.array([p]))


def test_damaged_records_are_noticed() -> None:
    format_ = TopKFormat(2, 10)
    data = format_.encode(np.array([[1, 2]]), np.array([[0.5, 0.2]]))
    with pytest.raises(LedgerDamaged, match="no whole top-2 records"):
        format_.decode(data[:-1])
    with pytest.raises(LedgerDamaged, match="names token 65535"):
        format_.decode(b"\xff" * len(data))
