"""The number of further items that is named beside "not enough data" is one that does."""

import numpy as np
import pytest

from evals.power import further_items
from evals.verdict import within


def pairs(
    p: float, apart: float, n: int, rng: np.random.Generator
) -> tuple[list[float], list[float]]:
    """Scores of a student and a teacher that are equally good, and differ on a share of the items."""
    shares = [p - apart / 2, 1 - p - apart / 2, apart / 2, apart / 2]
    kinds = rng.choice(4, n, p=shares)
    return np.isin(kinds, (0, 2)).astype(float).tolist(), np.isin(kinds, (0, 3)).astype(
        float
    ).tolist()


@pytest.mark.parametrize(("p", "apart", "n"), [(0.6, 0.3, 50), (0.9, 0.1, 50), (0.5, 0.2, 200)])
def test_so_many_more_items_end_in_yes(p: float, apart: float, n: int) -> None:
    rng = np.random.default_rng(3)
    ends: list[bool] = []
    while len(ends) < 60:
        student, teacher = pairs(p, apart, n, rng)
        found = within(student, teacher, [0.0] * n)
        if found.decision != "not enough data":
            continue
        assert found.further is not None
        more_student, more_teacher = pairs(p, apart, found.further, rng)
        told = within(student + more_student, teacher + more_teacher, [0.0] * (n + found.further))
        ends.append(told.decision == "yes")
    assert np.mean(ends) >= 0.7  # 0.8, less two standard errors of 60 runs


@pytest.mark.parametrize(("clusters", "size"), [(8, 25), (30, 10)])
def test_so_many_more_items_in_clusters_end_in_yes_and_not_many_too_many(
    clusters: int, size: int
) -> None:
    """Items that share nothing but a name: the design effect is all that stands in the way."""
    rng = np.random.default_rng(5)
    ends: list[bool] = []
    fewer: list[bool] = []
    while len(ends) < 40:
        student, teacher = pairs(0.8, 0.2, clusters * size, rng)
        names = [str(number // size) for number in range(clusters * size)]
        found = within(student, teacher, [0.0] * len(names), clusters=names)
        if found.decision != "not enough data":
            continue
        assert found.further is not None
        for number, told in ((found.further, ends), (found.further // 4, fewer)):
            own, its = pairs(0.8, 0.2, number, rng)
            then = [*names, *[f"new {n // size}" for n in range(number)]]
            whole = within(student + own, teacher + its, [0.0] * len(then), clusters=then)
            told.append(whole.decision == "yes")
    assert np.mean(ends) >= 0.7
    assert np.mean(fewer) < 0.7


def test_the_verdict_names_the_number() -> None:
    found = within([1.0] * 40, [1.0] * 40, [0.0] * 40)
    assert found.further is not None
    assert f"about {found.further:,} further items would tell" in found.reason
    assert within([1.0] * 200, [1.0] * 200, [0.0] * 200).further is None


def test_graded_scores_are_planned_for() -> None:
    rng = np.random.default_rng(5)
    teacher = rng.beta(4, 2, 30)
    student = np.clip(teacher + rng.normal(0, 0.1, 30), 0, 1)
    found = further_items(student.tolist(), teacher.tolist())
    assert found is not None
    assert 1 <= found < 1_000


def test_no_number_would_do_without_a_margin_or_without_a_score() -> None:
    assert further_items([1.0, 0.0], [1.0, 0.0], margin=0.0) is None
    assert further_items([0.0] * 20, [0.0] * 20, margin=1e-9) is None


def test_a_wider_margin_takes_fewer_items() -> None:
    rng = np.random.default_rng(9)
    student, teacher = pairs(0.7, 0.2, 60, rng)
    some, fewer = (further_items(student, teacher, margin) for margin in (0.05, 0.2))
    assert some is not None
    assert fewer is not None
    assert fewer < some
