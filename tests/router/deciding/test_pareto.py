"""The front runs from the strongest routes to the cheapest, and nothing on it is beaten."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.deciding import front

STRENGTHS = {"sum": {"big": 0.9, "small": 0.8}, "spell": {"big": 0.9, "small": 0.3}}
USD = {"sum": {"big": 10.0, "small": 1.0}, "spell": {"big": 10.0, "small": 1.0}}


def test_tasks_go_to_the_cheaper_teacher_one_after_the_other() -> None:
    choices = front(STRENGTHS, USD, {"sum": 300, "spell": 100})
    assert [choice.teachers for choice in choices] == [
        {"sum": "big", "spell": "big"},
        {"sum": "small", "spell": "big"},
        {"sum": "small", "spell": "small"},
    ]
    assert [choice.alpha_from for choice in choices] == pytest.approx([0, 0.1 / 9, 0.6 / 9])
    assert choices[1].strength == pytest.approx(0.75 * 0.8 + 0.25 * 0.9)
    assert choices[1].usd_per_1000 == pytest.approx(0.75 * 1 + 0.25 * 10)


cells = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=3, max_size=3
)  # three teachers' strengths and prices


@given(st.lists(cells, min_size=1, max_size=3))
def test_no_other_routes_are_stronger_and_no_dearer(tasks: list[list[tuple[int, int]]]) -> None:
    strengths = {
        f"t{i}": {f"n{k}": s / 20 for k, (s, _) in enumerate(at)} for i, at in enumerate(tasks)
    }
    usd = {
        f"t{i}": {f"n{k}": float(u) for k, (_, u) in enumerate(at)} for i, at in enumerate(tasks)
    }
    choices = front(strengths, usd, dict.fromkeys(strengths, 1))
    every = [
        (
            sum(strengths[t][n] for t, n in zip(strengths, names, strict=True)) / len(strengths),
            sum(usd[t][n] for t, n in zip(strengths, names, strict=True)) / len(strengths),
        )
        for names in itertools.product(*(strengths[t] for t in strengths))
    ]
    for choice in choices:
        assert not any(
            s > choice.strength + 1e-9 and u <= choice.usd_per_1000 + 1e-9 for s, u in every
        )
    assert choices[0].strength == pytest.approx(max(s for s, _ in every))
