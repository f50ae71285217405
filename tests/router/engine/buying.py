"""Buys the same answers every time it is started, so that it can be killed and started again.

`python -m tests.router.engine.buying LEDGER TEACHER.json N`
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from ledger.errors import TutelageError
from ledger.prompts import Prompt
from ledger.store import Ledger
from router.engine import GenerateConfig, Purchase, Request, buy, sampling_of
from router.teachers import TeacherConfig, open_teacher
from tests.faults.server import FaultServer

ROOT = Path(__file__).parents[3]


def teacher_file(path: Path, server: FaultServer, in_flight: int) -> Path:
    """A teacher for the child, in a file."""
    fields = {"http": "m", "url": server.url, "licence": "MIT", "max_in_flight": in_flight}
    path.write_text(json.dumps(fields))
    return path


def start(ledger: Path, teacher: Path, n: int) -> subprocess.Popen[str]:
    """Starts a child that buys; returns when it is about to."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.router.engine.buying", ledger, teacher, str(n)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "buying\n"
    return child


def kill(child: subprocess.Popen[str]) -> None:
    """SIGKILL, unless it has come to its end before."""
    child.kill()
    assert child.wait() in (-signal.SIGKILL, 0)
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


def buy_all(folder: Path, teacher_json: Path, n: int) -> Purchase:
    """Buys `n` answers; says so when it is about to."""
    teacher = TeacherConfig.model_validate_json(teacher_json.read_text())
    teachers = {"t": open_teacher("t", teacher, Path())}
    settings = GenerateConfig(max_tokens=16)
    prompts = [Prompt.of(f"prompt {i}") for i in range(n)]
    ledger = Ledger(folder)
    with ledger.writing("child"):
        ledger.put_all([row for prompt in prompts for row in prompt.rows("test")])
        ledger.fold()
        requests = [Request(prompt, "t") for prompt in prompts]
        if __name__ == "__main__":
            print("buying", flush=True)
        sampling = sampling_of(settings)
        return buy(requests, teachers, ledger, sampling, settings, stage="generate", run="r")


if __name__ == "__main__":
    try:
        buy_all(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    except TutelageError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
