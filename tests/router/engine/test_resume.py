"""SIGKILL of a real process while it buys, and on with it: nothing lost, nothing bought twice."""

import json
import time
from pathlib import Path

import pytest

from ledger.store import Ledger
from tests.faults.rows.ledger import Killed, kill_and_resume
from tests.router.engine.buying import buy_all, kill, samples, start


def test_acknowledged_answers_survive_sigkill_and_are_not_bought_again(tmp_path: Path) -> None:
    found = kill_and_resume(tmp_path, calls=400, kills=3, seed=11)
    repeated = found.most_repeated
    assert found.excess <= 0, f"{found.excess} more than in flight and in the last 50 ms"
    assert found == Killed(most_repeated=repeated, excess=found.excess, same=True)


@pytest.mark.slow
def test_local_batches_come_out_as_if_never_killed(tiny_model: Path, tmp_path: Path) -> None:
    n, batch = 64, 4
    teacher = tmp_path / "teacher.json"
    fields = {"local": str(tiny_model), "licence": "MIT", "batch_size": batch}
    teacher.write_text(json.dumps(fields))
    buy_all(tmp_path / "whole", teacher, n)
    child = start(tmp_path / "killed", teacher, n)
    inbox = Ledger(tmp_path / "killed")
    while inbox.waiting() < 2 * 3 * batch:  # the first batches are in
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.0005)
    kill(child)
    durable = len(samples(tmp_path / "killed"))
    assert 0 < durable < n
    assert durable % batch == 0
    assert buy_all(tmp_path / "killed", teacher, n).reused == durable
    assert samples(tmp_path / "killed") == samples(tmp_path / "whole")
