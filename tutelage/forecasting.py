"""What a training will take, from a few steps of it that are timed in a process of their own.

    measured = measure_steps(config, base_dir, lengths=[(40, 12), ...], seed=7)

`lengths` are prompt and answer tokens of samples as they will come. `python -m tutelage.forecasting` is the
child: its job comes as JSON on stdin, its answer as the last line of stdout.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ledger.errors import TutelageError
from trainer.config import StudentConfig
from trainer.errors import NothingToTrain, NotMeasured, OutOfMemory
from tutelage.report.words import duration
from tutelage.stages.making import FIRST_GUESS_TOKENS
from tutelage.workspace import Workspace

STEPS = 4  # of which the first warms up
DEADLINE_S = 900.0
SAMPLE = 256  # prompts whose lengths the steps are made of


@dataclass(frozen=True, slots=True)
class Measured:
    """A step of a training: its seconds, and the most memory held; and what a checkpoint takes on disk."""

    step_s: float
    memory_mib: float
    checkpoint_mib: float
    student_mib: float


def measure_steps(
    config: StudentConfig, base_dir: Path, lengths: Sequence[tuple[int, int]], seed: int
) -> Measured:
    """Trains a few steps on made-up tokens, by text alone, and keeps nothing. Samples longer than the student
    takes are left out, as in the training. Raises NotMeasured, OutOfMemory.
    """
    job = {
        "config": config.model_copy(update={"signal": ["hard"], "sizes": []}).model_dump(),
        "base_dir": str(base_dir.resolve()),
        "lengths": list(lengths),
        "seed": seed,
    }
    here = str(Path(__file__).resolve().parents[1])
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "tutelage.forecasting"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
            env={**os.environ, "PYTHONPATH": here, "HF_HUB_OFFLINE": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise NotMeasured(
            f"{STEPS} steps of {config.base} are not done after {duration(DEADLINE_S)}: this machine is too "
            "slow for it. Choose a smaller `student.base`, `student.batch_size` or `student.max_length`."
        ) from error
    if done.returncode < 0:
        raise OutOfMemory(
            f"a training step was ended by signal {-done.returncode}, as happens where the memory is at its "
            "end: lower `student.batch_size`, set `student.recompute: true`, or train `student.lora`."
        )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    if "error" in answer or not answer:
        raise NotMeasured(answer.get("error") or f"no step could be measured: {done.stderr[-500:]}")
    return Measured(**answer)


def forecast_training(workspace: Workspace, steps: int, samples: int) -> str:
    """Time, memory and disk of the student's training on so many distinct samples, in words; those of further
    sizes behind it.
    """
    from router.teachers.prices import likely_tokens

    student = workspace.recipe.student
    answer = int(min(FIRST_GUESS_TOKENS, workspace.recipe.generate.max_tokens))
    prompts = workspace.in_seeded_order(workspace.pools.train)[:SAMPLE]
    lengths = [(1 + likely_tokens(item.prompt, None), answer) for item in prompts]
    sizes = {size.label: student.of_size(size) for size in student.sizes}
    told = []
    for name, config in {"": student, **sizes}.items():
        found = measure_steps(config, workspace.base, lengths, workspace.recipe.seed)
        disk_mib = found.student_mib + 2 * found.checkpoint_mib
        if not name and "logit" in student.signal:
            disk_mib += _record_bytes(workspace) * samples * answer / 2**20
        taken_s = found.step_s * steps * config.epochs / student.epochs
        told.append(
            f"{name and f'{name}: '}about {duration(taken_s)} ({found.step_s:.3g} s a step, measured here), "
            f"{found.memory_mib:,.0f} MiB of memory, {disk_mib:,.0f} MiB on disk"
        )
    return "; ".join(told)


def _record_bytes(workspace: Workspace) -> int:
    """What a token's distribution takes on disk."""
    from trainer.base import open_tokenizer
    from trainer.run import records_head

    student = workspace.recipe.student
    tokenizer = open_tokenizer(student.base, workspace.base)
    return records_head(student.logit, tokenizer).format.record.itemsize


def _child(job: dict[str, Any]) -> Measured:
    import time

    import numpy as np
    import torch
    from transformers import TrainerCallback

    from evals.speed_child import peak_rss_mib
    from trainer import sft
    from trainer.base import load_model, open_tokenizer, quiet
    from trainer.data import TrainingData
    from trainer.losslog import LossLog, Window
    from trainer.run import longest_sample, wants_bf16
    from trainer.shaping import starting_weights

    config = StudentConfig.model_validate(job["config"])
    base_dir, lengths = Path(job["base_dir"]), job["lengths"]
    with tempfile.TemporaryDirectory() as place, quiet():
        folder = Path(place)
        base = starting_weights(config, base_dir, folder / "base", job["seed"])
        tokenizer = open_tokenizer(config.base, base_dir)
        count = STEPS * config.batch_size * config.accumulate
        longest = longest_sample(config, base)
        lengths = [each for each in lengths if sum(each) <= longest]
        if not lengths:
            raise NothingToTrain(
                f"no sample fits into the student's {longest:,} tokens: raise `student.max_length`, or choose "
                "a base with a longer context."
            )
        drawn = [lengths[i % len(lengths)] for i in range(count)]
        totals = np.array([prompt + answer for prompt, answer in drawn])
        data = TrainingData.of_tokens(
            np.random.default_rng(0).integers(0, len(tokenizer), totals.sum()),
            np.concatenate([[0], np.cumsum(totals)]),
            np.array([prompt for prompt, _ in drawn]),
        )
        log = LossLog(folder / "log.jsonl", 10**6, data.groups)
        log.resume(Window(), 0)
        bf16 = wants_bf16(config.dtype)
        model = load_model(base, torch.bfloat16 if bf16 and config.lora else torch.float32)
        parameters = model.num_parameters()
        args = sft.arguments(config, folder / "run", job["seed"], STEPS, parameters, bf16)
        trainer = sft.StudentTrainer(model, tokenizer, data, args, log, config)
        ticks: list[float] = []

        class Clock(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                ticks.append(time.monotonic())

        trainer.add_callback(Clock())
        trainer.train()
        trained = sum(each.numel() for each in trainer.model.parameters() if each.requires_grad)
    gpu = torch.cuda.is_available()
    peak_mib = torch.cuda.max_memory_reserved() / 2**20 if gpu else peak_rss_mib()
    steps_s = sorted(b - a for a, b in zip(ticks[:-1], ticks[1:], strict=True))
    return Measured(
        step_s=steps_s[len(steps_s) // 2],
        memory_mib=peak_mib,
        checkpoint_mib=3 * 4 * trained / 2**20,  # weights and the optimiser's two averages
        student_mib=4 * parameters / 2**20,
    )


def main() -> None:
    """The child."""
    try:
        answer = asdict(_child(json.loads(sys.stdin.read())))
    except Exception as error:  # whatever loading or training raises is for the parent to tell
        kind = "" if isinstance(error, TutelageError) else f"{type(error).__name__}: "
        answer = {"error": f"{kind}{error}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
