"""The ledger as the rooms use it: put rows, fold them, read them.

    ledger = Ledger(Path("runs/ledger"))
    with ledger.writing("run quickstart"):
        ledger.put("prompt", [{"key": ..., "source": ..., "chars": ...}])   # durable on return
        ledger.fold()
    ledger.rows("SELECT count(*) FROM prompt")

One process writes at a time, by a lock that names its holder; any number read, also while a run
goes on, since the DuckDB file is opened for writing only while it folds.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from ledger.errors import BadQuery, LedgerBusy, LedgerDamaged, LedgerError
from ledger.folding import (
    MAX_BYTES,
    MAX_ROWS,
    ROW_GROUP_ROWS,
    first_row,
    fold_records,
    is_new,
    last_batch,
    prepare,
    verify_chain,
    verify_texts,
)
from ledger.inbox import Batch, Head, Inbox, read_head
from ledger.keys import now_us

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

T = TypeVar("T")

DATABASE, INBOX, LOCK = "ledger.duckdb", "inbox.sqlite", "writer.lock"
READER_PATIENCE_S = 20.0
TORN_PATIENCE_S = 2.0
FOLD_PATIENCE_S = 600.0  # a fold waits for readers; what waits with it is safe in the inbox
SEALED: dict[str, Any] = {"enable_external_access": "false", "lock_configuration": "true"}


class Ledger:
    """A ledger folder. Reading needs nothing more; writing happens inside `writing()`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / DATABASE
        self._inbox: Inbox | None = None
        # DuckDB refuses two configurations of one file in a process, so folds and reads take turns.
        self._turn = threading.RLock()
        self._open: duckdb.DuckDBPyConnection | None = None  # inside `reading`
        self._checked: Head | None = None  # the newest head that the DuckDB file was held against

    @contextlib.contextmanager
    def writing(self, purpose: str) -> Iterator["Ledger"]:
        """Holds the writer's lock. Raises LedgerBusy, naming the holder, if another process does."""
        with _locked(self.folder, purpose):
            if self.database.exists() and not (self.folder / INBOX).exists():
                raise LedgerDamaged(
                    f"{self.folder} has {DATABASE} but no {INBOX}, which holds its head and what was "
                    "not folded yet: restore it from a backup, or give `run:` another folder."
                )
            self._inbox, self._checked = Inbox(self.folder / INBOX), None
            try:
                self.fold()
                yield self
                self.fold()
            finally:
                inbox, self._inbox = self._inbox, None
                inbox.close()

    def put(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Adds rows to one table; they are durable when this returns."""
        self.put_all([(table, rows)])

    def put_all(self, batch: Batch) -> None:
        """Adds rows to several tables, all or none; they are durable when this returns."""
        self._writer().submit(batch).result()

    async def aput_all(self, batch: Batch) -> None:
        """Like `put_all`, awaited: what is put while a commit goes on shares the next one."""
        await asyncio.wrap_future(self._writer().submit(batch))

    def fold(self) -> None:
        """Moves what waits in the inbox by now into DuckDB; waits while readers hold the file."""
        inbox = self._writer()
        newest = inbox.newest()
        while True:
            with self._turn:
                records = inbox.pending(MAX_ROWS, MAX_BYTES, newest)
                head = inbox.head()
                if not records and (self._checked == head or self._is_whole(head)):
                    self._checked = head
                    return
                with _patient(self._connect_to_fold, FOLD_PATIENCE_S) as db:
                    prepare(db)
                    _check_head(self.folder, head, db)
                    self._checked = fold_records(db, records) if records else head
                if records:
                    inbox.acknowledge(self._checked)

    def _is_whole(self, head: Head) -> bool:
        """Whether the file is there with its tables. Raises LedgerDamaged where it ends before the head."""
        if not self.database.exists():
            return False
        with _patient(self._connect_to_read, READER_PATIENCE_S) as db:
            if is_new(db):
                return False
            _check_head(self.folder, head, db)
        return True

    @contextlib.contextmanager
    def reading(self) -> "Iterator[duckdb.DuckDBPyConnection]":
        """Keeps the DuckDB file open for the reads inside, since opening it costs 30 ms.

        Nothing may be folded inside, and other processes' folds wait: be short.
        """
        with self._turn:
            if self._open is not None:
                yield self._open
                return
            nothing = LedgerError(
                f"there is no ledger in {self.folder} yet: `tutelage run RECIPE` makes it."
            )
            if not self.database.exists():
                raise nothing
            head = read_head(self.folder / INBOX)[0] if (self.folder / INBOX).exists() else None
            with self._opened(head) as db:
                if is_new(db):
                    raise nothing
                self._open = db
                try:
                    yield db
                finally:
                    self._open = None

    @contextlib.contextmanager
    def _opened(self, head: Head | None) -> "Iterator[duckdb.DuckDBPyConnection]":
        """Opens the file to read and holds it against the head; once more where a block is not all there, which
        a reader may see that comes while another process ends a fold."""
        import duckdb

        deadline = time.monotonic() + TORN_PATIENCE_S
        while True:
            with _patient(self._connect_to_read, READER_PATIENCE_S) as db:
                try:
                    if head is not None:
                        _check_head(self.folder, head, db)
                except duckdb.IOException as error:
                    if time.monotonic() > deadline:
                        raise LedgerDamaged(
                            f"the ledger's DuckDB file cannot be read: {error}. Restore it from a backup."
                        ) from error
                else:
                    yield db
                    return
            time.sleep(0.05)

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a query gives over what is folded. Raises LedgerError for a bad query."""
        return self._read(lambda db: db.execute(sql, list(params)).fetchall())

    def arrow(self, sql: str, params: Sequence[Any] = ()) -> "pa.Table":
        """The same as an Arrow table."""
        return self._read(lambda db: db.sql(sql, params=list(params)).to_arrow_table())

    def table(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and rows of a query, for a person. Read-only, and sealed off from the host.

        Raises BadQuery for one that cannot be answered.
        """
        import duckdb

        def read(db: "duckdb.DuckDBPyConnection") -> tuple[list[str], list[tuple[Any, ...]]]:
            try:
                if len(db.extract_statements(sql)) != 1:
                    raise BadQuery("give one SQL statement, such as `SELECT count(*) FROM sample`")
                cursor = db.execute(sql)
                return [column[0] for column in cursor.description or []], cursor.fetchall()
            except duckdb.Error as error:
                if _is_ctrl_c(error):
                    raise
                raise BadQuery(f"the ledger cannot answer that query: {error}") from error

        return self._read(read)

    def waiting(self) -> int:
        """Rows that are durable in the inbox but not folded yet."""
        return read_head(self.folder / INBOX)[1] if (self.folder / INBOX).exists() else 0

    def holder(self) -> dict[str, Any] | None:
        """Who holds the writer's lock now: `pid`, `purpose`, `since`; None if nobody does."""
        path = self.folder / LOCK
        if not path.exists():
            return None
        with path.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _named_holder(file)
        return None

    def verify(self) -> None:
        """Recomputes the hash chain and the hashes of prompts and answers.

        Raises LedgerDamaged naming the first batch, prompt or answer that was altered.
        """
        self._read(verify_chain)
        self._read(verify_texts)

    def _writer(self) -> Inbox:
        assert self._inbox is not None, "puts and folds happen inside `with ledger.writing(...)`"
        return self._inbox

    def _read(self, query: Callable[["duckdb.DuckDBPyConnection"], T]) -> T:
        import duckdb

        with self.reading() as db:
            try:
                return query(db)
            except duckdb.Error as error:
                if _is_ctrl_c(error):
                    raise
                raise LedgerError(f"the ledger cannot answer that query: {error}") from error

    def _connect_to_read(self) -> "duckdb.DuckDBPyConnection":
        import duckdb

        return duckdb.connect(str(self.database), read_only=True, config=SEALED)

    def _connect_to_fold(self) -> "duckdb.DuckDBPyConnection":
        import duckdb

        db = duckdb.connect()  # in memory: only an attached file can be told its row groups
        path = str(self.database).replace("'", "''")
        try:
            db.execute(f"ATTACH '{path}' AS folded (ROW_GROUP_SIZE {ROW_GROUP_ROWS})")
            db.execute("USE folded")
            db.execute("SET enable_external_access = false")
        except BaseException:
            db.close()
            raise
        return db


@contextlib.contextmanager
def _patient(
    connect: "Callable[[], duckdb.DuckDBPyConnection]", patience_s: float
) -> "Iterator[duckdb.DuckDBPyConnection]":
    """Opens DuckDB, waiting while another process holds it. Raises LedgerBusy in the end."""
    import duckdb

    deadline = time.monotonic() + patience_s
    pause = 0.005
    while True:
        try:
            db = connect()
            break
        except duckdb.IOException as error:
            if "lock" not in str(error).lower():
                raise LedgerDamaged(
                    f"the ledger's DuckDB file cannot be opened: {error}. Restore it from a backup."
                ) from error
            if time.monotonic() > deadline:
                raise LedgerBusy(
                    f"the ledger stayed locked for {patience_s:.0f} s: {error}"
                ) from error
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        except duckdb.Error as error:
            raise LedgerDamaged(
                f"the ledger's DuckDB file cannot be read: {error}. Restore it from a backup."
            ) from error
    with contextlib.closing(db):
        try:
            yield db
        except (duckdb.Error, RuntimeError) as error:
            if _is_ctrl_c(error):
                raise KeyboardInterrupt from error
            raise


def _is_ctrl_c(error: Exception) -> bool:
    """Whether an error is what DuckDB makes of Ctrl-C, which arrives while it reads or computes."""
    import duckdb

    told = str(error)
    return (
        isinstance(error, duckdb.InterruptException)
        or told.startswith("Query interrupted")
        or "failed: KeyboardInterrupt" in told
    )


def _check_head(folder: Path, head: Head, db: "duckdb.DuckDBPyConnection") -> None:
    """DuckDB opens a file with a torn log silently short; the head kept outside shows it."""
    if head.sequence == 0:
        return
    found = last_batch(db)
    row = first_row(db, "SELECT hash FROM batch WHERE sequence = ?", [head.sequence])
    if row is None or row[0] != head.hash:
        raise LedgerDamaged(
            f"{folder / DATABASE} ends at batch {found.sequence}, but batch {head.sequence} was "
            f"acknowledged (hash {head.hash[:12]}): {max(head.sequence - found.sequence, 1)} batches "
            "are missing or altered. Restore the file from a backup, or give `run:` another folder "
            "(what is missing is bought again)."
        )


@contextlib.contextmanager
def _locked(folder: Path, purpose: str) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+")
    except OSError as error:
        raise LedgerError(
            f"the ledger folder {folder} cannot be written ({error.strerror}): "
            "make it writable, or give `run:` another folder."
        ) from error
    with file:
        try:
            _lock_exclusively(file)
        except BlockingIOError:
            holder = _named_holder(file) or {}
            raise LedgerBusy(
                f"the ledger {folder} is held by process {holder.get('pid', '?')} "
                f"({holder.get('purpose', 'unknown')}): wait until it ends, or stop it; "
                "`tutelage status` shows how far it is."
            ) from None
        file.truncate(0)
        json.dump({"pid": os.getpid(), "purpose": purpose, "since": now_us()}, file)
        file.flush()
        yield


def _lock_exclusively(file: IO[str]) -> None:
    """Tries for a moment: somebody who only looks who holds it has it for an instant."""
    for _ in range(10):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.03)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _named_holder(file: IO[str]) -> dict[str, Any] | None:
    file.seek(0)
    try:
        return dict(json.loads(file.read()))
    except ValueError:
        return {"pid": "?", "purpose": "unknown"}
