"""SIGKILL of a real process while it buys, and on with it: nothing lost, nothing bought twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from ledger.store import Ledger
from tests.router.engine.buying_child import run
from tests.router.fault_server import FaultServer

ROOT = Path(__file__).parents[3]
GROUPING_S = 0.25  # commits are grouped for 0.02 s; a busy machine is given more


def start(ledger: Path, teacher: Path, n: int) -> subprocess.Popen[str]:
    """Starts a child that buys; returns when it is about to."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.router.engine.buying_child", ledger, teacher, str(n)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "buying\n"
    return child


def kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert child.stdout is not None
    child.stdout.close()


def samples(folder: Path) -> list[tuple[str, str]]:
    """(prompt, answer) of every sample that is durable, folded or not."""
    ledger = Ledger(folder)
    with ledger.writing("look"):
        rows = ledger.rows(
            "SELECT p.messages, x.text FROM sample s JOIN sample_text x ON x.sample = s.id "
            "JOIN prompt_text p ON p.prompt = s.prompt"
        )
    return sorted((json.loads(messages)[0]["content"], text) for messages, text in rows)


def test_acknowledged_answers_survive_sigkill_and_are_not_bought_again(tmp_path: Path) -> None:
    n, in_flight = 300, 8
    dice = random.Random(11)
    teacher, folder = tmp_path / "teacher.json", tmp_path / "ledger"
    with FaultServer(delay_s=0.02) as server:
        fields = {"http": "m", "url": server.url, "licence": "MIT", "max_in_flight": in_flight}
        teacher.write_text(json.dumps(fields))
        have: set[str] = set()
        for _ in range(2):
            server.calls.clear()
            target = dice.randrange(30, 100)
            child = start(folder, teacher, n)
            while len(server.calls) < target:
                time.sleep(0.002)
            killed_at = time.monotonic()
            kill(child)
            sent = {call.prompt for call in server.calls}
            assert not sent & have
            before = have
            have = {prompt for prompt, _ in samples(folder)}
            assert before < have
            late = [c for c in server.calls if (c.answered_at or 0) > killed_at - GROUPING_S]
            assert len(sent - have) <= in_flight + len(late)
        server.calls.clear()
        purchase = run(folder, teacher, n)
        assert (purchase.reused, purchase.bought) == (len(have), n - len(have))
        assert {call.prompt for call in server.calls} == {f"prompt {i}" for i in range(n)} - have
        assert len(server.calls) == n - len(have)
    found = samples(folder)
    assert Counter(prompt for prompt, _ in found) == {f"prompt {i}": 1 for i in range(n)}
    assert all(text == f"echo {prompt}" for prompt, text in found)


@pytest.mark.slow
def test_local_batches_come_out_as_if_never_killed(tiny_model: Path, tmp_path: Path) -> None:
    n, batch = 64, 4
    teacher = tmp_path / "teacher.json"
    fields = {"local": str(tiny_model), "licence": "MIT", "batch_size": batch}
    teacher.write_text(json.dumps(fields))
    run(tmp_path / "whole", teacher, n)
    child = start(tmp_path / "killed", teacher, n)
    inbox = Ledger(tmp_path / "killed")
    while inbox.waiting() < 2 * 3 * batch:  # the first batches are in
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.0005)
    kill(child)
    durable = len(samples(tmp_path / "killed"))
    assert 0 < durable < n
    assert durable % batch == 0
    assert run(tmp_path / "killed", teacher, n).reused == durable
    assert samples(tmp_path / "killed") == samples(tmp_path / "whole")
