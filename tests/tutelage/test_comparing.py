"""compare and gate: on the items of two runs, one of which is planted to be worse."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import InputError
from tutelage import comparing
from tutelage.comparing import compare_runs, comparison_sentence, gate_run
from tutelage.testitems import ExaminedItem, Given

N = 200


def items(
    student: int, prefix: str = "p", cluster: int | None = None, **roles: int
) -> list[ExaminedItem]:
    """N items of one task, of which so many first are right; teacher all, baseline none if not given. So many
    of them share a source.
    """
    right = {"student": student, "teacher": N, "baseline": 0} | roles

    def given(role: str, number: int) -> Given:
        return Given("text", float(number < right[role]), True)

    def shares(number: int) -> str | None:
        return None if cluster is None else str(number // cluster)

    return [
        ExaminedItem(
            f"{prefix}{number}", "sums", "1 + 1", "2", "adder", "exact", shares(number),
            given("student", number), given("teacher", number), given("baseline", number),
        )
        for number in range(N)
    ]  # fmt: skip


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[ExaminedItem]]:
    """What a test puts here is what runs of these names left behind."""
    found: dict[str, list[ExaminedItem]] = {}
    monkeypatch.setattr(comparing, "open_run", lambda run: str(run))
    monkeypatch.setattr(comparing, "read_items", lambda run: found[run])
    return found


def gate(run: str, require: str, against: str | None = None) -> Any:
    return gate_run(Path(run), require, Path(against) if against else None)


def test_a_run_as_good_as_its_teachers_passes(runs: dict[str, list[ExaminedItem]]) -> None:
    runs["good"] = items(N)
    found = gate("good", "within=5%, regress=0, recovered=90%")
    assert found.holds
    (line,) = found.lines()
    assert line.startswith(
        "passed: good: within holds (yes: within the margin on sums); regress holds"
    )


def test_a_planted_regression_fails(runs: dict[str, list[ExaminedItem]]) -> None:
    runs["before"], runs["worse"] = items(N), items(N - 20)
    assert not gate("worse", "within=5%").holds
    assert gate("worse", "within=20%").holds
    assert gate("worse", "regress=0").holds  # better than before its training
    assert not gate("worse", "regress=0", against="before").holds
    assert gate("worse", "regress=1", against="before").holds
    assert gate("before", "regress=0", against="worse").holds
    assert "worse than in before on sums" in gate("worse", "regress=0", against="before").lines()[0]


def test_items_that_share_a_source_count_as_one_cluster(
    runs: dict[str, list[ExaminedItem]],
) -> None:
    runs["before"], runs["worse"] = items(N, cluster=20), items(N - 20, cluster=20)
    assert gate("worse", "regress=0", against="before").holds  # one passage of ten went wrong
    assert not gate("before", "within=5%").holds  # ten passages are too few to tell
    found = compare_runs([Path("before"), Path("worse")])
    assert found.tasks[0].differences[0].p_value == 1
    assert found.tasks[0].students[0].lo < 0.75


def test_a_student_that_forgot_fails(runs: dict[str, list[ExaminedItem]]) -> None:
    runs["forgot"] = items(50, baseline=90)
    found = gate("forgot", "regress=0,recovered=0%")
    assert found.conditions == {"regress": False, "recovered": False}
    assert "worse than before training on sums" in found.reasons["regress"]


def test_recovery_that_is_undefined_fails(runs: dict[str, list[ExaminedItem]]) -> None:
    runs["idle"] = items(N, baseline=N)
    assert "undefined" in gate("idle", "recovered=50%").lines()[0]


@pytest.mark.parametrize(
    ("require", "why"),
    [
        ("within", "conditions are"),
        ("speed=3", "conditions are"),
        ("within=5%,", "conditions are"),
        ("within=120%", "below 100%"),
        ("regress=5%", "a number of tasks"),
        ("regress=0.5", "a number of tasks"),
        ("recovered=90", "90% or a part of 1"),
        ("within=5%,within=50%", "names within twice"),
        ("within=٥%", "conditions are"),
    ],
)
def test_conditions_that_are_none_are_told(
    runs: dict[str, list[ExaminedItem]], require: str, why: str
) -> None:
    runs["good"] = items(N)
    with pytest.raises(InputError, match=why):
        gate("good", require)


def test_runs_are_compared_on_the_items_that_all_have(runs: dict[str, list[ExaminedItem]]) -> None:
    runs["a"], runs["b"] = items(150), items(190)
    runs["c"] = items(150)[:120] + items(10, prefix="other")
    found = compare_runs([Path(name) for name in "abc"])
    (task,) = found.tasks
    assert (task.task, task.items) == ("sums", 120)
    assert found.alone == {"a": 80, "b": 80, "c": 200}
    assert [each.mean for each in task.students] == [1.0, 1.0, 1.0]
    two = compare_runs([Path("a"), Path("b")])
    assert two.tasks[0].differences[0].better == 40
    assert any("b against a on sums: better" in str(line) for line in two.lines())
    assert found.as_dict()["tasks"][0]["items"] == 120


def test_a_page_shows_scores_tests_and_what_got_worse(
    runs: dict[str, list[ExaminedItem]], tmp_path: Path
) -> None:
    runs["a"], runs["b"] = items(N), items(N - 20)
    found = compare_runs([Path("a"), Path("b")], tmp_path / "compared.html")
    assert (found.differing, found.changed[0].scores) == (20, [1.0, 0.0])
    page = (tmp_path / "compared.html").read_text()
    assert "The student of b is worse on sums than that of a, beyond noise." in page
    assert page.count('<details class="item"') == 20
    assert "<script" not in page
    same = comparison_sentence(compare_runs([Path("a"), Path("a")]))
    assert same == "The student of a is as good as that of a on every task, within noise."


def test_an_item_with_another_reference_is_another_item(
    runs: dict[str, list[ExaminedItem]],
) -> None:
    runs["a"] = items(N)
    runs["b"] = [replace(item, reference="3") for item in items(N)[:20]] + items(N)[20:]
    found = compare_runs([Path("a"), Path("b")])
    assert (found.tasks[0].items, found.alone) == (N - 20, {"a": 20, "b": 20})


def test_runs_without_a_common_item_cannot_be_compared(runs: dict[str, list[ExaminedItem]]) -> None:
    runs["a"], runs["b"] = items(10), items(10, prefix="other")
    with pytest.raises(InputError, match="no test item in common"):
        compare_runs([Path("a"), Path("b")])
    with pytest.raises(InputError, match="two runs at least"):
        compare_runs([Path("a")])
