"""The loss log: one JSON line every few steps, whole and without doubled steps across resumes."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ledger.keys import write_atomically
from trainer.errors import Diverged

LOG_NAME = "training_log.jsonl"
POINTS = 200  # lines in a whole log, about
# A training has diverged whose cross-entropy stays, for so many lines, so many times above what it was when its
# groups were first trained, and nats above that. The loss itself also changes with weights and signals.
LOST_LINES, LOST_TIMES, LOST_NATS = 3, 3.0, 5.0

# What is added up of each group (a task's samples of one teacher): trained tokens and their cross-entropy,
# tokens with a distribution and their divergence, tokens with hidden states and their distance.
COLUMNS = ("tokens", "ce", "kd_tokens", "kd", "feature_tokens", "feature")


@dataclass(slots=True)
class Window:
    """What has been trained since the last line, and in all. Saved with each checkpoint."""

    loss: float = 0.0  # sum over steps of the mean loss per trained token
    steps: int = 0
    tokens: int = 0  # trained tokens since step 0
    seconds: float = 0.0  # training time since step 0, whatever lay between
    # By group its COLUMNS since the last line.
    groups: list[list[float]] = field(default_factory=list)
    best: float | None = None  # least loss on what is held out
    best_step: int = 0  # after which it was measured
    since: int = 0  # measurements that came after it
    first: list[float | None] = field(
        default_factory=list
    )  # cross-entropy of each group's first line
    lost: int = 0  # lines in a row that are far above it


@dataclass(slots=True)
class LossLog:
    """Adds up losses where they are computed, and reads them only when a line is due."""

    path: Path
    every: int
    groups: Sequence[tuple[str, str]] = ()  # task and teacher
    window: Window = field(default_factory=Window)
    last_loss: float = math.nan
    _sum: Any = 0.0  # tensors on the device; reading them makes the device wait
    _by_group: Any = None

    def resume(self, window: Window, step: int) -> None:
        """Goes on after `step`: later lines, and a torn last one, are cut off."""
        self.window, self._sum, self._by_group = window, 0.0, None
        lines = self.path.read_bytes().splitlines(True) if self.path.exists() else []
        kept = [line for line in lines if line.endswith(b"\n") and json.loads(line)["step"] <= step]
        write_atomically(self.path, b"".join(kept))

    def add(self, loss: Any) -> None:
        """Adds the loss of one forward pass, already scaled to its part of the step."""
        self._sum = self._sum + loss

    def add_groups(self, sums_G_C: Any) -> None:
        """Adds what one forward pass trained, by group and COLUMNS."""
        self._by_group = sums_G_C if self._by_group is None else self._by_group + sums_G_C

    def settle(self, step: int) -> float:
        """Reads the losses added so far. Raises Diverged if they are no numbers."""
        self.window.loss += float(self._sum)
        self._sum = 0.0
        if self._by_group is not None:
            added, self._by_group = self._by_group.tolist(), None
            was = self.window.groups or [[0.0] * len(COLUMNS)] * len(added)
            self.window.groups = [
                [a + b for a, b in zip(*both, strict=True)] for both in zip(was, added, strict=True)
            ]
        if not math.isfinite(self.window.loss):
            raise diverged(f"the loss is {self.window.loss} by step {step}")
        return self.window.loss

    def _check_divergence(self, step: int) -> None:
        window = self.window
        window.first = window.first or [None] * len(window.groups)
        tokens = now = before = 0.0
        for group, (count, ce, *_) in enumerate(window.groups):
            if count:
                first = window.first[group]
                first = window.first[group] = ce / count if first is None else first
                tokens, now, before = tokens + count, now + ce, before + first * count
        far = now > LOST_TIMES * before + LOST_NATS * tokens
        window.lost = window.lost + 1 if far else 0
        if window.lost == LOST_LINES:
            raise diverged(
                f"the cross-entropy is {now / tokens:.1f} nats a token by step {step}, "
                f"from {before / tokens:.1f}"
            )

    def write(self, step: int, learning_rate: float, held_out: Any = None) -> dict[str, Any]:
        """Ends the window with a line, and returns it. `loss` is the mean over the window's steps.

        Raises Diverged where the cross-entropy has been far above the groups' first lines' for a while.
        """
        self.last_loss = self.settle(step) / max(self.window.steps, 1)
        self._check_divergence(step)
        line = {
            "step": step,
            "tokens": self.window.tokens,
            "loss": round(self.last_loss, 6),
            "learning_rate": learning_rate,
            "seconds": round(self.window.seconds, 3),
            **self.parts(self.window.groups),
            **({"held_out": held_out} if held_out else {}),
        }
        with self.path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
        self.window.loss, self.window.steps, self.window.groups = 0.0, 0, []
        return line

    def parts(self, sums: Sequence[Sequence[float]]) -> dict[str, Any]:
        """Mean losses in all, by task and by teacher, and each teacher's share of tokens."""
        rows = [(group, row) for group, row in zip(self.groups, sums, strict=False) if row[0]]
        if not rows:
            return {}
        every = [row for _, row in rows]
        tokens = sum(row[0] for row in every)
        tasks = dict.fromkeys(task for (task, _), _ in rows)
        teachers = dict.fromkeys(teacher for (_, teacher), _ in rows)
        by_teacher = {name: [row for (_, its), row in rows if its == name] for name in teachers}
        return {
            "parts": _means(every),
            "tasks": {name: _means([r for (own, _), r in rows if own == name]) for name in tasks},
            "teachers": {
                name: {
                    "share": round(sum(row[0] for row in own) / max(tokens, 1), 4),
                    **_means(own),
                }
                for name, own in by_teacher.items()
            },
        }

    def state(self, step: int) -> dict[str, Any]:
        """The window, for a checkpoint; the file is synced so that it is no shorter than that."""
        self.settle(step)
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        return asdict(self.window)


def diverged(how: str) -> Diverged:
    """The error, with what to try."""
    return Diverged(
        f"{how}: the training diverged. Try a lower `student.learning_rate` (a third), a longer "
        "`student.warmup`, or `student.dtype: float32`."
    )


def _means(rows: Sequence[Sequence[float]]) -> dict[str, float]:
    """The mean of each part over the tokens that have it."""
    sums = [sum(column) for column in zip(*rows, strict=True)]
    parts = zip(COLUMNS[1::2], sums[1::2], sums[0::2], strict=True)
    return {name: round(total / count, 6) for name, total, count in parts if count}


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a loss log, without one that is being written; none where it is gone."""
    lines = path.read_bytes().splitlines(True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]
