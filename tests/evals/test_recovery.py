"""Recovery is Fieller's ratio, has width when all agree, and is undefined where the teacher gained nothing."""

import numpy as np
import pytest
from scipy.stats import t

from evals.recovery import overall_recovery, recovery


def answers(right: int, n: int) -> list[float]:
    return [1.0] * right + [0.0] * (n - right)


def test_the_interval_is_every_ratio_that_a_t_test_does_not_refuse() -> None:
    """Fieller's interval by its definition: r is in it where the mean of x - r y is not away from 0. The pseudo
    items are left out of that reference by taking many items."""
    rng = np.random.default_rng(1)
    baseline = (rng.random(20_000) < 0.2).astype(float)
    teacher = np.maximum(baseline, (rng.random(20_000) < 0.7).astype(float))
    student = np.maximum(baseline, (rng.random(20_000) < 0.6).astype(float))
    found = recovery(student.tolist(), teacher.tolist(), baseline.tolist())
    x, y = student - baseline, teacher - baseline
    assert found.value == pytest.approx(x.mean() / y.mean())
    assert found.lo is not None
    assert found.hi is not None
    for ratio in (found.lo, found.hi):
        gap = x - ratio * y
        score = gap.mean() / (gap.std(ddof=1) / len(gap) ** 0.5)
        assert abs(score) == pytest.approx(t.ppf(0.975, len(gap) - 1), rel=1e-3)


def test_worked_example() -> None:
    """Student .75, teacher 1, baseline .25 of 400 items: (.75 - .25) / (1 - .25) is two thirds."""
    found = recovery(answers(300, 400), answers(400, 400), answers(100, 400))
    assert found.value == pytest.approx(2 / 3)
    assert found.lo is not None
    assert found.hi is not None
    assert 0.55 < found.lo < 2 / 3 < found.hi < 0.75


def test_there_is_width_where_all_items_agree() -> None:
    found = recovery(answers(50, 50), answers(50, 50), answers(0, 50))
    assert found.value == 1.0
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo < 0.97
    assert found.hi > 1.03
    opposite = recovery([0.0] * 50, [1.0] * 50, [0.5] * 50)
    assert opposite.value == -1.0
    assert opposite.lo is not None
    assert opposite.lo < -1.01


@pytest.mark.parametrize(
    ("teacher", "why"), [(40, "no better"), (30, "no better"), (41, "not clearly better")]
)
def test_it_is_undefined_where_the_teacher_gained_nothing(teacher: int, why: str) -> None:
    found = recovery(answers(45, 100), answers(teacher, 100), answers(40, 100))
    assert (found.value, found.lo, found.hi, found.n) == (None, None, None, 100)
    assert why in found.reason


def test_few_items_are_too_few() -> None:
    assert "too few" in recovery([1.0], [1.0], [0.0]).reason
    assert "no tasks" in overall_recovery([]).reason
    assert "too few" in overall_recovery([([1.0], [1.0], [0.0])]).reason


def test_tasks_count_alike() -> None:
    """Gains .5 of 1 on 200 items and .2 of .4 on 50: (.5 + .2) / (1 + .4)."""
    one = (answers(100, 200), answers(200, 200), answers(0, 200))
    other = (answers(10, 50), answers(20, 50), answers(0, 50))
    found = overall_recovery([one, other])
    assert found.value == pytest.approx(0.5)
    assert found.n == 250
    alone = recovery(*one)
    assert found.lo is not None
    assert found.hi is not None
    assert alone.lo is not None
    assert alone.hi is not None
    assert found.hi - found.lo > 0
    assert overall_recovery([one]) == alone


@pytest.mark.parametrize("learnt", [0.3, 0.6, 0.9])
def test_it_covers_the_true_ratio(learnt: float) -> None:
    """2,000 runs of 50 items each with a baseline at .1 and a teacher at .8."""
    rng = np.random.default_rng(7)
    covered = defined = 0
    for _ in range(2_000):
        draws = rng.random((3, 50))
        rows = [
            (draws[i] < p).astype(float).tolist()
            for i, p in enumerate((0.1 + 0.7 * learnt, 0.8, 0.1))
        ]
        found = recovery(*rows)
        if found.lo is not None and found.hi is not None:
            defined += 1
            covered += found.lo <= learnt <= found.hi
    assert defined == 2_000
    assert 0.93 < covered / defined < 0.98
