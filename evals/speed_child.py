"""One model in a process of its own, so that its peak memory is its own.

    python -m evals.speed_child

One JSON object a line. The first on stdin is the job (folder, adapter, dtype, chats, max_tokens,
concurrency); stdout answers `{"ready": true}` once the model is loaded and warm. Each further line,
`{"round": N}`, is answered by a round of N prompts side by side: its seconds, answers, tokens, the seconds of
each batch's steps, and the peak memory so far. It ends with stdin.
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

from ledger.threads import threads_for

MIB = 2**20
BATCHES = 2  # of a round below the highest concurrency


def main() -> None:
    """Loads the model that the job names, then times a round whenever the parent asks for one."""
    with _reserved_stdout() as replies:
        try:
            model = _Model(json.loads(sys.stdin.readline()))
            model.warm()
            _reply(replies, {"ready": True})
            for line in sys.stdin:
                _reply(replies, model.round(json.loads(line)["round"]))
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
        self.rows = [_tokens(tokenizer, chat) for chat in job["chats"]]
        self.concurrency: list[int] = job["concurrency"]

    def warm(self) -> None:
        """Answers once at each concurrency."""
        for size in self.concurrency:
            self._answer([self.rows[:size]])

    def round(self, size: int) -> dict[str, Any]:
        """Answers prompts, `size` side by side: all of them at the most, two batches below it."""
        rows = self.rows if size == max(self.concurrency) else self.rows[: BATCHES * size]
        batches = [rows[i : i + size] for i in range(0, len(rows), size)]
        started = time.perf_counter()
        steps_s = self._answer(batches)
        seconds, answers = time.perf_counter() - started, len(rows)
        gpu_mib = self.torch.cuda.max_memory_reserved() / MIB if self.device == "cuda" else None
        return {
            "concurrency": size,
            "seconds": seconds,
            "steps_s": steps_s,
            "answers": answers,
            "tokens": answers * self.max_tokens,
            "peak_rss_mib": peak_rss_mib(),
            "peak_gpu_mib": gpu_mib,
        }

    def _answer(self, batches: list[list[list[int]]]) -> list[list[float]]:
        """Every answer gets exactly `max_tokens` tokens. Returns the seconds of each batch's steps."""
        with self.torch.inference_mode(), threads_for(self.network.num_parameters()):
            steps_s = [self._generate(rows) for rows in batches]
        if self.device == "cuda":
            self.torch.cuda.synchronize()
        return steps_s

    def _generate(self, rows: list[list[int]]) -> list[float]:
        clock = _Clock()
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
            streamer=clock,
        )
        assert out_B_T.shape[1] == width + self.max_tokens
        return clock.steps_s


class _Clock:
    """Told of every step's tokens, as they come off the model; the prompt's come first."""

    def __init__(self) -> None:
        self.at = [time.perf_counter()]
        self.put = self._prompt

    def _prompt(self, _: Any) -> None:
        self.put = self._step

    def _step(self, _: Any) -> None:
        self.at.append(time.perf_counter())

    def end(self) -> None:
        """The answer is whole."""

    @property
    def steps_s(self) -> list[float]:
        """Seconds of each step."""
        return [end - begin for begin, end in zip(self.at, self.at[1:], strict=False)]


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
