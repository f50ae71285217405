"""What distillation costs: steps towards top-k records against plain TRL, the memory of the head, the store.

    python -m benchmarks.distil

Steps: a random student of SmolLM2-135M's shape, 12 samples of 256 trained tokens, fp32, full training, in
processes of their own and in turns: TRL's SFTTrainer as it comes, our trainer on the same text, our trainer
towards records of 32 tokens. Head: loss and gradients of hidden states and weights, chunk by chunk against
full logits and autograd; the peak of resident memory above what the inputs take. Store: random distributions,
which compress worst, in Parquet; bytes of the file, and CPU time to read a batch of samples back.

Prints a table of medians and, as its last line, one JSON object.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ledger.threads import waiting

SAMPLES, LENGTH, V, D, K = 12, 256, 49_152, 576, 32
TOKENS = SAMPLES * LENGTH
SYSTEMS = ("trl", "hard", "logit")
HEADS = ("full", "chunked")


def student() -> Any:
    """A random model of SmolLM2-135M's shape."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=V, hidden_size=D, intermediate_size=1536, num_hidden_layers=30,
            num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
            pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip


def texts(count: int) -> np.ndarray:
    """So many samples of random tokens, (count, LENGTH + 1); all but the first token are trained."""
    return np.random.default_rng(0).integers(3, V, (count, LENGTH + 1)).astype(np.int32)


def distributions(tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Random top-k ids and probabilities, (tokens, K) both."""
    draw = np.random.default_rng(1)
    ids = np.stack([draw.choice(V, K, replace=False) for _ in range(tokens)])
    return ids, draw.dirichlet(np.full(K + 1, 0.3), tokens)[:, :K]


def write_store(folder: Path, samples: int) -> Any:
    """A folder of records for so many samples, named by their numbers; what its files are over."""
    from ledger.records import RecordsHead, writing_records
    from ledger.topk import TopKFormat

    head = RecordsHead(TopKFormat(K, V), "benchmark", 1.0)
    ids, probabilities = distributions(samples * LENGTH)
    with writing_records(folder / "teacher.parquet", head) as put:
        for i in range(samples):
            rows = slice(i * LENGTH, (i + 1) * LENGTH)
            put(str(i), "teacher", head.format.encode(ids[rows], probabilities[rows]))
    return head


class Clock:
    """Seconds and CPU seconds between the ends of steps; the first step is not counted."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []

    def mark(self) -> None:
        self.marks.append((time.monotonic(), time.process_time()))

    def per_step(self) -> dict[str, float]:
        (first_s, first_cpu), (last_s, last_cpu) = self.marks[0], self.marks[-1]
        steps = len(self.marks) - 1
        return {"s": (last_s - first_s) / steps, "cpu_s": (last_cpu - first_cpu) / steps}


def callback(clock: Clock) -> Any:
    """Marks each step's end."""
    from transformers import TrainerCallback

    class Marking(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.mark()

    return Marking()


def arguments(folder: Path) -> Any:
    """TRL's arguments, for all systems."""
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, gradient_checkpointing=False,
        max_length=None, report_to="none", save_strategy="no", logging_strategy="no",
        dataloader_pin_memory=False, per_device_train_batch_size=SAMPLES, num_train_epochs=1,
        learning_rate=1e-5, disable_tqdm=True,
    )  # fmt: skip


def tokenizer() -> Any:
    """Any tokenizer that has a padding token: the samples are tokens already."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Path(__file__).parents[1] / "recipes/quickstart/base")


def step_trl(folder: Path, steps: int) -> dict[str, float]:
    """TRL as it comes."""
    from datasets import Dataset
    from trl import SFTTrainer

    clock = Clock()
    rows = Dataset.from_dict({"input_ids": texts(steps * SAMPLES).tolist()})
    trainer = SFTTrainer(
        model=student(), args=arguments(folder), train_dataset=rows, processing_class=tokenizer()
    )
    trainer.add_callback(callback(clock))
    trainer.train()
    return clock.per_step()


def step_ours(folder: Path, steps: int, *, by_records: bool) -> dict[str, float]:
    """Our trainer, on the text alone or towards records as well."""
    from ledger.records import read_records
    from trainer.config import LogitConfig, StudentConfig
    from trainer.data import TrainingData
    from trainer.losslog import LossLog, Window
    from trainer.sft import Bookkeeper, StudentTrainer

    count, clock = steps * SAMPLES, Clock()
    records = None
    if by_records:
        records = read_records(folder, write_store(folder, count), folder)
    offsets = np.arange(count + 1) * (LENGTH + 1)
    data = TrainingData.of_tokens(texts(count).ravel(), offsets, np.ones(count))
    log = LossLog(folder / "log.jsonl", 1, data.groups)
    log.resume(Window(), 0)
    config = StudentConfig(base="none", checkpoint_every=10**6, logit=LogitConfig(top_k=K))
    trainer = StudentTrainer(student(), tokenizer(), data, arguments(folder), log, config, records)
    trainer.add_callback(Bookkeeper(trainer, config, None))
    trainer.add_callback(callback(clock))
    trainer.train()
    return clock.per_step()


def head(kind: str) -> dict[str, float]:
    """Peak MiB above the inputs, and CPU seconds, of loss and gradients of a head alone."""
    import torch

    from trainer.signals.logit import Objective, Targets, head_loss

    ids, probabilities = map(torch.from_numpy, distributions(TOKENS))
    half = torch.full((TOKENS,), 0.5)
    labels = torch.randint(0, V, (TOKENS,), generator=torch.Generator().manual_seed(0))
    targets = Targets(labels, half, half, ids, probabilities.float())

    def loss(rows: int) -> None:
        part = Targets(*(getattr(targets, name)[:rows] for name in Targets.__slots__))
        loss_of = head_loss if kind == "chunked" else _full_loss
        found: Any = loss_of(hidden[:rows], weight, part, Objective())
        (found.total if kind == "chunked" else found).backward()

    hidden = torch.randn(TOKENS, D, requires_grad=True)
    weight = (0.02 * torch.randn(V, D)).requires_grad_()
    loss(8)  # libraries are loaded, and both have their gradients
    Path("/proc/self/clear_refs").write_text("5")
    before, began = _status("VmRSS"), time.process_time()
    loss(TOKENS)
    return {"mib": _status("VmHWM") - before, "cpu_s": time.process_time() - began}


def _full_loss(hidden: Any, weight: Any, targets: Any, _: Any) -> Any:
    """The same by full logits: cross-entropy, and the forward divergence with a tail."""
    import torch

    logp = (hidden @ weight.T).log_softmax(dim=1)
    ce = -logp.gather(1, targets.labels_N[:, None])[:, 0]
    top, q = logp.gather(1, targets.ids_N_K), targets.probabilities_N_K
    tail, q_tail = 1 - top.exp().sum(1), (1 - q.sum(1)).clamp(min=1e-6)
    kd = torch.where(q > 0, q * (q.clamp(min=1e-12).log() - top), 0).sum(1)
    kd = kd + q_tail * (q_tail.log() - tail.clamp(min=1e-12).log())
    return ce @ targets.ce_weights_N + kd @ targets.kd_weights_N


def _status(field: str) -> float:
    """Of this process, MiB."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def store() -> dict[str, float]:
    """Bytes a token of a file, and CPU microseconds a token to read it batch by batch."""
    from ledger.records import read_records

    count = 20 * SAMPLES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = write_store(folder, count)
        size = (folder / "teacher.parquet").stat().st_size
        records = read_records(folder, wanted, folder)
        order = np.random.default_rng(2).permutation(count).astype(str).tolist()
        began = time.process_time()
        for start in range(0, count, SAMPLES):
            records.decode(order[start : start + SAMPLES])
        seconds = time.process_time() - began
    return {"bytes": size / (count * LENGTH), "decode_us": 1e6 * seconds / (count * LENGTH)}


def child(what: str, steps: int) -> dict[str, float]:
    """One measurement, in this process."""
    if what in HEADS:
        return head(what)
    with tempfile.TemporaryDirectory() as folder:
        if what == "trl":
            return step_trl(Path(folder), steps)
        return step_ours(Path(folder), steps, by_records=what == "logit")


def measure(what: str, steps: int) -> dict[str, float]:
    """The same in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.distil", "--child", what, "--steps", str(steps)]
    env = {"HF_HUB_OFFLINE": "1", **waiting(), **os.environ}
    out = subprocess.run(words, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=4, help="of a process, the first not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=(*SYSTEMS, *HEADS))
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.steps)))
        return
    rounds = []
    for number in range(options.rounds):
        rounds.append({name: measure(name, options.steps) for name in (*SYSTEMS, *HEADS)})
        print(f"round {number + 1} of {options.rounds} is done", file=sys.stderr, flush=True)
    median = {
        name: {key: statistics.median(found[name][key] for found in rounds) for key in of_name}
        for name, of_name in rounds[0].items()
    }
    print(f"{'step':<10}{'s':>9}{'CPU s':>9}{'tokens/s':>10}   {TOKENS:,} tokens")
    for name in SYSTEMS:
        at = median[name]
        print(f"{name:<10}{at['s']:>9.2f}{at['cpu_s']:>9.2f}{TOKENS / at['s']:>10.0f}")
    print(f"\n{'head':<10}{'peak MiB':>9}{'CPU s':>9}")
    for name in HEADS:
        print(f"{name:<10}{median[name]['mib']:>9.0f}{median[name]['cpu_s']:>9.2f}")
    disk = store()
    print(
        f"\nstore {disk['bytes']:.1f} bytes a token, read in {disk['decode_us']:.2f} us of CPU each"
    )
    found = {
        "kd_over_ce": round(median["logit"]["s"] / median["trl"]["s"], 3),
        "head_rss_ratio": round(median["chunked"]["mib"] / median["full"]["mib"], 4),
        "store_bytes_per_token": round(disk["bytes"], 2),
        "decode_us_per_token": round(disk["decode_us"], 3),
        "hard_over_trl": round(median["trl"]["s"] / median["hard"]["s"], 3),
    }
    machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    print(json.dumps({**found, "machine": machine}))


if __name__ == "__main__":
    main()
