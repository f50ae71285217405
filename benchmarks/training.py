"""Our trainer against plain TRL: the same base, samples, batches and threads, in turns.

    python -m benchmarks.training --steps 150 --repeats 3

Prints a table of medians and, as its last line, one JSON object.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ledger.threads import waiting

BASE = Path(__file__).parents[1] / "recipes" / "quickstart" / "base"
BATCH = 32
SYSTEMS = ("ours", "trl")


def pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Prompts and answers of the quickstart's kind: pseudo-words, spelt backward."""
    dice = random.Random(seed)
    words = ("".join(dice.choices("abcdefghijklmnop", k=dice.randint(3, 6))) for _ in range(count))
    return [(f"Spell this word backward (example: sun -> nus): {w}", w[::-1]) for w in words]


def train_ours(folder: Path, steps: int) -> tuple[int, float, float]:
    """Steps, seconds and CPU seconds of a training by `trainer`, from its first batch to its end."""
    import pyarrow as pa

    from ledger.keys import content_key
    from ledger.mixes import MixStage, order_schema, samples_schema, write_mix
    from ledger.store import Ledger
    from trainer.config import StudentConfig
    from trainer.run import train

    rows = pairs(steps * BATCH)
    keys = sorted(content_key([number, row]) for number, row in enumerate(rows))
    chats = [[{"role": "user", "content": prompt}] for prompt, _ in rows]
    answers = [[{"role": "assistant", "content": answer}] for _, answer in rows]
    same = {name: ["x"] * len(rows) for name in ("task", "teacher", "licence")}
    columns = {"sample": keys, "prompt_key": keys, **same, "prompt": chats, "completion": answers}
    ones = {"tokens": [5] * len(rows), "weight": [1.0] * len(rows)}
    tools = {"tools": [None] * len(rows)}
    samples = pa.table({**columns, **tools, **ones}, schema=samples_schema())
    places = list(range(len(rows)))
    order = pa.table(
        {
            "position": places,
            "stage": ["all"] * len(rows),
            "row": places,
            "repeat": [0] * len(rows),
        },
        schema=order_schema(),
    )
    stages = [MixStage("all", 0, len(rows), "shuffled")]
    write_mix(folder / "mix", samples, order, {}, stages, seed=0, unit="samples")
    config = StudentConfig(
        base=str(BASE), epochs=1, batch_size=BATCH, learning_rate=1e-3, checkpoint_every=10**6
    )
    ledger = Ledger(folder / "ledger")
    marks: list[tuple[float, float]] = []
    with ledger.writing("benchmark"):
        ledger.put("prompt", [{"key": k, "source": "x", "chars": 1} for k in keys])
        put_samples(ledger, keys)
        student = train(
            config, folder / "mix", folder / "student", base_dir=folder, seed=0, ledger=ledger,
            run="benchmark", key="benchmark", teachers={"x": "x"},
            on_progress=lambda _: marks.append((time.monotonic(), time.process_time())),
        )  # fmt: skip
    return student.steps, student.seconds, marks[-1][1] - marks[0][1]


def put_samples(ledger: Any, keys: list[str]) -> None:
    """The samples that a student consumes."""
    row = {"request": None, "teacher": None, "text_sha": "", "finish_reason": "stop"}
    rest = {"model": "x", "completion_tokens": 5, "recorded_at": 0}
    ledger.put("sample", [{"key": key, "prompt": key, **row, **rest} for key in keys])


def train_trl(folder: Path, steps: int) -> tuple[int, float, float]:
    """The same by TRL's SFTTrainer as it comes."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    rows = [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "completion": [{"role": "assistant", "content": answer}],
        }
        for prompt, answer in pairs(steps * BATCH)
    ]
    args = SFTConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, gradient_checkpointing=False,
        max_length=128, completion_only_loss=True, report_to="none", save_strategy="no",
        dataloader_pin_memory=False, per_device_train_batch_size=BATCH, num_train_epochs=1,
        learning_rate=1e-3, disable_tqdm=True, logging_steps=max(1, steps // 200),
    )  # fmt: skip
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(BASE),
    )
    started, cpu = time.monotonic(), time.process_time()
    trainer.train()
    return trainer.state.global_step, time.monotonic() - started, time.process_time() - cpu


def measure(system: str, steps: int) -> dict[str, float]:
    """One training in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.training", "--child", system, "--steps", str(steps)]
    env = {"HF_HUB_OFFLINE": "1", **waiting(), **os.environ}
    out = subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", choices=SYSTEMS)
    options = parser.parse_args()
    if options.child:
        with tempfile.TemporaryDirectory() as folder:
            train = train_ours if options.child == "ours" else train_trl
            steps, seconds, cpu_s = train(Path(folder), options.steps)
        print(json.dumps({"steps_per_s": steps / seconds, "cpu_s_per_step": cpu_s / steps}))
        return
    rounds = [
        {name: measure(name, options.steps) for name in SYSTEMS} for _ in range(options.repeats)
    ]
    result: dict[str, Any] = {
        name: {
            key: round(statistics.median(found[name][key] for found in rounds), 4)
            for key in ("steps_per_s", "cpu_s_per_step")
        }
        for name in SYSTEMS
    }
    print(
        f"{'system':<8}{'steps/s':>10}{'CPU s/step':>12}   batch {BATCH}, medians of {len(rounds)}"
    )
    for name in SYSTEMS:
        found = result[name]
        print(f"{name:<8}{found['steps_per_s']:>10.1f}{found['cpu_s_per_step']:>12.4f}")
    machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    print(json.dumps({**result, "steps": options.steps, "machine": machine}))


if __name__ == "__main__":
    main()
