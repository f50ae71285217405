"""The inbox: SQLite in WAL mode with full sync. What `put` returned from survives a kill.

Records wait here until they are folded into DuckDB. One thread commits whatever was put since its
last commit, so that many small acknowledgements cost one sync. The head (sequence and hash of the newest
fold) stands here too, outside the DuckDB file, so that a DuckDB file that lost its tail is noticed.
"""

import contextlib
import math
import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger import fastjson
from ledger.errors import LedgerDamaged, LedgerError
from ledger.schema import SCHEMA_VERSION, TABLES

ROWS_PER_RECORD = 2_000

Batch = Sequence[tuple[str, Sequence[dict[str, Any]]]]
Record = tuple[str, int, bytes]  # table, rows, JSON lines


@dataclass(frozen=True, slots=True)
class Head:
    """The newest fold that was acknowledged: its number, its hash, the last inbox record in it."""

    sequence: int
    hash: str
    inbox_seq: int


NO_HEAD = Head(0, "", 0)


def encode(batch: Batch) -> list[Record]:
    """Rows as records of at most `ROWS_PER_RECORD`. Raises LedgerError for text that is not Unicode."""
    records: list[Record] = []
    for table, rows in batch:
        names = {column.name for column in TABLES[table].columns}
        assert all(row.keys() == names for row in rows), f"columns of {table} are {sorted(names)}"
        for start in range(0, len(rows), ROWS_PER_RECORD):
            part = list(rows[start : start + ROWS_PER_RECORD])
            records.append((table, len(part), _encoded(table, part)))
    return records


def _encoded(table: str, rows: list[dict[str, Any]]) -> bytes:
    if table == "embedding":
        rows = [{**row, "vector": bytes(row["vector"]).hex()} for row in rows]
    numbers = [column.name for column in TABLES[table].columns if column.type == "DOUBLE"]
    for row in rows if numbers else ():
        for name in numbers:
            if row[name] is not None and not math.isfinite(row[name]):
                raise LedgerError(
                    f"{table}.{name} cannot be {row[name]}: a ledger holds finite numbers"
                )
    try:
        return b"\n".join(map(fastjson.dumps, rows))
    except UnicodeEncodeError as error:
        raise LedgerError(
            f"a row for {table} holds a lone surrogate (half a character), which no ledger can store: "
            "reject or repair the text before it is put."
        ) from error


class Inbox:
    """The writer's side. Opened by the one process that holds the writer's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _explained(path):
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            _prepare(self._db, path)
        self._db_lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[list[Record], Future[None]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._commit_groups, name="inbox", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch) -> "Future[None]":
        """Queues rows for one atomic commit; the future resolves when they are durable."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # from here on it cannot be cancelled, only kept
        self._queue.put((encode(batch), future))
        return future

    def newest(self) -> int:
        """The number of the newest record; 0 where there is none."""
        with _explained(self.path), _reading(self.path) as db:
            return int(db.execute("SELECT coalesce(max(seq), 0) FROM inbox").fetchone()[0])

    def pending(self, max_rows: int, max_bytes: int, until: int) -> list[tuple[int, str, bytes]]:
        """The oldest records (seq, table, JSON lines) up to number `until`; no more than one where it is
        greater than the limits."""
        records: list[tuple[int, str, bytes]] = []
        total, size = 0, 0
        # A connection of its own, so that no commit waits until all is read.
        with _explained(self.path), _reading(self.path) as db:
            query = "SELECT seq, tbl, n, body FROM inbox WHERE seq <= ? ORDER BY seq"
            cursor = db.execute(query, (until,))
            for seq, table, rows, body in cursor:
                total, size = total + rows, size + len(body)
                if records and (total > max_rows or size > max_bytes):
                    break
                records.append((seq, table, body))
            cursor.close()
        return records

    def head(self) -> Head:
        """The newest acknowledged fold."""
        with self._db_lock, _explained(self.path):
            return _head_of(self._db)

    def acknowledge(self, head: Head) -> None:
        """Moves the head and clears what it covers, in one transaction."""
        with self._db_lock, _explained(self.path), _transaction(self._db):
            self._db.execute("DELETE FROM head")
            self._db.execute(
                "INSERT INTO head VALUES (?, ?, ?)", (head.sequence, head.hash, head.inbox_seq)
            )
            self._db.execute("DELETE FROM inbox WHERE seq <= ?", (head.inbox_seq,))

    def close(self) -> None:
        """Commits what is queued and closes the file."""
        self._queue.put(None)
        self._thread.join()
        self._db.close()

    def _commit_groups(self) -> None:
        while (entry := self._queue.get()) is not None:
            group = [entry]
            with contextlib.suppress(queue.Empty):
                while (entry := self._queue.get_nowait()) is not None:
                    group.append(entry)
            self._commit(group)
            if entry is None:
                return

    def _commit(self, group: list[tuple[list[Record], "Future[None]"]]) -> None:
        records = [record for entry in group for record in entry[0]]
        try:
            with self._db_lock, _explained(self.path), _transaction(self._db):
                self._db.executemany("INSERT INTO inbox (tbl, n, body) VALUES (?, ?, ?)", records)
        except BaseException as error:
            for _, future in group:
                future.set_exception(error)
        else:
            for _, future in group:
                future.set_result(None)


def read_head(path: Path) -> tuple[Head, int]:
    """The head and the number of rows that wait, for a process that only reads."""
    with _explained(path), _reading(path) as db:
        _check_version(db, path)
        waiting = db.execute("SELECT coalesce(sum(n), 0) FROM inbox").fetchone()[0]
        return _head_of(db), int(waiting)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)
    with contextlib.closing(db):
        yield db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    if db.execute("PRAGMA user_version").fetchone()[0] == 0:
        with _transaction(db):
            db.execute(
                "CREATE TABLE IF NOT EXISTS inbox "
                "(seq INTEGER PRIMARY KEY AUTOINCREMENT, tbl TEXT, n INTEGER, body BLOB)"
            )
            db.execute(
                "CREATE TABLE IF NOT EXISTS head (sequence INTEGER, hash TEXT, inbox_seq INTEGER)"
            )
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    _check_version(db, path)


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise LedgerDamaged(
            f"{path.parent} is a ledger of schema version {version}, this Tutelage reads version "
            f"{SCHEMA_VERSION}: use the Tutelage that wrote it, or give `run:` another folder."
        )


def _head_of(db: sqlite3.Connection) -> Head:
    row = db.execute("SELECT sequence, hash, inbox_seq FROM head").fetchone()
    return Head(*row) if row else NO_HEAD


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise LedgerError(
            f"the ledger's inbox {path} cannot be used: {error}. What was acknowledged before is "
            "unharmed; check that the disk has space and that the folder can be written, then run again."
        ) from error
