"""Audits: the ledger's lineage, for a run that is named by its folder or recipe."""

import csv
import io
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from ledger.errors import InputError
from ledger.lineage import find_sample, sample_story, student_lineage, teacher_lineage
from tutelage.visible import visible
from tutelage.workspace import open_run

INDENT = "  "
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # OWASP, "CSV Injection"


def audit_sample(run: Path, sample: str) -> dict[str, Any]:
    """One sample's whole way, by its id or the beginning of it. Raises InputError."""
    ledger = open_run(run).ledger
    return sample_story(ledger, find_sample(ledger, sample))


def audit_student(run: Path) -> list[dict[str, Any]]:
    """A run's students, newest first, each with mix, teachers and sources. Raises InputError."""
    workspace = open_run(run)
    students = student_lineage(workspace.ledger, workspace.run)
    if not students:
        raise InputError(f"{workspace.folder} has no student yet: `tutelage run` trains it")
    return students


def audit_teacher(run: Path, name: str) -> list[dict[str, Any]]:
    """Every teacher of that name in the run's ledger. Raises InputError."""
    workspace = open_run(run)
    keys = workspace.outputs.get("probe", {}).get("teachers", {})
    return teacher_lineage(workspace.ledger, name, keys.get(name))


def audit_sql(run: Path, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows of a read-only query. Raises LedgerError."""
    return open_run(run).ledger.table(query)


def audit_verify(run: Path) -> int:
    """Recomputes the hash chain of a run's ledger; gives its length. Raises LedgerDamaged."""
    ledger = open_run(run).ledger
    ledger.verify()
    return int(ledger.rows("SELECT count(*) FROM batch")[0][0])


def as_records(columns: list[str], rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """A query's rows as JSON can hold them: no column is lost to its name, NaN and infinity are null."""
    names = [
        name if columns.index(name) == place else f"{name}_{place + 1}"
        for place, name in enumerate(columns)
    ]
    return [
        {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in zip(names, row, strict=True)
        }
        for row in rows
    ]


def as_csv(columns: list[str], rows: list[tuple[Any, ...]]) -> str:
    """A query's rows as CSV (RFC 4180). A text that a spreadsheet would run as a formula gets a `'` before it;
    numbers stay numbers, and NULL is an empty cell.
    """

    def cell(value: Any) -> Any:
        if value is None or isinstance(value, int | float | Decimal):
            return value
        text = str(value)
        return f"'{text}" if text.startswith(FORMULA) else text

    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerows([cell(value) for value in row] for row in (columns, *rows))
    return file.getvalue()


def as_lines(record: Any, indent: str = "") -> Iterator[str]:
    """A record as indented `name: value` lines, control characters made visible."""
    if isinstance(record, dict):
        for name, value in record.items():
            if isinstance(value, dict | list) and value:
                yield f"{indent}{name}:"
                yield from as_lines(value, indent + INDENT)
            elif value not in (None, [], {}):
                yield f"{indent}{name}: {visible(value)}"
    else:
        for index, value in enumerate(record):
            if index:
                yield ""
            if isinstance(value, dict | list):
                yield from as_lines(value, indent)
            else:
                yield f"{indent}{visible(value)}"
