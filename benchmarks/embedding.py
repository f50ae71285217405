"""How fast prompts are embedded, how near the vectors are to fp32, what a second pass costs, and memory.

    python -m benchmarks.embedding

Sentences per CPU second on one thread: ours against sentence-transformers as it comes (fp32, batches of 32),
in turns, on the texts of the set `questions` (benchmarks/sets); on a GPU all texts, per second. Cosine of our
vectors to fp32's, and the accuracy of a task classifier on both (60 examples a class). All of them through a
new ledger, on all cores, and once more: in the second pass nothing is embedded. Then streams of different
short prompts through the ledger, each in a process of its own: the highest resident memory of both passes.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.sets.classes import Classes, read_classes
from ledger.prompts import Prompt
from ledger.store import Ledger
from ledger.threads import waiting
from router.deciding import fit
from router.embedding import Embedder, embed, embedded, load_embedder
from router.embedding.locating import DEFAULT

TEXTS = 1_024  # of a timed round
EXAMPLES = 60  # of each class
SIZES = (50_000, 200_000)  # prompts of the streams


def rates(
    ours: Embedder, texts: list[str], rounds: int
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """Median sentences per (CPU) second of both, and the vectors of all texts: ours, fp32's."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    on_gpu = ours.precision == "float16"
    clock = time.perf_counter if on_gpu else time.process_time
    plain = SentenceTransformer(str(ours.folder), device="cuda" if on_gpu else "cpu")
    rows = np.random.default_rng(0).permutation(len(texts))
    some = [texts[row] for row in (rows if on_gpu else rows[:TEXTS])]
    systems: dict[str, Callable[[list[str]], np.ndarray]] = {
        "ours": lambda some: ours.encode(some),
        "plain": lambda some: plain.encode(some, batch_size=32, show_progress_bar=False),
    }
    found: dict[str, list[float]] = {name: [] for name in systems}
    for encode in systems.values():
        encode(some[:64])
    for _ in range(rounds):
        for name, encode in systems.items():
            began = clock()
            encode(some)
            found[name].append(len(some) / (clock() - began))
    medians = {name: float(np.median(values)) for name, values in found.items()}
    return medians, ours.encode(texts), systems["plain"](texts)


def accuracy(classes: Classes, vectors: np.ndarray) -> float:
    """The mean over 5 draws of the examples."""
    found = []
    for seed in range(5):
        seen = classes.examples(EXAMPLES, seed)
        unseen = np.setdiff1d(np.arange(len(classes.texts)), seen)
        labels = fit(vectors[seen], classes.classes[seen].tolist(), seed).predict(vectors[unseen])
        right = np.array([label.best_task for label in labels]) == classes.classes[unseen]
        found.append(right.mean())
    return float(np.mean(found))


def prompts(count: int) -> Iterator[Prompt]:
    """Different short prompts, made as they are taken."""
    for i in range(count):
        yield Prompt.of(f"Add {i} and {i % 97}.")


def stream(folder: Path, count: int) -> dict[str, float]:
    """Passes prompts through the ledger in `folder`; seconds, and the highest resident MiB."""
    began = time.monotonic()
    embedder, ledger, seen = load_embedder(DEFAULT, Path()), Ledger(folder), 0
    asked = prompts(count) if ledger.database.exists() else put(ledger, prompts(count))
    with ledger.writing("benchmark"):
        for window, _ in embedded(ledger, asked, embedder, count):
            seen += len(window)
    assert seen == count
    return {"seconds": round(time.monotonic() - began, 2), "peak_mib": peak_mib()}


def peak_mib() -> float:
    """The highest resident memory of this process; `ru_maxrss` would begin with its parent's."""
    status = Path("/proc/self/status").read_text("utf-8")
    return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024, 1)


def passes(classes: Classes) -> dict[str, float]:
    """Seconds of a first and of a second pass (median of 5) over all texts."""
    asked = [Prompt.of(text) for text in classes.texts]
    embedder = load_embedder(DEFAULT, Path())
    embedder.encode(classes.texts[:64])  # the weights are loaded
    with tempfile.TemporaryDirectory() as folder:
        seconds = []
        with (ledger := Ledger(Path(folder))).writing("benchmark"):
            ledger.put_all([row for prompt in asked for row in prompt.rows("benchmark")])
            ledger.fold()
            for _ in range(6):
                began = time.monotonic()
                embed(ledger, asked, embedder)
                seconds.append(time.monotonic() - began)
    return {"first_s": round(seconds[0], 2), "second_s": round(float(np.median(seconds[1:])), 4)}


def put(ledger: Ledger, some: Iterator[Prompt]) -> Iterator[Prompt]:
    """The prompts, once their rows are in the ledger."""
    while batch := list(itertools.islice(some, 4_096)):
        ledger.put_all([row for prompt in batch for row in prompt.rows("benchmark")])
        yield from batch


def streamed(size: int) -> dict[str, dict[str, float]]:
    """First and second pass over `size` prompts, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for turn in ("first", "second"):
            command = [sys.executable, "-m", "benchmarks.embedding", "--stream", folder, str(size)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[turn] = json.loads(done.stdout.splitlines()[-1])
        return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--stream", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.update(waiting())
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread is one thread
    if options.stream:
        print(json.dumps(stream(Path(options.stream[0]), int(options.stream[1]))))
        return
    import torch

    classes = read_classes("questions")
    embedder = load_embedder(DEFAULT, Path())
    medians, ours, plain = rates(embedder, classes.texts, options.rounds)
    cosines = (ours * plain / np.linalg.norm(plain, axis=1, keepdims=True)).sum(axis=1)
    unit = "per_s" if embedder.precision == "float16" else "per_cpu_s"
    found: dict[str, object] = {
        "precision": embedder.precision,
        f"ours_{unit}": round(medians["ours"], 1),
        f"plain_{unit}": round(medians["plain"], 1),
        "ratio": round(medians["ours"] / medians["plain"], 2),
        "cosine_mean": round(float(cosines.mean()), 5),
        "cosine_min": round(float(cosines.min()), 5),
        "accuracy_ours": round(accuracy(classes, ours), 4),
        "accuracy_plain": round(accuracy(classes, plain), 4),
    }
    for name, value in found.items():
        print(f"{name:18} {value}", flush=True)
    torch.set_num_threads(os.cpu_count() or 1)
    found |= passes(classes)
    print(
        f"two passes over {len(classes.texts):,} prompts: {found['first_s']} s and {found['second_s']} s"
    )
    streams = {size: streamed(size) for size in options.sizes}
    head = ("prompts", "first s", "second s", "first MiB", "second MiB")
    print("\n" + "".join(f"{name:>12}" for name in head))
    for size, turns in streams.items():
        cells = [turns[turn][what] for what in ("seconds", "peak_mib") for turn in turns]
        print("".join(f"{cell:12,.1f}" for cell in (size, *cells)), flush=True)
    print(json.dumps({**found, "streams": streams}))


if __name__ == "__main__":
    main()
