"""Buys the same requests every time it is started, so that it can be killed and started again.

`python -m tests.router.engine.buying_child LEDGER TEACHER.json N`
"""

import sys
from pathlib import Path

from ledger.prompts import Prompt
from ledger.store import Ledger
from router.engine import GenerateConfig, Purchase, Request, buy, sampling_of
from router.teachers import TeacherConfig, open_teacher


def run(folder: Path, teacher_json: Path, n: int) -> Purchase:
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
        print("buying", flush=True)
        sampling = sampling_of(settings)
        return buy(requests, teachers, ledger, sampling, settings, stage="generate", run="r")


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
