"""Positions of the marks: inside the picture, in proportion, in colours that hold."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tutelage.report import sample
from tutelage.report import charts
from tutelage.report.colours import colours
from tutelage.report.data import Flow, Mix, MixCell, MixStage, Point, TaskCount
from tutelage.report.flow import river

BASE = sample.report()
anything = st.floats(allow_nan=True, allow_infinity=True)


@given(anything, st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_share_is_always_inside_the_picture(value: float, lo: float, hi: float) -> None:
    assert 0 <= charts.share(value, lo, hi) <= 100


@given(st.floats(1e-6, 1e12))
def test_ticks_start_at_zero_and_stay_below_the_end(hi: float) -> None:
    marks = charts.ticks(hi)
    assert marks[0] == 0
    assert 2 <= len(marks) <= 7
    assert marks[-1] <= hi * 1.001


def test_task_wears_the_colour_of_its_teacher() -> None:
    colour = colours(sample.report())
    for task, teacher in sample.TASKS.items():
        assert colour.task(task) == colour.teacher(teacher)
    assert colour.task("unsure") == "k-unsure"


def test_two_tasks_of_one_teacher_differ_in_colour() -> None:
    data = sample.report()
    tasks = tuple(dataclasses.replace(t, chosen="generalist") for t in data.tasks)
    colour = colours(dataclasses.replace(data, tasks=tasks))
    assert len(set(colour.tasks.values())) == 3


@pytest.mark.parametrize("n", [0, 1, 3000, 3001, 50_000])
def test_map_draws_at_most_three_thousand_dots(n: int) -> None:
    data = dataclasses.replace(sample.report(), points=sample.points(n))
    drawn = charts.clouds(data, colours(data))
    assert sum(c.shown for c in drawn) <= charts.MAX_POINTS
    assert sum((c.sure + c.faint).count("M") for c in drawn) == sum(c.shown for c in drawn)


def test_map_of_equal_or_broken_points_is_drawn() -> None:
    dots = (Point(1, 1, "t", 1.0), Point(1, 1, "t", math.nan), Point(math.nan, 0, "t", 1.0))
    data = dataclasses.replace(sample.report(), points=dots)
    drawn = charts.clouds(data, colours(data))
    assert [c.shown for c in drawn] == [2]


def test_flow_heights_are_in_proportion_and_bars_do_not_overlap() -> None:
    data = sample.report()
    laid = river(data, colours(data))
    assert laid is not None
    by_name = {n.label: n for n in laid.nodes}
    assert by_name["prompts"].count == 9200
    assert by_name["mix"].count == 7900
    ratio = by_name["spell_backward"].height / by_name["chain_sum"].height
    assert ratio == pytest.approx(5391 / 2398, rel=0.01)
    for column in range(4):
        nodes = [n for n in laid.nodes if n.column == column]
        assert all(a.y + a.height < b.y for a, b in zip(nodes, nodes[1:], strict=False))
        assert all(n.y + n.height <= laid.height for n in nodes)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 10**9)),
        max_size=9,
    )
)
def test_any_flow_is_laid_out(rows: list[tuple[str, str, int]]) -> None:
    flow = tuple(Flow(task, teacher, n, n // 2) for task, teacher, n in rows)
    data = dataclasses.replace(BASE, flow=flow, prompts=(TaskCount("a", 5),))
    laid = river(data, colours(data))
    for ribbon in laid.ribbons if laid else ():
        assert not re.search("nan|inf", ribbon.path)


def test_pieces_of_a_stage_fill_its_bar_in_the_unit_of_the_mix() -> None:
    cells = (MixCell("s", "a", "x", 10, 900), MixCell("s", "b", "y", 30, 100))
    colour = colours(sample.report())
    for unit, first in (("tokens", 90), ("samples", 25)):
        mix = Mix(unit, 1, (MixStage("s", "shuffled", 1.0),), cells)
        (bar,) = charts.mix_bars(mix, colour)
        assert [p.width for p in bar.pieces] == [first, 100 - first]


def test_loss_axis_is_logarithmic_only_where_the_loss_falls_far() -> None:
    training = sample.training()
    far = charts.curve(training)
    near = charts.curve(dataclasses.replace(training, loss=((1, 2.0), (50, 1.0), (100, 0.9))))
    assert far is not None
    assert near is not None
    assert (far.logarithmic, near.logarithmic) == (True, False)
    assert near.y_ticks[0] == (100, "0")


def test_long_loss_is_thinned_and_keeps_its_ends() -> None:
    training = dataclasses.replace(
        sample.training(), steps=99_999, loss=tuple((i, 2.0) for i in range(100_000))
    )
    curve = charts.curve(training)
    assert curve is not None
    xs = re.findall(r"[ML](\d+) ", curve.path)
    assert len(xs) <= charts.MAX_LOSS_POINTS + 2
    assert (xs[0], xs[-1]) == ("0", "1000")
