"""Tiny real parts: a base of a few thousand parameters, a mix, a ledger that holds its samples."""

import random
from pathlib import Path
from typing import Any

from ledger.keys import content_key, now_us
from ledger.mixes import MixStage, order_schema, samples_schema, write_mix
from ledger.store import Ledger

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<pad>", "<|im_start|>", "<|im_end|>"]


def character_tokenizer(template: str | None = CHATML, **options: Any) -> Any:
    """Every byte is a token; three control tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = SPECIAL + sorted(pre_tokenizers.ByteLevel.alphabet())
    model = models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    settings = {
        "pad_token": "<pad>",
        "eos_token": "<|im_end|>",
        "additional_special_tokens": ["<|im_start|>"],
        "chat_template": template,
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{**settings, **options})


def make_base(folder: Path, tokenizer: Any = None, hidden: int = 16, layers: int = 2) -> Path:
    """A random Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer or character_tokenizer()
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_rows(count: int) -> list[dict[str, Any]]:
    """Samples of two teachers: a word to be written backwards."""
    draw = random.Random(0)
    rows = []
    for i in range(count):
        word = "".join(draw.choice("abcdef") for _ in range(draw.randint(3, 6)))
        rows.append(
            {
                "sample": content_key(["sample", i]),
                "prompt_key": content_key(["prompt", i]),
                "task": "spell",
                "teacher": ("ann", "bob")[i % 2],
                "licence": "Apache-2.0",
                "prompt": [{"role": "user", "content": f"backwards: {word}"}],
                "completion": [{"role": "assistant", "content": word[::-1]}],
                "tools": None,
                "tokens": len(word) + 1,
                "weight": 1.0,
            }
        )
    return sorted(rows, key=lambda row: row["sample"])


def make_mix(folder: Path, rows: list[dict[str, Any]], split: float = 0.3) -> Path:
    """Two stages over the rows, the first in order of length."""
    import pyarrow as pa

    cut = int(split * len(rows))
    stages = [MixStage("basics", 0, cut, "length"), MixStage("all", cut, len(rows), "shuffled")]
    order = [
        {"position": i, "stage": "basics" if i < cut else "all", "row": i, "repeat": 0}
        for i in range(len(rows))
    ]
    samples = pa.Table.from_pylist(rows, samples_schema())
    write_mix(
        folder,
        samples,
        pa.Table.from_pylist(order, order_schema()),
        {},
        stages,
        seed=7,
        unit="samples",
    )
    return folder


def fill_ledger(ledger: Ledger, rows: list[dict[str, Any]], lock_sha: str = "") -> None:
    """The prompts, teachers, requests and samples that a mix stands on, and the mix itself."""
    at = now_us()
    sampling = {
        "sampling": "{}",
        "max_tokens": 16,
        "top_logprobs": 0,
        "state": "done",
        "reason": None,
    }
    unused = dict.fromkeys(
        ["error_class", "queued_at", "started_at", "ended_at", "cost_usd", "price_source", "stage"]
    )
    batch: list[tuple[str, list[dict[str, Any]]]] = []
    for name in sorted({row["teacher"] for row in rows}):
        teacher = {"key": content_key(name), "name": name, "kind": "local", "model": name}
        batch.append(("teacher", [{**teacher, "revision": "1", "settings": "{}"}]))
    for row in rows:
        who, what = content_key(row["teacher"]), row["prompt_key"]
        key = content_key(["request", row["sample"]])
        refs = {"prompt": what, "teacher": who}
        counts = {
            "task": "",
            "n": 0,
            "attempts": 1,
            "prompt_tokens": 9,
            "completion_tokens": 5,
            "run": "r",
        }
        batch += [
            ("prompt", [{"key": what, "source": "test", "chars": 9}]),
            ("request", [{"key": key, **refs, **sampling, **unused, **counts}]),
            (
                "sample",
                [
                    {
                        "key": row["sample"],
                        "request": key,
                        **refs,
                        "model": "m",
                        "text_sha": "",
                        "finish_reason": "stop",
                        "completion_tokens": 5,
                        "recorded_at": at,
                    }
                ],
            ),
        ]
    mix = {"key": content_key("mix"), "run": "r", "path": "", "lock_sha": lock_sha, "plan_sha": ""}
    batch.append(("mix", [{**mix, "samples": len(rows), "tokens": 0, "recorded_at": at}]))
    ledger.put_all(batch)
    ledger.fold()
