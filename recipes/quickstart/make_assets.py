"""Trains the quickstart's base, three specialists and a generalist, and measures them.

python recipes/quickstart/make_assets.py [--out DIR] [--seed N]

The same seed gives the same weights on the same kind of processor. The generalist saw half of
each family (spellings of up to five letters, sums but no differences, ciphers of up to six
letters), so it is mediocre for a reason that can be named.
"""

import argparse
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from reasoning_gym.factory import get_score_answer_fn
from transformers import AutoModelForCausalLM, AutoTokenizer

# the script runs from a clone, whether the clone is installed or not
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from recipes.quickstart.skills import (
    FAMILIES,
    Pair,
    ciphers,
    family_items,
    other_families,
    phrases,
    reserved_sums,
    small_skills,
    spellings,
)
from recipes.quickstart.small_model import (
    answer,
    as_tokens,
    build_model,
    build_tokenizer,
    save,
    train,
)

HERE = Path(__file__).resolve().parent
SAW = "teachers_saw.jsonl"
TABLE_START, TABLE_END = "<!-- written by make_assets.py -->", "<!-- end -->"
MEASURED_ITEMS, MEASURED_SEED = 500, 900_000_000
BATCH_TOKENS = 512
BASE_STEPS, BASE_RATE = 6_000, 3e-3
TEACHER_RATE = 2.5e-3
TEACHER_STEPS = {"speller": 600, "adder": 2_000, "decoder": 600, "generalist": 1_500}
MODELS = ["base", *TEACHER_STEPS]


@dataclass(frozen=True)
class Made:
    """What the README says of one model."""

    name: str
    seconds: float
    sha256: str
    exact: dict[str, float]  # family -> share of answers equal to reasoning-gym's
    score: dict[str, float]  # family -> mean of reasoning-gym's own scorer


def base_pairs(seed: int) -> list[Pair]:
    rng = random.Random(seed)
    return list(small_skills(rng, 150_000)) + other_families(rng, 9_000)


def teacher_pairs(name: str, seed: int) -> list[Pair]:
    rng = random.Random(f"{name} {seed}")
    sums = reserved_sums(seed)
    if name == "speller":
        return spellings(rng, 30_000)
    if name == "adder":
        return sums
    if name == "decoder":
        return ciphers(rng, 20_000)
    half = spellings(rng, 10_000, range(3, 6)) + ciphers(rng, 6_000, range(1, 7))
    return half + 4 * [pair for pair in sums if "+" in pair[0]]


@dataclass
class Progress:
    """Prints the mean loss ten times in a training."""

    name: str
    steps: int
    started: float
    total: float = 0.0

    def __call__(self, step: int, loss: float) -> None:
        self.total += loss
        every = max(1, self.steps // 10)
        if step % every == 0:
            seconds = time.monotonic() - self.started
            mean = self.total / every
            print(f"{self.name:10} step {step:5} loss {mean:.3f} {seconds:6.0f} s", flush=True)
            self.total = 0.0


def make_base(out: Path, seed: int) -> float:
    """Trains and saves `base`; returns the seconds."""
    torch.set_num_threads(1)
    started = time.monotonic()
    tokenizer = build_tokenizer(phrases())
    model = build_model(tokenizer, seed)
    rows = as_tokens(tokenizer, base_pairs(seed))
    train(
        model,
        rows,
        steps=BASE_STEPS,
        learning_rate=BASE_RATE,
        tokens=BATCH_TOKENS,
        seed=seed,
        on_step=Progress("base", BASE_STEPS, started),
    )
    save(model, tokenizer, out / "base")
    return time.monotonic() - started


def make_teacher(out: Path, seed: int, name: str) -> float:
    """Trains one teacher from `base` and saves it; returns the seconds."""
    torch.set_num_threads(1)
    started = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(out / "base")
    model = AutoModelForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
    torch.manual_seed(seed)
    train(
        model,
        as_tokens(tokenizer, teacher_pairs(name, seed)),
        steps=TEACHER_STEPS[name],
        learning_rate=TEACHER_RATE,
        tokens=BATCH_TOKENS,
        seed=seed,
        on_step=Progress(name, TEACHER_STEPS[name], started),
    )
    save(model, tokenizer, out / name)
    return time.monotonic() - started


def measure(out: Path, seed: int, name: str, seconds: float) -> Made:
    """Exact match and score on items that no model has seen, drawn as a recipe draws them."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(out / name)
    model = AutoModelForCausalLM.from_pretrained(out / name, dtype=torch.float32).eval()
    seen = frozenset(prompt for prompt, _ in reserved_sums(seed))
    exact, score = {}, {}
    for family in FAMILIES:
        items = family_items(family, MEASURED_SEED, MEASURED_ITEMS, seen)
        given = answer(model, tokenizer, [prompt for prompt, _ in items])
        pairs = [(text, right) for text, (_, right) in zip(given, items, strict=True)]
        grade = get_score_answer_fn(family)
        exact[family] = sum(text == right for text, right in pairs) / len(pairs)
        score[family] = sum(grade(text, {"answer": right}) for text, right in pairs) / len(pairs)
    weights = (out / name / "model.safetensors").read_bytes()
    return Made(name, seconds, hashlib.sha256(weights).hexdigest(), exact, score)


def write_seen(out: Path, seed: int) -> None:
    lines = [json.dumps({"prompt": prompt}) for prompt, _ in reserved_sums(seed)]
    (out / SAW).write_text("\n".join(lines) + "\n", encoding="utf-8")


def processor() -> str:
    """The processor's name where the system tells it, with the number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else 'unknown processor'}, no GPU"


def table(made: Sequence[Made], seed: int, seconds: float) -> str:
    lines = [
        f"Seed {seed}, {seconds:.0f} s in all on {processor()} (one thread a model, two models at "
        f"a time). Exact match on {MEASURED_ITEMS} items of each family that no model has seen; in "
        "brackets the mean of reasoning-gym's own scorer, which gives part of a point for a part.",
        "",
        "| | " + " | ".join(f"`{family}`" for family in FAMILIES) + " | training |",
        "|---|" + "---:|" * (len(FAMILIES) + 1),
    ]
    for one in made:
        cells = [f"{one.exact[family]:.3f} ({one.score[family]:.3f})" for family in FAMILIES]
        lines.append(f"| `{one.name}/` | " + " | ".join(cells) + f" | {one.seconds:.0f} s |")
    lines += ["", "| `model.safetensors` of | SHA-256 |", "|---|---|"]
    return "\n".join(lines + [f"| `{one.name}/` | `{one.sha256}` |" for one in made])


def write_readme(out: Path, text: str) -> None:
    """Puts the table between the README's two markers."""
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(TABLE_START)
    after = rest.split(TABLE_END)[1]
    page = f"{before}{TABLE_START}\n{text}\n{TABLE_END}{after}"
    (out / "README.md").write_text(page, encoding="utf-8")


def make(out: Path, seed: int) -> list[Made]:
    """Everything, `base` first and then two models at a time, each in a process of its own."""
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    write_seen(out, seed)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        seconds = {"base": pool.submit(make_base, out, seed).result()}
        trained = {name: pool.submit(make_teacher, out, seed, name) for name in TEACHER_STEPS}
        seconds |= {name: future.result() for name, future in trained.items()}
        measured = [pool.submit(measure, out, seed, name, seconds[name]) for name in MODELS]
        made = [future.result() for future in measured]
    text = table(made, seed, time.monotonic() - started)
    write_readme(out, text)
    print(text)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    make(options.out, options.seed)


if __name__ == "__main__":
    main()
