"""Sequential probing: what it asks first, where it goes on asking, and that it can be replayed."""

import numpy as np

from router.deciding import RouteConfig, contested, decide
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


def _bought(budget: int, seed: int = 0, count: int = 600, confidence: float = 0.999) -> np.ndarray:
    """The cells (N, T) bool that are bought."""
    vectors, truth = _pool(count)
    scores = np.full(truth.shape, np.nan)
    while True:
        left = budget - int((~np.isnan(scores)).sum())
        cells = next_round(
            vectors, ["all"] * count, scores, ~np.isnan(scores), left, confidence, seed
        )
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
    asked = np.zeros(scores.shape, bool)
    while (cells := next_round(vectors, ["all"] * 200, scores, asked, 400, 0.999, 0)).any():
        asked |= cells
        assert (cells[:, 0] == cells[:, 1]).all()
        scores[cells] = truth[:, :2][cells]
    assert not np.isnan(scores).any()


def test_it_ends_early_where_every_route_is_decided():
    vectors, _ = _pool(600)
    chances = np.array([0.95, 0.3, 0.2])
    truth = (np.random.default_rng(1).random((600, 3)) < chances).astype(float)
    for count, most in ((600, 3 * 40 + 2 * 120), (120, 3 * 40 + 2 * 20)):
        scores, asked = np.full((count, 3), np.nan), np.zeros((count, 3), bool)
        tasks = ["all"] * count
        while (cells := next_round(vectors[:count], tasks, scores, asked, 9999, 0.95, 0)).any():
            scores[cells], asked = truth[:count][cells], asked | cells
        assert asked.sum() <= most


def test_more_confidence_buys_more():
    assert _bought(10_000, confidence=0.6).sum() < _bought(10_000, confidence=0.95).sum()


def test_answers_that_never_came_are_not_asked_for_again():
    vectors, truth = _pool(300)
    scores, asked = np.full(truth.shape, np.nan), np.zeros(truth.shape, bool)
    for _ in range(60):
        cells = next_round(vectors, ["all"] * 300, scores, asked, 9999, 0.95, 0)
        assert not (cells & asked).any()
        if not cells.any():
            break
        asked |= cells
        came = cells & (np.arange(300)[:, None] % 3 > 0)  # a third fails
        scores[came] = truth[came]
    assert not cells.any()


def test_a_task_that_the_guard_keeps_is_probed_further_for_the_two_in_question():
    scores = {
        "a": {"x": dict.fromkeys("123", 0.0), "y": dict.fromkeys("123", 1.0), "z": {}},
        "b": {"x": {f"b{i}": 1.0 for i in range(30)}, "y": {f"b{i}": 0.0 for i in range(30)}},
    }
    names = ["x", "y", "z"]
    routes = decide(RouteConfig(), ["a", "b"], names, scores)
    assert [route.guarded for route in routes] == [True, False, False]
    tasks = ["a"] * 50 + ["b"] * 50
    asked = np.zeros((100, 3), bool)
    asked[:3] = asked[50:80, :2] = True
    asked[3:5, 0] = True
    cells = contested(routes, tasks, names, asked, budget=1000)
    assert cells[:, 2].sum() == 0
    assert not (cells & asked).any()
    assert set(np.flatnonzero(cells.any(axis=1))) == set(range(3, 23))
    assert contested(routes, tasks, names, asked, budget=7).sum() <= 7
    assert not contested(routes, tasks, names, np.ones((100, 3), bool), budget=1000).any()
