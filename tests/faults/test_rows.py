"""Every row of the fault suite meets its bar."""

from pathlib import Path

import pytest

from tests.faults.all_rows import ROWS
from tests.faults.suite import Row


def marks(row: Row) -> list[pytest.MarkDecorator]:
    """How a row is chosen and left out."""
    wanted = [(pytest.mark.slow, row.slow), (pytest.mark.browser, row.browser)]
    return [mark for mark, applies in wanted if applies]


PARAMS = [
    pytest.param(number, marks=marks(row), id=f"{number}-{row.title}")
    for number, row in sorted(ROWS.items())
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", PARAMS)
def test_row(number: int, tmp_path: Path) -> None:
    found = ROWS[number].run(tmp_path)
    assert found.ok, f"{found.report} (bar: {found.bar})"
