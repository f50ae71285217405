"""Intervals have the coverage they state, and width even where every probe agrees."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.deciding import paired_gain, strength, strengths_of
from router.deciding.policy import Scores

scores = st.lists(st.floats(0, 1), min_size=1, max_size=40)
pairs = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40)


@settings(deadline=None)  # the first call loads scipy
@given(scores, st.floats(0.6, 0.99))
def test_strength_lies_in_its_interval(values: list[float], confidence: float) -> None:
    found = strength(values, confidence)
    assert 0 <= found.lo <= found.mean <= found.hi <= 1
    assert found.lo < found.hi


@pytest.mark.parametrize("n", [10, 30, 100])
def test_graded_strength_covers_the_truth_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(n)
    truth = rng.beta(1.5, 1.0, 4000)
    two, five, even, wide = np.split(truth[:, None], 4)
    scores = [rng.binomial(2, two, (1000, n)) / 2, rng.binomial(5, five, (1000, n)) / 5]
    scores += [rng.beta(4 * even, 4 * (1 - even), (1000, n)), rng.beta(wide, 1 - wide, (1000, n))]
    found = [strength(row) for row in np.concatenate(scores).tolist()]
    inside = [each.lo <= mean <= each.hi for each, mean in zip(found, truth, strict=True)]
    assert 0.93 < np.mean(inside) < 0.97


@given(pairs, st.floats(0.6, 0.99))
def test_gain_lies_in_its_interval_and_is_antisymmetric(
    both: list[tuple[float, float]], confidence: float
) -> None:
    ours, theirs = [a for a, _ in both], [b for _, b in both]
    gain, loss = paired_gain(ours, theirs, confidence), paired_gain(theirs, ours, confidence)
    assert -1 <= gain.lo <= gain.mean <= gain.hi <= 1
    assert gain.lo < gain.hi
    assert math.isclose(gain.lo, -loss.hi, abs_tol=1e-12)
    assert math.isclose(gain.hi, -loss.lo, abs_tol=1e-12)


def test_wilson_equals_statsmodels() -> None:
    from statsmodels.stats.proportion import proportion_confint

    for right, n in [(0, 5), (3, 10), (59, 60), (60, 60)]:
        found = strength([1.0] * right + [0.0] * (n - right))
        assert (found.lo, found.hi) == pytest.approx(proportion_confint(right, n, method="wilson"))
        assert found.binary


def test_gain_of_binary_scores_is_bonett_and_price() -> None:
    # 21 pairs, of which 1 favours ours and 7 theirs.
    ours, theirs = [1] + [0] * 7 + [1] * 13, [0] + [1] * 7 + [1] * 13
    p, q, n = (1 + 1) / 23, (7 + 1) / 23, 23
    half = 1.959964 * math.sqrt((p + q - (p - q) ** 2) / n)
    gain = paired_gain(ours, theirs)
    assert (gain.mean, gain.n) == (pytest.approx(-6 / 21), 21)
    assert (gain.lo, gain.hi) == pytest.approx((p - q - half, p - q + half), abs=1e-6)


def test_agreement_on_all_probes_is_not_certainty() -> None:
    few, many = paired_gain([1] * 10, [1] * 10), paired_gain([1] * 100, [1] * 100)
    assert few.hi - few.lo > many.hi - many.lo > 0.02
    assert strength([0.5] * 10).hi - strength([0.5] * 10).lo > 0.1


@pytest.mark.parametrize("n", [10, 30, 60])
@pytest.mark.parametrize("cells", [(0.3, 0.4, 0.2, 0.1), (0.9, 0.04, 0.01, 0.05)])
def test_paired_interval_covers_what_it_states(
    n: int, cells: tuple[float, float, float, float]
) -> None:
    rng = np.random.default_rng(n)
    both = np.array([(1, 1), (1, 0), (0, 1), (0, 0)], float)
    draws = both[rng.choice(4, size=(1500, n), p=cells)]
    truth = cells[1] - cells[2]
    gains = [paired_gain(draw[:, 0].tolist(), draw[:, 1].tolist()) for draw in draws]
    assert np.mean([gain.lo <= truth <= gain.hi for gain in gains]) > 0.935


@pytest.mark.parametrize("n", [10, 30])
def test_graded_interval_covers_what_it_states(n: int) -> None:
    draws = np.random.default_rng(n).beta(2, 1, size=(1500, n))
    found = [strength(draw.tolist()) for draw in draws]
    assert not found[0].binary
    assert np.mean([one.lo <= 2 / 3 <= one.hi for one in found]) > 0.935


def test_what_was_not_probed_has_no_strength() -> None:
    x = {"a": {"k1": 1.0, "k2": 1.0, "k3": 0.0}, "b": {"k1": 0.5, "k2": 0.25}}
    scores: Scores = {"x": x, "y": {"a": {}}}
    found = strengths_of(scores, ["x", "y"], ["a", "b"], 0.95)
    assert {task: list(at) for task, at in found.items()} == {"x": ["a", "b"], "y": []}
    assert found["x"]["a"].mean == pytest.approx(2 / 3)
    assert found["x"]["b"].n == 2
