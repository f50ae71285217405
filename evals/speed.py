"""Tokens per second, latency, peak memory and size on disk of local models: same prompts, same lengths.

Each model runs in a child process (evals.speed_child), since the peak memory of a process never
falls. The children load side by side, then take turns round by round, so that whatever else the
machine does meets all of them; the median round counts. Models too large to be in memory together
run one after the other. Servers are timed by evals.speed_endpoint; for those that are not there is
`observed`: what the ledger saw of their calls.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ledger.errors import TutelageError
from ledger.prompts import Message, Prompt
from ledger.store import Ledger
from ledger.threads import waiting

if TYPE_CHECKING:
    from router.teachers.local import LocalTeacher

MIB = 2**20
CHILD_MIB = 700  # torch, transformers and their buffers, without weights
TOGETHER_MIB = 4096  # weights that may be loaded at once, on whatever the children run on
ROUND_DEADLINE_S = 1800.0
WEIGHTS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


class SpeedError(TutelageError):
    """A model could not be timed."""


@dataclass(frozen=True, slots=True)
class SpeedSpec:
    """A local model to time: the folder of its weights and what goes with them."""

    folder: Path
    adapter: Path | None = None
    dtype: str = "auto"
    system: str | None = None
    chat_template: str | None = None  # for a folder that has none

    @classmethod
    def of(cls, teacher: "LocalTeacher") -> "SpeedSpec":
        """The model that a local teacher (or a student opened like one) answers with."""
        return cls(
            teacher.folder, teacher.adapter, teacher.dtype, teacher.system, teacher.chat_template
        )

    @property
    def disk_mib(self) -> float:
        """Size of the model's files and its adapter's; checkpoints in subfolders do not count."""
        folders = [folder for folder in (self.folder, self.adapter) if folder]
        files = {file for folder in folders for name in WEIGHTS for file in folder.glob(name)}
        return sum(file.stat().st_size for file in files) / MIB


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds that something took: mean, median, and what 99 of 100 did not exceed."""

    mean: float
    median: float
    p99: float


@dataclass(frozen=True, slots=True)
class Pace:
    """A model answering so many prompts side by side: tokens a second of the median round, the seconds until
    an answer's first token and between any two tokens after it, over all rounds; None where no answer came in
    several pieces."""

    tokens_per_s: float
    first_token: Latency
    per_token: Latency | None


@dataclass(frozen=True, slots=True)
class Speed:
    """What one model did per round (the median one) with most prompts side by side: `answers` of equal length
    in `seconds`.

    `paces` is by the number of prompts side by side. `rounds_s` are all rounds' seconds, so the noise can be
    told. Memory and disk are None for a model that runs elsewhere, `peak_gpu_mib` where there is no GPU.
    """

    tokens_per_s: float
    peak_rss_mib: float | None
    seconds: float
    answers: int
    disk_mib: float | None
    tokens: int
    rounds_s: tuple[float, ...]
    peak_gpu_mib: float | None = None
    usd: float | None = None  # what the timing itself cost
    paces: dict[str, Pace] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpeedProgress:
    """How far the measurement is: models loaded, rounds run."""

    loaded: int
    models: int
    rounds: int
    rounds_total: int


OnProgress = Callable[[SpeedProgress], None]


def measure(
    models: Mapping[str, SpeedSpec],
    prompts: Sequence[Prompt],
    max_tokens: int,
    *,
    concurrency: Sequence[int] = (1, 8, 32),
    repeats: int = 5,
    on_progress: OnProgress | None = None,
) -> dict[str, Speed]:
    """Times all models on the same prompts; every answer is exactly `max_tokens` tokens long.

    For each of `concurrency`, so many prompts are answered side by side: all prompts with the most, two
    batches with fewer.

    Raises SpeedError naming the model that could not be loaded or run.
    """
    if not prompts:
        raise SpeedError("speed is measured on prompts: give at least one, or leave it out")
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in models}
    levels = sorted(set(concurrency))
    jobs = {name: _job(spec, prompts, max_tokens, levels) for name, spec in models.items()}
    loaded = 0

    def report() -> None:
        if on_progress:
            done, of = sum(map(len, rounds.values())), len(models) * repeats * len(levels)
            on_progress(SpeedProgress(loaded, len(models), done, of))

    for group in _groups(models):
        with _children({name: jobs[name] for name in group}) as children:
            for child in children.values():
                child.read()
                loaded += 1
                report()
            for _ in range(repeats):
                for level in levels:
                    for name, child in children.items():
                        rounds[name].append(child.run_round(level))
                        report()
    return {name: joined(rounds[name], spec.disk_mib) for name, spec in models.items()}


def observed(ledger: Ledger, teacher_key: str) -> Speed | None:
    """A server's speed as the ledger saw it: tokens of its answers by the time it had calls open.

    Not on equal lengths and not repeated. None where no finished call with times and tokens is
    there. Reads what is folded.
    """
    calls = ledger.rows(
        "SELECT epoch_us(r.started_at) / 1e6, epoch_us(r.ended_at) / 1e6, r.completion_tokens "
        "FROM request r JOIN teacher t ON r.teacher = t.id WHERE t.key = ? "
        "AND r.state IN ('done', 'truncated') AND r.completion_tokens IS NOT NULL "
        "AND r.started_at IS NOT NULL AND r.ended_at > r.started_at ORDER BY r.started_at",
        [teacher_key],
    )
    if not calls:
        return None
    busy_s, until = 0.0, float("-inf")
    for start, end, _ in calls:
        busy_s += max(0.0, end - max(start, until))
        until = max(until, end)
    tokens = sum(count for _, _, count in calls)
    return Speed(tokens / busy_s, None, busy_s, len(calls), None, tokens, (busy_s,))


def _job(
    spec: SpeedSpec, prompts: Sequence[Prompt], max_tokens: int, levels: Sequence[int]
) -> dict[str, Any]:
    system: list[Message] = [{"role": "system", "content": spec.system}] if spec.system else []
    return {
        "folder": str(spec.folder.resolve()),
        "adapter": str(spec.adapter.resolve()) if spec.adapter else None,
        "dtype": spec.dtype,
        "chat_template": spec.chat_template,
        "chats": [
            {"conversation": [*system, *prompt.messages], "tools": prompt.tools}
            for prompt in prompts
        ],
        "max_tokens": max_tokens,
        "concurrency": list(levels),
    }


def _groups(models: Mapping[str, SpeedSpec]) -> list[list[str]]:
    """Which models are loaded together: all, if they are small beside free memory, or each alone."""
    import psutil

    weights_mib = sum(spec.disk_mib for spec in models.values())
    needed_mib = 2 * weights_mib + CHILD_MIB * len(models)
    free_mib = psutil.virtual_memory().available / MIB
    if weights_mib < TOGETHER_MIB and needed_mib < free_mib / 2:
        return [list(models)]
    return [[name] for name in models]


def joined(
    rounds: Sequence[Mapping[str, Any]], disk_mib: float | None, usd: float | None = None
) -> Speed:
    """A model's rounds, as `evals.speed_child` tells of them."""
    by_level: dict[int, list[Mapping[str, Any]]] = {}
    for found in rounds:
        by_level.setdefault(found["concurrency"], []).append(found)
    most = by_level[max(by_level)]
    seconds, last = statistics.median(found["seconds"] for found in most), rounds[-1]
    return Speed(
        tokens_per_s=_rate(most),
        peak_rss_mib=last["peak_rss_mib"],
        seconds=seconds,
        answers=last["answers"],
        disk_mib=disk_mib,
        tokens=last["tokens"],
        rounds_s=tuple(found["seconds"] for found in most),
        peak_gpu_mib=last["peak_gpu_mib"],
        usd=usd,
        paces={str(level): _pace(found) for level, found in sorted(by_level.items())},
    )


def _pace(rounds: Sequence[Mapping[str, Any]]) -> Pace:
    steps = [batch for found in rounds for batch in found["steps_s"]]
    further = [step for batch in steps for step in batch[1:]]
    return Pace(
        _rate(rounds),
        _latency([batch[0] for batch in steps]),
        _latency(further) if further else None,
    )


def _rate(rounds: Sequence[Mapping[str, Any]]) -> float:
    return statistics.median(found["tokens"] / found["seconds"] for found in rounds)


def _latency(seconds: Sequence[float]) -> Latency:
    import numpy as np

    values = np.array(seconds)
    return Latency(float(values.mean()), float(np.median(values)), float(np.quantile(values, 0.99)))


@contextlib.contextmanager
def _children(jobs: Mapping[str, dict[str, Any]]) -> "Iterator[dict[str, _Child]]":
    """Starts a child per model, all at once; none outlives the block."""
    with contextlib.ExitStack() as stack:
        children = {}
        for name in jobs:
            errors = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
            children[name] = _Child(name, errors)
            stack.callback(children[name].stop)
        for name, child in children.items():
            child.send(jobs[name])
        yield children


class _Child:
    """A process that holds one model and runs a round when told."""

    def __init__(self, name: str, errors: IO[str]) -> None:
        self.name, self.errors = name, errors
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "evals.speed_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            env=_environment(),
        )

    def run_round(self, concurrency: int) -> dict[str, Any]:
        """Has the model answer prompts, so many side by side."""
        self.send({"round": concurrency})
        return self.read()

    def send(self, message: Mapping[str, Any]) -> None:
        """A broken pipe shows at the next `read`, which knows why."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        """The next reply. Raises SpeedError if the child died, gave up or takes too long."""
        assert self.process.stdout is not None
        timer = threading.Timer(ROUND_DEADLINE_S, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        reply: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        if "error" in reply:
            reason = " ".join(reply["error"].split()).rstrip(".")
            raise SpeedError(
                f"{self.name!r} could not be timed: {reason}. "
                "`evaluate: {speed: {prompts: 0}}` leaves the measurement out."
            )
        return reply

    def stop(self) -> None:
        """Kills the process: it holds nothing that is worth saving."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                assert pipe is not None
                pipe.close()

    def _last_words(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return f"its process ended with {code}: {' / '.join(lines[-3:]) or 'it said nothing'}"


def _environment() -> dict[str, str]:
    """The child's environment: this package importable, no network, no chatter."""
    here = str(Path(__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH")
    return {
        **waiting(),
        **os.environ,
        "PYTHONPATH": os.pathsep.join([here, inherited] if inherited else [here]),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }
