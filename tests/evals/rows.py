"""Ledger rows for tests that need only a few of a table's columns."""

from typing import Any

from ledger.schema import TABLES


def row(table: str, **values: Any) -> tuple[str, list[dict[str, Any]]]:
    """One row of a table for `Ledger.put_all`, its other columns empty."""
    return table, [{**{column.name: None for column in TABLES[table].columns}, **values}]
