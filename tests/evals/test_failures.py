"""Failures in groups, and the mix's samples near them."""

import numpy as np

from evals.failures import groups, near


def around(middle: list[float], count: int, seed: int) -> np.ndarray:
    rows = np.array(middle) + 0.05 * np.random.default_rng(seed).normal(size=(count, len(middle)))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_two_kinds_of_prompts_are_two_groups_the_larger_first() -> None:
    vectors = np.concatenate([around([1, 0, 0], 6, 1), around([0, 1, 0], 9, 2)])
    assert [sorted(rows) for rows in groups(vectors)] == [list(range(6, 15)), list(range(6))]


def test_one_kind_and_few_failures_are_one_group() -> None:
    assert [len(rows) for rows in groups(around([1.0] * 20, 12, 3))] == [12]
    assert groups(around([1, 0, 0], 1, 4)) == [[0]]


def test_near_are_the_samples_about_as_close_as_the_group_is() -> None:
    group, far = around([1, 0, 0], 20, 5), around([0, 1, 0], 50, 6)
    assert near(group, far) == 0
    assert near(group, np.concatenate([far, group])) >= 18
    assert near(group, np.zeros((0, 1))) == 0
