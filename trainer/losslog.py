"""The loss log: one JSON line every few steps, whole and without doubled steps across resumes."""

import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ledger.keys import write_atomically
from trainer.errors import Diverged

LOG_NAME = "training_log.jsonl"
POINTS = 200  # lines in a whole log, about


@dataclass(slots=True)
class Window:
    """What has been trained since the last line, and in all. Saved with each checkpoint."""

    loss: float = 0.0  # sum over steps of the mean loss per trained token
    steps: int = 0
    tokens: int = 0  # trained tokens since step 0
    seconds: float = 0.0  # training time since step 0, whatever lay between


@dataclass(slots=True)
class LossLog:
    """Adds up losses where they are computed, and reads them only when a line is due."""

    path: Path
    every: int
    window: Window = field(default_factory=Window)
    last_loss: float = math.nan
    _sum: Any = 0.0  # a tensor on the device; reading it makes the device wait

    def resume(self, window: Window, step: int) -> None:
        """Goes on after `step`: later lines, and a torn last one, are cut off."""
        self.window, self._sum = window, 0.0
        lines = self.path.read_bytes().splitlines(True) if self.path.exists() else []
        kept = [line for line in lines if line.endswith(b"\n") and json.loads(line)["step"] <= step]
        write_atomically(self.path, b"".join(kept))

    def add(self, loss: Any) -> None:
        """Adds the loss of one forward pass, already scaled to its part of the step."""
        self._sum = self._sum + loss

    def settle(self, step: int) -> float:
        """Reads the losses added so far. Raises Diverged if they are no numbers."""
        self.window.loss += float(self._sum)
        self._sum = 0.0
        if not math.isfinite(self.window.loss):
            raise Diverged(
                f"the loss is {self.window.loss} by step {step}: the training diverged. "
                "Try a lower `student.learning_rate` (a third), a longer `student.warmup`, or "
                "`student.dtype: float32`."
            )
        return self.window.loss

    def write(self, step: int, learning_rate: float) -> None:
        """Ends the window with a line. `loss` is the mean over the window's steps."""
        self.last_loss = self.settle(step) / max(self.window.steps, 1)
        line = {
            "step": step,
            "tokens": self.window.tokens,
            "loss": round(self.last_loss, 6),
            "learning_rate": learning_rate,
            "seconds": round(self.window.seconds, 3),
        }
        with self.path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
        self.window.loss, self.window.steps = 0.0, 0

    def state(self, step: int) -> dict[str, Any]:
        """The window, for a checkpoint; the file is synced so that it is no shorter than that."""
        self.settle(step)
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        return asdict(self.window)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a loss log, without one that is being written."""
    lines = path.read_bytes().splitlines(True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]
