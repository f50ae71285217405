"""The ledger's promises: nothing acknowledged is lost, nothing is written twice, readers always get in."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from ledger import store
from ledger.errors import LedgerBusy, LedgerDamaged, LedgerError
from ledger.inbox import Head, Inbox
from ledger.keys import now_us, request_key, sample_key
from ledger.prompts import Prompt
from ledger.store import DATABASE, INBOX, Ledger


def put_prompts(ledger: Ledger, texts: list[str]) -> list[Prompt]:
    prompts = [Prompt.of(text) for text in texts]
    ledger.put_all([row for prompt in prompts for row in prompt.rows("test")])
    return prompts


def request_row(key: str, prompt: str, teacher: str, state: str = "done") -> dict:
    return {
        "key": key, "prompt": prompt, "teacher": teacher, "task": "", "n": 0, "sampling": "{}",
        "max_tokens": 8, "top_logprobs": 0,
        "state": state, "reason": "", "error_class": None, "attempts": 1, "queued_at": now_us(),
        "started_at": now_us(), "ended_at": now_us(), "prompt_tokens": 1, "completion_tokens": 1,
        "cost_usd": 0.0, "price_source": "recipe", "stage": "generate", "run": "t",
    }  # fmt: skip


def teacher_row(key: str) -> dict:
    return {
        "key": key, "name": "a", "kind": "local", "model": "m", "revision": "r", "settings": "{}",
    }  # fmt: skip


def test_rows_come_back_with_references_resolved(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.writing("test"):
        prompt = put_prompts(ledger, ["what is 1+1?"])[0]
        ledger.put("teacher", [teacher_row("t" * 32)])
        request = request_key(prompt.key, "t" * 32, {}, 0)
        sample = {
            "key": sample_key(request, "2"), "request": request, "prompt": prompt.key,
            "teacher": "t" * 32, "model": "m", "text_sha": "", "finish_reason": "stop", 
            "completion_tokens": 1,
            "recorded_at": now_us(),
        }  # fmt: skip
        ledger.put_all(
            [("request", [request_row(request, prompt.key, "t" * 32)]), ("sample", [sample])]
        )
    rows = ledger.rows(
        "SELECT p.key, t.name, r.state FROM sample s JOIN prompt p ON s.prompt = p.id "
        "JOIN teacher t ON s.teacher = t.id JOIN request r ON s.request = r.id"
    )
    assert rows == [(prompt.key, "a", "done")]


def test_the_same_key_is_stored_once_however_often_it_is_put(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.writing("test"):
        put_prompts(ledger, ["one", "two", "one"])
        ledger.fold()
        put_prompts(ledger, ["two", "three"])
    assert ledger.rows("SELECT count(*), max(id) FROM prompt") == [(3, 3)]
    assert ledger.rows("SELECT count(*) FROM prompt_text") == [(3,)]


def test_vectors_and_odd_characters_survive(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    text = "nul \x00 esc \x1b bidi \u202e emoji 🙂"
    vector = np.array([0.1, -2.5, 3e-8], "<f4")
    with ledger.writing("test"):
        prompt = put_prompts(ledger, [text])[0]
        ledger.put("embedding", [{"prompt": prompt.key, "model": "m", "vector": vector.tobytes()}])
    assert ledger.rows("SELECT vector FROM embedding")[0][0] == pytest.approx(vector.tolist())
    assert "\\u0000" in ledger.rows("SELECT messages FROM prompt_text")[0][0]


def test_a_lone_surrogate_is_refused_before_it_is_acknowledged(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.writing("test"), pytest.raises(LedgerError, match="lone surrogate"):
        ledger.put("prompt", [{"key": "k" * 32, "source": "\ud800", "chars": 1}])
    with ledger.writing("test"):
        put_prompts(ledger, ["fine"])
    assert ledger.rows("SELECT count(*) FROM prompt") == [(1,)]


def test_awaited_puts_share_commits_and_are_all_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, commit, groups = Ledger(tmp_path), Inbox._commit, []

    def counted(inbox: Inbox, group: list[Any]) -> None:
        groups.append(group)
        commit(inbox, group)

    monkeypatch.setattr(Inbox, "_commit", counted)

    async def many() -> None:
        await asyncio.gather(*(ledger.aput_all(Prompt.of(str(i)).rows("t")) for i in range(500)))

    with ledger.writing("test"):
        asyncio.run(many())
    assert len(groups) < 100
    assert ledger.rows("SELECT count(*) FROM prompt") == [(500,)]


WRITER = """
import sys
from pathlib import Path
from ledger.prompts import Prompt
from ledger.store import Ledger

ledger = Ledger(Path(sys.argv[1]))
with ledger.writing("child"):
    for number in range(100_000):
        prompt = Prompt.of(f"{sys.argv[2]} {number}")
        ledger.put_all(prompt.rows("child"))
        print(prompt.key, flush=True)
        if number % 7 == 3:
            ledger.fold()
"""


def start_writer(folder: Path, word: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), word],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_acknowledged_rows_survive_sigkill(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for attempt in range(6):
        child = start_writer(tmp_path, f"w{attempt}")
        assert child.stdout is not None
        acknowledged.append(child.stdout.readline().strip())
        time.sleep(0.05 + 0.037 * attempt)
        child.send_signal(signal.SIGKILL)
        # The last line may be torn; only whole lines are acknowledgements.
        rest = child.stdout.read().splitlines(keepends=True)
        acknowledged.extend(line.strip() for line in rest if line.endswith("\n"))
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
    ledger = Ledger(tmp_path)
    with ledger.writing("after"):
        pass
    stored = [row[0] for row in ledger.rows("SELECT key FROM prompt")]
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)
    ledger.verify()


def test_a_reader_gets_in_while_a_run_goes_on(tmp_path: Path) -> None:
    child = start_writer(tmp_path, "busy")
    try:
        assert child.stdout is not None
        for _ in range(10):
            child.stdout.readline()
        ledger = Ledger(tmp_path)
        for _ in range(20):
            assert ledger.rows("SELECT count(*) FROM prompt")[0][0] >= 1
        holder = ledger.holder()
        assert holder is not None
        assert holder["pid"] == child.pid
    finally:
        child.kill()
        child.communicate()
    assert ledger.holder() is None


def test_a_block_that_is_not_all_there_is_read_again_and_then_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the moment at which another process ends a fold: it cannot be hit at will."""
    with (ledger := Ledger(tmp_path)).writing("test"):
        put_prompts(ledger, ["one"])
        ledger.fold()
    check, seen = store._check_head, list[int]()

    def torn(folder: Path, head: Head, db: Any) -> None:
        seen.append(1)
        if len(seen) <= times:
            raise duckdb.IOException("Could not read enough bytes from file")
        check(folder, head, db)

    monkeypatch.setattr(store, "_check_head", torn)
    times = 3
    assert ledger.rows("SELECT count(*) FROM prompt") == [(1,)]
    monkeypatch.setattr(store, "TORN_PATIENCE_S", 0.2)
    times = 1_000_000
    with pytest.raises(LedgerDamaged, match="cannot be read"):
        ledger.rows("SELECT 1")


def test_a_second_writer_is_told_who_holds_the_ledger(tmp_path: Path) -> None:
    child = start_writer(tmp_path, "first")
    try:
        assert child.stdout is not None
        child.stdout.readline()
        with (
            pytest.raises(LedgerBusy, match=rf"process {child.pid} \(child\)"),
            Ledger(tmp_path).writing("second"),
        ):
            pass
    finally:
        child.kill()
        child.communicate()


def test_a_fold_waits_for_a_reader_and_then_goes_on(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.writing("test"):
        put_prompts(ledger, ["one"])
    code = textwrap.dedent("""
        import duckdb, sys, time
        db = duckdb.connect(sys.argv[1], read_only=True)
        print("open", flush=True)
        time.sleep(1.5)
    """)
    reader = subprocess.Popen(
        [sys.executable, "-c", code, str(ledger.database)], stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    reader.stdout.readline()
    with Ledger(tmp_path).writing("test") as other:
        put_prompts(other, ["two"])
    reader.communicate()
    assert ledger.rows("SELECT count(*) FROM prompt") == [(2,)]


def test_a_fold_cut_off_before_the_inbox_is_cleared_is_not_written_twice(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.writing("test"):
        put_prompts(ledger, ["one"])
    with sqlite3.connect(tmp_path / INBOX) as db:
        seq = db.execute("SELECT inbox_seq FROM head").fetchone()[0]
        db.execute(
            "INSERT INTO inbox (seq, tbl, n, body) VALUES (?, 'licence', 1, ?)",
            (seq, b'[{"kind":"source","subject":"x","licence":"MIT","recorded_at":1}]'),
        )
    with ledger.writing("test"):
        pass
    assert ledger.rows("SELECT count(*) FROM licence") == [(0,)]


def test_a_duckdb_file_shorter_than_its_head_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.writing("test"):
        put_prompts(ledger, ["one"])
    older = ledger.database.read_bytes()
    with ledger.writing("test"):
        put_prompts(ledger, ["two"])
    ledger.database.write_bytes(older)
    with pytest.raises(LedgerDamaged, match="1 batches are missing"):
        ledger.rows("SELECT 1")
    with pytest.raises(LedgerDamaged, match="Restore the file"), ledger.writing("test"):
        pass


def test_a_missing_duckdb_file_or_inbox_is_noticed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.writing("test"):
        put_prompts(ledger, ["one"])
    os.rename(ledger.database, tmp_path / "away")
    with pytest.raises(LedgerDamaged, match="missing"), ledger.writing("test"):
        pass
    os.replace(tmp_path / "away", ledger.database)
    for file in tmp_path.glob(f"{INBOX}*"):
        file.unlink()
    with pytest.raises(LedgerDamaged, match="no inbox"), ledger.writing("test"):
        pass


def test_a_ledger_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.writing("test"):
        put_prompts(ledger, ["one"])
    with sqlite3.connect(tmp_path / INBOX) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(LedgerDamaged, match="schema version 99"), ledger.writing("test"):
        pass
    with pytest.raises(LedgerDamaged, match="schema version 99"):
        ledger.rows("SELECT 1")


def test_long_texts_are_folded_in_parts_in_a_folder_with_a_quote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_BYTES", 5_000)
    ledger = Ledger(tmp_path / "the student's")
    with ledger.writing("test"):
        for number in range(9):
            put_prompts(ledger, [f"{number} " + "x" * (20_000 if number == 5 else 2_000)])
    assert ledger.rows("SELECT count(*) FROM prompt_text") == [(9,)]
    assert ledger.rows("SELECT max(sequence) > 3, max(sequence) <= 10 FROM batch") == [(True, True)]
    ledger.verify()


def test_a_batch_of_nothing_new_leaves_the_chain_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for text in ("one", "one", "two"):
        with ledger.writing("test"):
            put_prompts(ledger, [text])
    ledger.verify()


def test_an_altered_row_breaks_the_chain(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.writing("test"):
        put_prompts(ledger, ["one", "two"])
    ledger.verify()
    db = duckdb.connect(str(tmp_path / DATABASE))
    db.execute("UPDATE prompt SET source = 'forged' WHERE id = 2")
    db.close()
    with pytest.raises(LedgerDamaged, match="batch 1"):
        ledger.verify()


def test_an_altered_text_does_not_match_its_hash(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.writing("test"):
        put_prompts(ledger, ["one", "two"])
    db = duckdb.connect(str(tmp_path / DATABASE))
    db.execute("UPDATE prompt_text SET messages = replace(messages, 'two', 'forged')")
    db.close()
    with pytest.raises(LedgerDamaged, match="its text was altered"):
        ledger.verify()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/hostname')",
        "CREATE TABLE x (a INT)",
        "DELETE FROM prompt",
        "COPY prompt TO 'out.csv'",
        "ATTACH 'other.duckdb'",
        "SET enable_external_access = true",
        "nonsense",
        "",
        "SELECT 1; SELECT 2",
    ],
)
def test_queries_cannot_write_or_leave_the_ledger(tmp_path: Path, sql: str) -> None:
    ledger = Ledger(tmp_path)
    with ledger.writing("test"):
        put_prompts(ledger, ["one"])
    with pytest.raises(LedgerError):
        ledger.table(sql)
    assert ledger.table("SELECT count(*) AS n FROM prompt") == (["n"], [(1,)])


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with (
        pytest.raises(LedgerError, match="file/ledger"),
        Ledger(tmp_path / "file" / "ledger").writing("test"),
    ):
        pass


def test_reading_before_the_first_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="tutelage run"):
        Ledger(tmp_path).rows("SELECT 1")


def test_a_file_whose_maker_was_killed_before_it_had_tables_gets_them(tmp_path: Path) -> None:
    with Ledger(tmp_path).writing("killed"):
        (tmp_path / DATABASE).unlink()
        duckdb.connect(str(tmp_path / DATABASE)).close()
    with pytest.raises(LedgerError, match="tutelage run"):
        Ledger(tmp_path).rows("SELECT key FROM sample")
    with (ledger := Ledger(tmp_path)).writing("again"):
        ledger.fold()
        assert ledger.rows("SELECT count(*) FROM sample") == [(0,)]
