"""Folding: the inbox's records become rows of the DuckDB file, in large batches, each one transaction.

Content keys become BIGINT ids, rows that are there already are skipped, and every batch leaves a
row in `batch` whose hash is chained to the one before. A fold that was cut off is simply done again:
the DuckDB file says which inbox records it holds.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ledger.errors import LedgerDamaged
from ledger.inbox import Head
from ledger.keys import now_us
from ledger.prompts import Prompt
from ledger.schema import BATCH_DDL, META_DDL, SCHEMA_VERSION, TABLES, Table

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# Of one fold, which so holds the file for well under a second.
MAX_ROWS, MAX_BYTES = 20_000, 64 << 20
# DuckDB closes row groups of 122,880 rows otherwise, each time with all their vectors or texts in memory.
ROW_GROUP_ROWS = 8_192


def first_row(
    db: "duckdb.DuckDBPyConnection", sql: str, params: Sequence[Any] = ()
) -> tuple[Any, ...] | None:
    """The first row of a statement, read to its end: DuckDB starts no other before that."""
    rows = db.execute(sql, list(params)).fetchall()
    return rows[0] if rows else None


def prepare(db: "duckdb.DuckDBPyConnection") -> None:
    """Creates the tables in a new file, all or none. Raises LedgerDamaged for another schema version."""
    if is_new(db):
        db.execute("BEGIN")
        db.execute(META_DDL)
        db.execute("INSERT INTO meta VALUES (?)", [SCHEMA_VERSION])
        db.execute(BATCH_DDL)
        for table in TABLES.values():
            db.execute(table.ddl())
        db.execute("COMMIT")
        return
    found = first_row(db, "SELECT schema_version FROM meta")
    if found is None or found[0] != SCHEMA_VERSION:
        version = "no schema version" if found is None else f"schema version {found[0]}"
        raise LedgerDamaged(
            f"the ledger's DuckDB file has {version}, this Tutelage reads version "
            f"{SCHEMA_VERSION}: use the Tutelage that wrote it, or give `run:` another folder."
        )


def is_new(db: "duckdb.DuckDBPyConnection") -> bool:
    """Whether the file has no tables yet: whoever made it was killed before it had them."""
    import duckdb

    try:
        db.execute("SELECT 1 FROM meta LIMIT 0").fetchall()  # a look into the catalog takes 8 ms
    except duckdb.CatalogException:
        return True
    return False


def last_batch(db: "duckdb.DuckDBPyConnection") -> Head:
    """The newest batch that the DuckDB file holds."""
    row = first_row(
        db, "SELECT sequence, hash, inbox_seq FROM batch ORDER BY sequence DESC LIMIT 1"
    )
    return Head(*row) if row else Head(0, "", 0)


def fold_records(db: "duckdb.DuckDBPyConnection", records: list[tuple[int, str, bytes]]) -> Head:
    """Writes inbox records (seq, table, JSON lines), in their order, as one batch; returns the new head.

    Records that the file holds already (a kill came between its commit and the inbox's) are left out.
    """
    before = last_batch(db)
    by_table: dict[str, list[bytes]] = defaultdict(list)
    for seq, name, body in records:
        if seq > before.inbox_seq:
            by_table[name].append(body)
    if not by_table:
        return Head(before.sequence, before.hash, records[-1][0])
    sequence = before.sequence + 1
    digest = hashlib.sha256(before.hash.encode())
    count = 0
    db.execute("BEGIN")
    for name, table in TABLES.items():
        if name in by_table:
            new = _insert(db, table, _arrow(table, b"\n".join(by_table[name])), sequence)
            count += new
            if new and not table.wide:
                digest.update(batch_digest(db, name, sequence).encode())
    head = Head(sequence, digest.hexdigest(), records[-1][0])
    db.execute(
        "INSERT INTO batch VALUES (?, ?, ?, ?, make_timestamp(?))",
        [sequence, count, head.hash, head.inbox_seq, now_us()],
    )
    db.execute("COMMIT")
    return head


def batch_digest(db: "duckdb.DuckDBPyConnection", table: str, sequence: int) -> str:
    """SHA-256 over the rows of one table in one batch, as JSON lines in the order of their ids."""
    row = first_row(
        db,
        f"SELECT sha256(coalesce(string_agg(to_json(r)::VARCHAR, chr(10) ORDER BY r.id), '')) "
        f"FROM {table} r WHERE r.batch = ?",
        [sequence],
    )
    assert row is not None
    return f"{table}:{row[0]}"


def verify_chain(db: "duckdb.DuckDBPyConnection") -> None:
    """Recomputes every batch's hash. Raises LedgerDamaged naming the first batch that was altered."""
    previous = ""
    for sequence, expected in db.execute(
        "SELECT sequence, hash FROM batch ORDER BY sequence"
    ).fetchall():
        digest = hashlib.sha256(previous.encode())
        for name, table in TABLES.items():
            if not table.wide and _touched(db, name, sequence):
                digest.update(batch_digest(db, name, sequence).encode())
        if digest.hexdigest() != expected:
            raise LedgerDamaged(
                f"batch {sequence} of the ledger does not match its hash {expected}: rows were "
                "altered after they were written; restore the file from a backup."
            )
        previous = expected


def verify_texts(db: "duckdb.DuckDBPyConnection") -> None:
    """Holds every prompt and answer against the hash that its narrow row keeps. Raises LedgerDamaged."""
    altered = first_row(
        db,
        "SELECT s.key FROM sample s JOIN sample_text x ON x.sample = s.id "
        "WHERE sha256(x.text) <> s.text_sha ORDER BY s.id LIMIT 1",
    )
    if altered is not None:
        raise LedgerDamaged(_altered("the answer of sample", altered[0]))
    prompts = (
        "SELECT p.key, x.messages, x.tools, x.json_schema FROM prompt p "
        "JOIN prompt_text x ON x.prompt = p.id"
    )
    for key, *texts in db.execute(prompts).fetchall():
        if Prompt.from_row(*texts).key != key:
            raise LedgerDamaged(_altered("prompt", key))


def _altered(what: str, key: str) -> str:
    return (
        f"{what} {key} does not match its hash: its text was altered after it was written; restore "
        "the ledger from a backup."
    )


def _touched(db: "duckdb.DuckDBPyConnection", table: str, sequence: int) -> bool:
    query = f"SELECT 1 FROM {table} WHERE batch = ? LIMIT 1"
    return first_row(db, query, [sequence]) is not None


def _arrow(table: Table, lines: bytes) -> "pa.Table":
    """The rows in JSON lines, read without making a Python object of each, and numbered by `_n`."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.json as pj

    types = {
        "VARCHAR": pa.string(),
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "TIMESTAMP": pa.int64(),
        "FLOAT[]": pa.string(),
    }
    schema = pa.schema(
        [(c.name, pa.string() if c.refers_to else types[c.type]) for c in table.columns]
    )
    rows = pj.read_json(
        pa.BufferReader(lines),
        pj.ReadOptions(block_size=len(lines) + 1),
        pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
    ).combine_chunks()
    columns = {
        "_n": pa.Array.from_buffers(
            pa.int64(), len(rows), [None, pa.py_buffer(np.arange(len(rows)))]
        )
    }
    for column in table.columns:
        values = rows[column.name]
        if column.type == "TIMESTAMP":  # a cast would load pyarrow.compute, a tenth of a second
            values = pa.chunked_array(
                [c.view(pa.timestamp("us")) for c in values.chunks], pa.timestamp("us")
            )
        elif column.type == "FLOAT[]":
            vectors = [np.frombuffer(bytes.fromhex(v.as_py()), "<f4") for v in values]
            values = pa.array(vectors, pa.list_(pa.float32()))
        columns[column.name] = values
    return pa.table(columns)


def _insert(
    db: "duckdb.DuckDBPyConnection", table: Table, incoming: "pa.Table", sequence: int
) -> int:
    """Inserts `incoming` (keys for references) into `table`; returns how many rows were new."""
    db.register("incoming", incoming)
    joins, columns = [], []
    for column in table.columns:
        if column.refers_to:
            alias = f"r_{column.name}"
            joins.append(
                f"LEFT JOIN (SELECT key, max(id) AS id FROM {column.refers_to} WHERE key IN "
                f'(SELECT "{column.name}" FROM incoming) GROUP BY key) {alias} '
                f'ON {alias}.key = i."{column.name}"'
            )
            columns.append(f'{alias}.id AS "{column.name}"')
        else:
            columns.append(f'i."{column.name}"')
    select = f"SELECT i._n, {', '.join(columns)} FROM incoming i {' '.join(joins)}"
    _check_references(db, table)
    where = ""
    if table.unique:
        key = ", ".join(f'"{name}"' for name in table.unique)
        match = " AND ".join(f't."{name}" IS NOT DISTINCT FROM s."{name}"' for name in table.unique)
        select = f"SELECT * FROM ({select}) QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY _n) = 1"
        where = f"WHERE NOT EXISTS (SELECT 1 FROM {table.name} t WHERE {match})"
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    start = f"(SELECT coalesce(max(id), 0) FROM {table.name})"
    inserted = first_row(
        db,
        f"INSERT INTO {table.name} SELECT {start} + row_number() OVER (ORDER BY _n), ?, {names} "
        f"FROM ({select}) s {where}",
        [sequence],
    )
    db.unregister("incoming")
    return int(inserted[0]) if inserted else 0


def _check_references(db: "duckdb.DuckDBPyConnection", table: Table) -> None:
    """A row may refer to nothing (NULL), but never to a key that was not put before it."""
    lost = " UNION ALL ".join(
        f'SELECT \'{column.name}\', "{column.name}" FROM incoming WHERE "{column.name}" IS NOT NULL '
        f'AND "{column.name}" NOT IN (SELECT key FROM {column.refers_to})'
        for column in table.columns
        if column.refers_to
    )
    if lost:
        found = first_row(db, f"{lost} LIMIT 1")
        assert found is None, f"{table.name} refers to what is not there: {found}"
