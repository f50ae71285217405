"""The quickstart's model: a Llama of 0.24 million parameters, its tokenizer, training, answers.

The tokenizer knows 256 bytes and the fixed phrases of the templates, so a prompt takes about 14
tokens and everything else is read letter by letter. Loss is on the answer only.
"""

import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from recipes.quickstart.skills import Pair

Ids = tuple[list[int], int]  # prompt and answer as tokens, number of tokens in the prompt

SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CONTEXT_TOKENS = 512
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build_tokenizer(phrases: Sequence[str]) -> PreTrainedTokenizerFast:
    """Bytes, and each phrase as one token where no letter follows it."""
    pieces = SPECIAL + sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces += [phrase.replace(" ", "Ġ").replace("×", "ÃĹ") for phrase in phrases]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    known = "|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"(?:{known})(?![A-Za-z])|[\\s\\S]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=SPECIAL[2:],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        initializer_range=0.05,
        # prompts are short: a small base tells neighbouring positions apart better
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def as_tokens(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[Pair]) -> list[Ids]:
    prompts = [f"<|user|>{prompt}<|end|><|assistant|>" for prompt, _ in pairs]
    answers = [f"{answer}<|end|>" for _, answer in pairs]
    heads = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    tails = tokenizer(answers, add_special_tokens=False)["input_ids"]
    return [(head + tail, len(head)) for head, tail in zip(heads, tails, strict=True)]


def batches(rows: list[Ids], tokens: int, rng: random.Random) -> Iterator[list[Ids]]:
    """Endless batches of about `tokens` tokens; rows of like length stand together."""
    while True:
        rng.shuffle(rows)
        for start in range(0, len(rows), 2_000):
            pool = sorted(rows[start : start + 2_000], key=lambda row: len(row[0]))
            cut: list[list[Ids]] = [[]]
            for row in pool:
                if (len(cut[-1]) + 1) * len(row[0]) > tokens:
                    cut.append([])
                cut[-1].append(row)
            rng.shuffle(cut)
            yield from (batch for batch in cut if batch)


def to_tensors(batch: list[Ids], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(ids) for ids, _ in batch)
    ids_BT = torch.full((len(batch), width), pad)
    labels_BT = torch.full((len(batch), width), -100)
    for i, (ids, prompt_tokens) in enumerate(batch):
        ids_BT[i, : len(ids)] = torch.tensor(ids)
        labels_BT[i, prompt_tokens : len(ids)] = torch.tensor(ids[prompt_tokens:])
    return ids_BT, labels_BT


def train(
    model: LlamaForCausalLM,
    rows: list[Ids],
    *,
    steps: int,
    learning_rate: float,
    tokens: int,
    seed: int,
    on_step: Callable[[int, float], None],
) -> None:
    """AdamW, cosine, 4 % warm-up. Padding is on the right: causal attention needs no mask."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )
    warmup = max(1, steps // 25)

    def scale(step: int) -> float:
        rise = (step + 1) / warmup
        return min(rise, 0.5 + 0.5 * math.cos(math.pi * step / steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, scale)
    feed = batches(list(rows), tokens, random.Random(seed))
    model.train()
    for step in range(1, steps + 1):
        ids_BT, labels_BT = to_tensors(next(feed), int(model.config.pad_token_id))
        loss = model(input_ids=ids_BT, labels=labels_BT, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        on_step(step, loss.item())
    model.eval()


@torch.inference_mode()
def answer(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    *,
    max_tokens: int = 24,
    batch_size: int = 256,
) -> list[str]:
    """Greedy answers, in the order of the prompts."""
    found: list[str] = []
    for start in range(0, len(prompts), batch_size):
        turns = [[{"role": "user", "content": p}] for p in prompts[start : start + batch_size]]
        inputs = tokenizer.apply_chat_template(
            turns,
            add_generation_prompt=True,
            padding=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        output_BT = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)
        new_BT = output_BT[:, inputs["input_ids"].shape[1] :]
        found += tokenizer.batch_decode(new_BT, skip_special_tokens=True)
    return found


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """A plain Hugging Face folder: safetensors, tokenizer with chat template, generation config."""
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=24,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
