"""Every row of the fault suite meets its bar."""

from pathlib import Path

import pytest

from tests.faults.all_rows import ROWS
from tests.faults.suite import Row
from tests.tutelage.report.browser import CHROMIUM, LACKING


def marks(row: Row) -> list[pytest.MarkDecorator]:
    """How a row is chosen and left out."""
    slow = [pytest.mark.slow] if row.slow else []
    if not row.browser:
        return slow
    return [*slow, pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason=LACKING)]


PARAMS = [
    pytest.param(number, marks=marks(row), id=f"{number}-{row.title}")
    for number, row in sorted(ROWS.items())
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", PARAMS)
def test_row(number: int, tmp_path: Path) -> None:
    found = ROWS[number].run(tmp_path)
    assert found.ok, f"{found.report} (bar: {found.bar})"
