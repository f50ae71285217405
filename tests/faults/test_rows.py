"""Every row of the fault suite meets its bar."""

from pathlib import Path

import pytest

from tests.faults.all_rows import ROWS

PARAMS = [
    pytest.param(number, marks=[pytest.mark.slow] if row.slow else [], id=f"{number}-{row.title}")
    for number, row in sorted(ROWS.items())
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", PARAMS)
def test_row(number: int, tmp_path: Path) -> None:
    found = ROWS[number].run(tmp_path)
    assert found.ok, f"{found.report} (bar: {found.bar})"
