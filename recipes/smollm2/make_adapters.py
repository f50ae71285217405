"""Trains the three LoRA specialists of recipes/smollm2.yaml, and measures them and the plain model.

    python -m recipes.smollm2.make_adapters [--out DIR] [--seed N]

The same seed gives the same weights on the same kind of processor: two threads, whatever it has.
"""

import argparse
import json
import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from reasoning_gym.factory import get_score_answer_fn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from recipes.smollm2.families import FAMILIES, SPECIALISTS, Pair, draw, training_items
from recipes.smollm2.plain_model import convert, file_sha256

HERE = Path(__file__).resolve().parent
SAW = "teachers_saw.jsonl"
WEIGHTS = "adapter_model.safetensors"
TABLE_START, TABLE_END = "<!-- written by make_adapters.py -->", "<!-- end -->"
PLAIN = "plain"
MEASURED_ITEMS, MEASURED_SEED = 120, 900_000_000
RANK, BATCH, RATE = 4, 8, 1e-3
ANSWER_TOKENS, ANSWER_BATCH = 24, 50
THREADS = 2

Row = tuple[list[int], int]  # prompt and answer as tokens, number of tokens in the prompt


@dataclass(frozen=True)
class Made:
    """What the README says of one model."""

    name: str
    seconds: float
    exact: dict[str, float]  # family -> share of answers equal to reasoning-gym's
    score: dict[str, float]  # family -> mean of reasoning-gym's own scorer


def load() -> tuple[Any, Any]:
    """The plain model in float32, and its tokenizer."""
    logging.disable_progress_bar()
    folder = convert()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    return model, AutoTokenizer.from_pretrained(folder)


def as_tokens(tokenizer: Any, pairs: Sequence[Pair]) -> list[Row]:
    rows = []
    for prompt, answer in pairs:
        head = prompt_tokens(tokenizer, prompt)
        tail = tokenizer(answer, add_special_tokens=False)["input_ids"]
        rows.append(([*head, *tail, tokenizer.eos_token_id], len(head)))
    return rows


def prompt_tokens(tokenizer: Any, prompt: str) -> list[int]:
    turns = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def batches(rows: Sequence[Row], rng: random.Random) -> list[list[Row]]:
    """One pass over the rows; those of like length stand together, so that little is padding."""
    by_length = sorted(rng.sample(rows, len(rows)), key=lambda row: row[1])
    cut = [by_length[start : start + BATCH] for start in range(0, len(by_length), BATCH)]
    return rng.sample(cut, len(cut))


def answer_loss(model: Any, batch: Sequence[Row], shared: list[int], pad: int) -> torch.Tensor:
    """Mean loss over the answers' tokens.

    All rows begin with the tokens `shared` (system prompt, the task's wording), which go through the
    model once and not once a row: the same loss and gradients for up to a third of the arithmetic.
    Padding is on the right, where causal attention needs no mask.
    """
    past = model(input_ids=torch.tensor([shared]), use_cache=True, logits_to_keep=1).past_key_values
    past.batch_repeat_interleave(len(batch))
    skip = len(shared)
    width = max(len(ids) for ids, _ in batch) - skip
    keep = width - min(start for _, start in batch) + skip + 1
    ids_BT = torch.full((len(batch), width), pad)
    labels_BT = torch.full((len(batch), width), -100)
    for i, (ids, start) in enumerate(batch):
        ids_BT[i, : len(ids) - skip] = torch.tensor(ids[skip:])
        labels_BT[i, start - skip : len(ids) - skip] = torch.tensor(ids[start:])
    logits_BKV = model(input_ids=ids_BT, past_key_values=past, logits_to_keep=keep).logits[:, :-1]
    return functional.cross_entropy(
        logits_BKV.flatten(0, 1), labels_BT[:, width - keep + 1 :].flatten()
    )


def train(name: str, out: Path, seed: int, max_steps: int | None = None) -> float:
    """Trains and saves one adapter, in one pass over its items; returns the seconds."""
    started = time.monotonic()
    torch.manual_seed(seed)
    plain, tokenizer = load()
    model = get_peft_model(
        plain,
        LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=RANK,
            lora_alpha=2 * RANK,
            target_modules="all-linear",
        ),
    )
    rows = as_tokens(tokenizer, training_items(SPECIALISTS[name], seed))
    shared = list(os.path.commonprefix([ids for ids, _ in rows]))
    feed = batches(rows, random.Random(f"{name} {seed}"))[:max_steps]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, len(feed)))
    model.train()
    for step, batch in enumerate(feed, 1):
        loss = answer_loss(model, batch, shared, tokenizer.pad_token_id)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 10 == 0 or step == len(feed):
            seconds = time.monotonic() - started
            print(f"{name:12} step {step}/{len(feed)} loss {loss:.3f} {seconds:.0f} s", flush=True)
    save(model, out / name)
    return time.monotonic() - started


def _rate(step: int, steps: int) -> float:
    """Cosine with a warm-up over a twentieth of the steps."""
    rise = (step + 1) / max(1, steps // 20)
    return min(rise, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def save(model: Any, folder: Path) -> None:
    """The adapter in bfloat16, naming its base by the model's name and not by a path of ours."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.bfloat16()
    config = model.peft_config["default"]
    config.base_model_name_or_path = "SmolLM2-135M-Instruct"
    config.target_modules = sorted(config.target_modules)  # a set's order would be in the file
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's form, to be filled in


def measure(name: str, out: Path, seconds: float, n: int = MEASURED_ITEMS) -> Made:
    """Exact match and score on items that no adapter has seen, with the adapter as it was saved."""
    model, tokenizer = load()
    if name != PLAIN:
        model = PeftModel.from_pretrained(model, out / name).merge_and_unload()
    seen = frozenset(read_seen(out))
    exact, score = {}, {}
    for family in FAMILIES:
        items = draw(family, MEASURED_SEED, n, seen)
        given = answers(model.eval(), tokenizer, [prompt for prompt, _ in items])
        pairs = [(text, right) for text, (_, right) in zip(given, items, strict=True)]
        grade = get_score_answer_fn(family)
        exact[family] = sum(text == right for text, right in pairs) / n
        score[family] = sum(grade(text, {"answer": right}) for text, right in pairs) / n
        print(f"{name:12} {family:24} {exact[family]:.3f} ({score[family]:.3f})", flush=True)
    return Made(name, seconds, exact, score)


@torch.inference_mode()
def answers(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """Greedy answers, in the order of the prompts."""
    found: list[str] = []
    for start in range(0, len(prompts), ANSWER_BATCH):
        rows = [prompt_tokens(tokenizer, prompt) for prompt in prompts[start:][:ANSWER_BATCH]]
        inputs = tokenizer.pad(
            {"input_ids": rows}, padding=True, padding_side="left", return_tensors="pt"
        )
        out_BT = model.generate(**inputs, max_new_tokens=ANSWER_TOKENS, do_sample=False)
        new_BT = out_BT[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(new_BT, skip_special_tokens=True)
        found += [text.strip() for text in texts]
    return found


def write_seen(out: Path, seed: int) -> None:
    """Lists every prompt that an adapter is trained on."""
    rows = [
        json.dumps({"task": family, "prompt": prompt}, ensure_ascii=False)
        for family in FAMILIES
        for prompt, _ in training_items(family, seed)
    ]
    (out / SAW).write_text("\n".join(rows) + "\n", encoding="utf-8")


def read_seen(out: Path) -> Iterator[str]:
    for line in (out / SAW).read_text(encoding="utf-8").splitlines():
        yield json.loads(line)["prompt"]


def processor() -> str:
    """The processor's name where the system tells it, with the number of threads used."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{THREADS} threads, {names[0] if names else 'unknown processor'}, no GPU"


def table(made: Sequence[Made], out: Path, seed: int) -> str:
    lines = [
        f"Seed {seed}, {processor()}. Exact match on {MEASURED_ITEMS} items of each family that no "
        "adapter has seen; in brackets the mean of reasoning-gym's own scorer.",
        "",
        "| | " + " | ".join(f"`{family}`" for family in FAMILIES) + " | training |",
        "|---|" + "---:|" * (len(FAMILIES) + 1),
    ]
    for one in made:
        cells = [f"{one.exact[family]:.3f} ({one.score[family]:.3f})" for family in FAMILIES]
        label = "the plain model" if one.name == PLAIN else f"`{one.name}/`"
        spent = f"{one.seconds:.0f} s" if one.seconds else ""
        lines.append(f"| {label} | {' | '.join(cells)} | {spent} |")
    lines += ["", f"| `{WEIGHTS}` of | SHA-256 |", "|---|---|"]
    hashes = [f"| `{name}/` | `{file_sha256(out / name / WEIGHTS)}` |" for name in SPECIALISTS]
    return "\n".join(lines + hashes)


def write_readme(out: Path, text: str) -> None:
    """Puts the table between the README's two markers."""
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(TABLE_START)
    after = rest.split(TABLE_END)[1]
    page = f"{before}{TABLE_START}\n{text}\n{TABLE_END}{after}"
    (out / "README.md").write_text(page, encoding="utf-8")


def make(out: Path, seed: int) -> list[Made]:
    """Everything, one model after the other."""
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(THREADS)
    write_seen(out, seed)
    seconds = {name: train(name, out, seed) for name in SPECIALISTS}
    made = [measure(name, out, seconds.get(name, 0.0)) for name in (PLAIN, *SPECIALISTS)]
    text = table(made, out, seed)
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
