"""The verdict keeps to its definition, and says yes wrongly no more often than it may."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.verdict import Verdict, overall, within

YES, NO, UNKNOWN = "yes", "no", "not enough data"


def answers(right: int, n: int) -> list[float]:
    return [1.0] * right + [0.0] * (n - right)


def test_a_student_as_good_as_its_teacher_passes_with_enough_items() -> None:
    found = within(answers(300, 300), answers(300, 300), answers(0, 300))
    assert found.decision == YES
    assert found.difference == pytest.approx(0.05)
    assert 0 <= found.lower < 0.05 < found.upper
    assert "student 1.000, teacher 1.000 on 300 items" in found.reason


def test_all_agreeing_items_need_as_many_as_an_exact_test_does() -> None:
    """If the student failed where 5 % of items are such that it fails, n items without a failure
    have chance 0.95 ** n, which is below 5 % from n = 59 on."""
    assert within(answers(59, 59), answers(59, 59), answers(0, 59)).decision == YES
    assert within(answers(58, 58), answers(58, 58), answers(0, 58)).decision == UNKNOWN


def test_a_student_far_behind_fails() -> None:
    found = within(answers(30, 100), answers(95, 100), answers(0, 100))
    assert found.decision == NO
    assert found.upper < 0
    assert "even at the upper bound" in found.reason


def test_a_student_near_the_margin_is_undecided() -> None:
    found = within(answers(95, 100), answers(100, 100), answers(0, 100))
    assert found.decision == UNKNOWN
    assert found.lower < 0 <= found.upper


@pytest.mark.parametrize("base", [100, 99])
def test_a_teacher_not_above_the_baseline_shows_nothing(base: int) -> None:
    found = within(answers(100, 100), answers(99, 100), answers(base, 100))
    assert found.decision == UNKNOWN
    assert "not above the baseline" in found.reason


def test_no_items_are_not_enough() -> None:
    found = within([], [], [])
    assert (found.decision, found.n) == (UNKNOWN, 0)
    json.dumps(asdict(found), allow_nan=False)


def test_the_pairing_counts() -> None:
    """Same means: items failed in common cost nothing, items failed apart cost certainty."""
    teacher = answers(285, 300)
    alike, apart = (
        within(teacher, teacher, [0.0] * 300),
        within(teacher[::-1], teacher, [0.0] * 300),
    )
    assert alike.difference == pytest.approx(apart.difference)
    assert alike.lower > apart.lower
    assert alike.decision == YES


def test_the_margin_is_the_recipes() -> None:
    student, teacher, baseline = answers(180, 200), answers(200, 200), answers(0, 200)
    assert within(student, teacher, baseline, margin=0.05).decision == NO
    assert within(student, teacher, baseline, margin=0.2).decision == YES


def test_a_margin_of_nothing_can_never_be_proven_by_agreement() -> None:
    assert within(answers(90, 90), answers(90, 90), answers(0, 90), margin=0.0).decision == UNKNOWN


def test_graded_scores_are_taken_as_they_are() -> None:
    assert within([0.9] * 200, [0.9] * 200, [0.1] * 200).decision == YES
    assert within([0.5] * 200, [0.9] * 200, [0.1] * 200).decision == NO


@pytest.mark.parametrize("bad", [[1.5], [-0.1], [float("nan")]])
def test_scores_outside_their_range_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        within(bad, [1.0], [0.0])


def test_unpaired_scores_are_refused() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - numpy's words
        within([1.0, 0.0], [1.0], [0.0])


grades = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@given(st.lists(st.tuples(grades, grades, grades), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_the_decision_follows_from_the_bounds(items: list[tuple[float, float, float]]) -> None:
    student, teacher, baseline = (list(column) for column in zip(*items, strict=True))
    found = within(student, teacher, baseline)
    assert found.lower < found.upper
    assert found.lower <= found.difference + 1e-9
    assert found.difference <= found.upper + 1e-9
    if np.mean(teacher) <= np.mean(baseline):
        assert found.decision == UNKNOWN
    else:
        expected = YES if found.lower >= 0 else NO if found.upper < 0 else UNKNOWN
        assert found.decision == expected


@pytest.mark.parametrize(("teacher", "overlap"), [(1.0, 0.0), (0.9, 1.0), (0.3, 0.0)])
def test_at_the_boundary_yes_is_said_at_most_once_in_twenty(teacher: float, overlap: float) -> None:
    """200 runs of 200 items where the student truly has 0.95 x the teacher's score; `overlap` says
    how often the two fail on the same items. 5 % and two standard errors are 16 runs."""
    rng, n, student = np.random.default_rng(11), 200, 0.95 * teacher
    both = student * teacher + overlap * (student - student * teacher)
    cells = [both, student - both, teacher - both, 1 - student - teacher + both]
    tables = rng.multinomial(n, cells, 200)
    said = {tuple(table): _decision(*map(int, table)) for table in tables}
    assert sum(said[tuple(table)] == YES for table in tables) <= 16


def _decision(both: int, student: int, teacher: int, neither: int) -> str:
    ours = [1.0] * (both + student) + [0.0] * (teacher + neither)
    theirs = [1.0] * both + [0.0] * student + [1.0] * teacher + [0.0] * neither
    return within(ours, theirs, [0.0] * len(ours)).decision


def verdict(decision: str) -> Verdict:
    return Verdict(decision, 0.0, -0.1, 0.1, 10, "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("decisions", "expected", "named"),
    [
        ({"a": YES, "b": YES}, YES, "a, b"),
        ({"a": YES, "b": UNKNOWN}, UNKNOWN, "b"),
        ({"a": NO, "b": UNKNOWN, "c": YES}, NO, "a"),
        ({}, UNKNOWN, "any task"),
    ],
)
def test_overall_is_yes_if_all_are_and_no_if_any_is(
    decisions: dict[str, str], expected: str, named: str
) -> None:
    found = overall({task: verdict(decision) for task, decision in decisions.items()})
    assert found.decision == expected
    assert found.reason.endswith(named)
