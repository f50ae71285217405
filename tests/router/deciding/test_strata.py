"""Strengths of teachers that were asked what suits them, as sequential probing does."""

import numpy as np
import pytest

from router.deciding import (
    Probed,
    RouteConfig,
    decide,
    fit_router,
    paired_gain,
    strata_of,
    strength,
    strengths_of,
)
from router.deciding.strength import stratified_gain, stratified_strength

TEACHERS = ("first", "second", "both")
CHANCES = np.array(
    [[0.95, 0.35, 0.8], [0.35, 0.95, 0.8]]
)  # in two halves of a task; 0.65, 0.65, 0.8 over all


def _selective(seed: int, count: int = 400) -> Probed:
    """Two teachers that are good in one half each, where they were asked nine times as often."""
    rng = np.random.default_rng(seed)
    half = rng.integers(0, 2, count)
    vectors = np.eye(8)[half] + 0.2 * rng.normal(size=(count, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = (rng.random((count, 3)) < CHANCES[half]).astype(float)
    asked = rng.random((count, 3)) < np.where(CHANCES[half] < 0.5, 0.1, 0.9)
    scores[~asked] = np.nan
    keys = tuple(f"{seed}.{i}" for i in range(count))
    return Probed(keys, vectors.astype(np.float32), ("all",) * count, TEACHERS, scores, True)


def test_a_task_goes_to_the_strongest_over_all_of_it() -> None:
    for seed in range(5):
        route, unsure = fit_router(_selective(seed), RouteConfig(level="task"), seed).routes
        assert (route.teacher, unsure.teacher) == ("both", "both")
        assert route.strengths["both"].mean == pytest.approx(0.8, abs=0.1)
        assert route.reason.startswith("both scores 0.")
    plain = decide(RouteConfig(), ["all"], TEACHERS, _selective(0).by_task())[0]
    assert plain.strengths["first"].mean > 0.8


def test_intervals_over_strata_cover_as_often_as_they_say() -> None:
    inside = []
    for seed in range(100):
        probed = _selective(seed)
        strata = strata_of(probed.keys, probed.vectors, probed.tasks, seed)
        found = strengths_of(probed.by_task(), ["all"], TEACHERS, 0.95, strata)["all"]
        truth = dict(zip(TEACHERS, CHANCES.mean(axis=0), strict=True))
        inside += [found[name].lo <= truth[name] <= found[name].hi for name in TEACHERS]
    assert 0.92 < np.mean(inside) < 0.99


def test_strata_do_not_depend_on_the_order_of_probes() -> None:
    probed = _selective(3)
    order = np.random.default_rng(0).permutation(len(probed.keys))
    moved = probed.only(order)
    assert strata_of(moved.keys, moved.vectors, moved.tasks, 7) == strata_of(
        probed.keys, probed.vectors, probed.tasks, 7
    )


def test_with_all_probes_asked_it_is_as_good_as_the_plain_mean() -> None:
    values = {str(i): float(i % 3 == 0) for i in range(90)}
    found = stratified_strength(values, {key: int(key) % 2 for key in values}, 0.95)
    plain = strength(list(values.values()))
    assert (found.mean, found.lo, found.hi) == pytest.approx(
        (plain.mean, plain.lo, plain.hi), abs=0.01
    )


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_answers_that_are_all_right_or_all_wrong_are_no_certainty(value: float) -> None:
    stratum_of = {str(i): i % 4 for i in range(60)}
    found = stratified_strength({str(i): value for i in range(48)}, stratum_of, 0.95)
    plain = strength([value] * 48)
    assert found.mean == plain.mean
    assert found.hi - found.lo == pytest.approx(plain.hi - plain.lo, rel=0.1)


@pytest.mark.parametrize("value", [0.5, 1.0])
def test_a_stratum_that_nobody_asked_makes_it_less_sure(value: float) -> None:
    values = {str(i): value * (i % 2) for i in range(40)}
    inside = stratified_strength(values, {str(i): i // 20 for i in range(40)}, 0.95)
    beside = stratified_strength(values, {str(i): i // 20 for i in range(60)}, 0.95)
    assert beside.mean == inside.mean == pytest.approx(value / 2)
    assert beside.hi - beside.lo > 1.4 * (inside.hi - inside.lo)


def test_few_or_equal_probes_are_one_stratum() -> None:
    same = np.tile(np.eye(4, dtype=np.float32)[0], (200, 1))
    keys = [str(i) for i in range(200)]
    assert set(strata_of(keys, same, ["a"] * 200, 0)["a"].values()) == {0}
    assert set(strata_of(keys[:20], same[:20], ["a"] * 20, 0)["a"].values()) == {0}


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_gains_that_are_all_equal_are_no_certainty(value: float) -> None:
    keys = [str(i) for i in range(48)]
    stratum_of = {str(i): i % 4 for i in range(60)}
    ours = {key: max(value, 0.0) for key in keys}
    theirs = {key: max(-value, 0.0) for key in keys}
    found = stratified_gain(ours, theirs, stratum_of, 0.95)
    plain = paired_gain(list(ours.values()), list(theirs.values()))
    assert (found.mean, found.n) == (plain.mean, plain.n)
    assert found.hi - found.lo == pytest.approx(plain.hi - plain.lo, rel=0.3)
