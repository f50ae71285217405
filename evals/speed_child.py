"""One model in a process of its own, so that its peak memory is its own.

    python -m evals.speed_child

One JSON object a line. The first on stdin is the job (folder, adapter, dtype, chats, max_tokens,
batch_size); stdout answers `{"ready": true}` once the model is loaded and warm. Each further line
is answered by a round: its seconds, answers, tokens and the peak memory so far. It ends with stdin.
"""

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

MIB = 2**20


def main() -> None:
    """Loads the model that the job names, then times a round whenever the parent asks for one."""
    with _reserved_stdout() as replies:
        try:
            model = _Model(json.loads(sys.stdin.readline()))
            model.run(1)
            _reply(replies, {"ready": True})
            for _ in sys.stdin:
                _reply(replies, model.round())
        except (
            Exception
        ) as error:  # whatever loading or generating raises is for the parent to tell
            _reply(replies, {"error": f"{type(error).__name__}: {error}"})


def peak_rss_mib() -> float:
    """The most memory that this process ever held.

    Linux hands `ru_maxrss` down from the parent that started the process, so there it is read from
    /proc, which starts anew.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 1024)


class _Model:
    """A loaded model with its prompts as tokens."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        import torch

        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network, tokenizer = _load(job, self.device)
        self.max_tokens: int = job["max_tokens"]
        rows = [_tokens(tokenizer, chat) for chat in job["chats"]]
        size = job["batch_size"]
        self.batches = [rows[i : i + size] for i in range(0, len(rows), size)]

    def round(self) -> dict[str, Any]:
        """Answers all prompts once."""
        started = time.perf_counter()
        answers = self.run(len(self.batches))
        seconds = time.perf_counter() - started
        gpu_mib = self.torch.cuda.max_memory_reserved() / MIB if self.device == "cuda" else None
        return {
            "seconds": seconds,
            "answers": answers,
            "tokens": answers * self.max_tokens,
            "peak_rss_mib": peak_rss_mib(),
            "peak_gpu_mib": gpu_mib,
        }

    def run(self, batches: int) -> int:
        """Answers the first batches; every answer gets exactly `max_tokens` tokens."""
        with self.torch.inference_mode():
            for rows in self.batches[:batches]:
                self._generate(rows)
        if self.device == "cuda":
            self.torch.cuda.synchronize()
        return sum(map(len, self.batches[:batches]))

    def _generate(self, rows: list[list[int]]) -> None:
        width = max(map(len, rows))
        fill = self.network.generation_config.pad_token_id
        tokens_B_P = self.torch.tensor([[fill] * (width - len(row)) + row for row in rows])
        mask_B_P = self.torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        out_B_T = self.network.generate(
            tokens_B_P.to(self.device),
            attention_mask=mask_B_P.to(self.device),
            do_sample=False,
            min_new_tokens=self.max_tokens,
            max_new_tokens=self.max_tokens,
        )
        assert out_B_T.shape[1] == width + self.max_tokens


def _load(job: Mapping[str, Any], device: str) -> tuple[Any, Any]:
    """The model and its tokenizer, from safetensors only; no code that comes with them is run."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    safe = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(job["folder"], **safe)
    if job["chat_template"] is not None:
        tokenizer.chat_template = job["chat_template"]
    network = AutoModelForCausalLM.from_pretrained(
        job["folder"], dtype=job["dtype"], use_safetensors=True, **safe
    )
    if job["adapter"] is not None:
        from peft import PeftModel

        network = PeftModel.from_pretrained(network, job["adapter"]).merge_and_unload()
    ends = network.generation_config.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    fill = next((x for x in (tokenizer.pad_token_id, tokenizer.eos_token_id) if x is not None), 0)
    network.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=fill)
    return network.to(device).eval(), tokenizer


def _tokens(tokenizer: Any, chat: Mapping[str, Any]) -> list[int]:
    text = tokenizer.apply_chat_template(**chat, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@contextlib.contextmanager
def _reserved_stdout() -> Iterator[IO[str]]:
    """Keeps stdout for replies: whatever a library prints goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)
        yield replies


def _reply(replies: IO[str], reply: Mapping[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
