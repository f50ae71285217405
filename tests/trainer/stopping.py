"""Ends trainings early, by an exception inside or by SIGKILL, and compares what is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.training_child import run
from trainer.losslog import read_log


class Stopped(Exception):
    """What a test raises inside a training."""


def stop_at(folder: Path, name: str, step: int, **changes: Any) -> None:
    """Interrupts a training after `step`."""
    from trainer import sft

    original = sft.Bookkeeper.on_step_end

    def stopping(self: Any, args: Any, state: Any, control: Any, **parts: Any) -> None:
        original(self, args, state, control, **parts)
        if state.global_step == step:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sft.Bookkeeper, "on_step_end", stopping)
        with pytest.raises(Stopped):
            run(folder, name, **changes)


def kill_when(folder: Path, name: str, moment: str, kind: str = "hard") -> None:
    """Starts a training and kills it when `moment` is in its folder of checkpoints."""
    command = [sys.executable, "-m", "tests.trainer.training_child", str(folder), name, kind]
    child = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    checkpoints = folder / f"{name}.training" / "checkpoints"
    wanted = checkpoints / moment
    deadline = time.monotonic() + 120
    while not (wanted.exists() and (checkpoints / "checkpoint-5").exists()):
        assert child.poll() is None, "the child ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    child.kill()
    assert child.wait() == -signal.SIGKILL


def without_times(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, less what differs between two runs of the same."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_log(path)]
