"""Sequential probing: what it asks first, where it goes on asking, and that it can be replayed."""

import numpy as np

from router.deciding.allocation import FIRST, next_round

TEACHERS = 4


def _pool(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Two groups of prompts. Teachers 0 and 1 are close, each a little better in one; 2 and 3 are bad."""
    rng = np.random.default_rng(0)
    at = rng.integers(0, 2, count)
    vectors = np.eye(8)[at] + 0.1 * rng.normal(size=(count, 8))
    chances = np.stack([0.8 - 0.1 * at, 0.7 + 0.1 * at, 0.1 + 0 * at, 0.1 + 0 * at], axis=1)
    scores = (rng.random((count, TEACHERS)) < chances).astype(float)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), scores


def _bought(budget: int, seed: int = 0, count: int = 600) -> np.ndarray:
    """The cells (N, T) bool that are bought."""
    vectors, truth = _pool(count)
    scores = np.full(truth.shape, np.nan)
    while True:
        left = budget - int((~np.isnan(scores)).sum())
        cells = next_round(vectors, ["all"] * count, scores, left, seed)
        if not cells.any():
            return ~np.isnan(scores)
        assert cells.sum() <= left
        assert not (cells & ~np.isnan(scores)).any()
        scores[cells] = truth[cells]


def test_the_first_prompts_go_to_every_teacher_and_the_others_to_two():
    asked = _bought(800)
    assert asked[:FIRST].all()
    assert set(asked[FIRST:].sum(axis=1)) == {0, 2}


def test_what_cannot_be_the_route_is_asked_no_more():
    shares = _bought(800)[FIRST:].sum(axis=0)
    assert shares[:2].min() > 5 * shares[2:].max()


def test_the_same_seed_buys_the_same_answers():
    assert (_bought(600, seed=3) == _bought(600, seed=3)).all()


def test_a_budget_is_never_passed_and_a_small_one_buys_whole_prompts():
    for budget in (0, 3, 30, 161, 500):
        assert _bought(budget).sum() <= budget
    assert _bought(30)[:7].all()
    assert not _bought(3).any()


def test_it_ends_when_every_prompt_was_asked():
    asked = _bought(10_000, count=100)
    assert asked.any(axis=1).all()


def test_two_teachers_are_always_asked_together():
    vectors, truth = _pool(200)
    scores = np.full((200, 2), np.nan)
    while (cells := next_round(vectors, ["all"] * 200, scores, 400, 0)).any():
        assert (cells[:, 0] == cells[:, 1]).all()
        scores[cells] = truth[:, :2][cells]
    assert not np.isnan(scores).any()
