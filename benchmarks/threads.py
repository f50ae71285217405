"""When does a second thread pay? Steps of networks of several sizes with one thread and with all.

    python -m benchmarks.threads

For each way in which OpenMP's threads may wait (asleep, 30 us of spinning, spinning), a process trains and
generates with random weights, in turns with one thread and with one for each core. Milliseconds are the least
of the turns. `train` is a step on 32 samples of 20 tokens, `train long` on 32 of 96, `generate` 16 tokens of 64
answers. Prints a table and, as its last line, one JSON object: what all threads take as a share of one.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ledger.threads import WAITING

WAYS = {
    "asleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    "ours": WAITING,
    "spinning": {"OMP_WAIT_POLICY": "ACTIVE"},
}
SHAPES = ((64, 4, 345), (128, 4, 2000), (192, 6, 2000), (256, 6, 4000))  # width, layers, words
TURNS = 2


def best_ms(work: Callable[[], object], times: int) -> float:
    """The least of so many, after one that warms."""
    taken = []
    for _ in range(times + 1):
        started = time.perf_counter()
        work()
        taken.append(1e3 * (time.perf_counter() - started))
    return min(taken[1:])


def measure(width: int, layers: int, words: int) -> dict[str, Any]:
    """A network's parameters, and milliseconds of each work with one thread and with all."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        vocab_size=words,
        intermediate_size=3 * width,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    optimiser = torch.optim.AdamW(model.parameters())

    def train(tokens: int) -> None:
        ids_B_T = torch.randint(0, words, (32, tokens))
        model.train()
        model(input_ids=ids_B_T, labels=ids_B_T).loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    def generate() -> None:
        model.eval()
        model.generate(
            torch.randint(3, words, (64, 20)),
            max_new_tokens=16,
            min_new_tokens=16,
            do_sample=False,
            pad_token_id=0,
        )

    works = {"train": lambda: train(20), "train long": lambda: train(96), "generate": generate}
    counts = (1, os.cpu_count() or 1)
    taken: dict[str, list[list[float]]] = {name: [] for name in works}
    for _ in range(TURNS):
        turn: dict[str, list[float]] = {name: [] for name in works}
        for threads in counts:
            torch.set_num_threads(threads)
            for name, work in works.items():
                turn[name].append(best_ms(work, 3))
        for name, row in turn.items():
            taken[name].append(row)
    least = {name: np.min(rows, axis=0).tolist() for name, rows in taken.items()}
    return {"parameters": model.num_parameters(), "ms": least}


def main() -> None:
    """The table."""
    print(f"{'waiting':9} {'parameters':>11}" + f"{'one / all threads, ms':>30}" * 3)
    told: dict[str, dict[str, dict[str, float]]] = {}
    for way, variables in WAYS.items():
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.threads", "--child"],
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        for line in ran.stdout.splitlines():
            row = json.loads(line)
            cells = "".join(
                f"{f'{name} {one:.1f} / {more:.1f}':>30}" for name, (one, more) in row["ms"].items()
            )
            print(f"{way:9} {row['parameters']:11,}{cells}")
            told.setdefault(way, {})[str(row["parameters"])] = {
                name: round(more / one, 2) for name, (one, more) in row["ms"].items()
            }
    print(json.dumps(told))


if __name__ == "__main__":
    if sys.argv[1:] == ["--child"]:
        for shape in SHAPES:
            print(json.dumps(measure(*shape)), flush=True)
    else:
        main()
