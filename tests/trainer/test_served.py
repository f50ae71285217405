"""A student is what others serve: the real vLLM (its CPU build will do) answers as the trainer's own model."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ledger.mixes import read_manifest
from ledger.prompts import Prompt
from ledger.store import Ledger
from recipes.smollm2.plain_model import convert
from router.teachers import TeacherConfig, open_teacher
from router.teachers.opening import open_local
from router.teachers.protocol import Sampling
from router.teachers.server import stop_servers
from tests.trainer.support import fill_ledger, make_mix, make_rows
from tests.trainer.training_child import run

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]
ARGUMENTS = "--dtype float32 --max-model-len 512 --enforce-eager --max-num-seqs 8 --gpu-memory-utilization 0.4"
NEAR = 0.05  # probabilities nearer than this may change places from one backend to another


def test_vllm_answers_as_the_trainers_own_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = make_rows(48)
    make_mix(tmp_path / "mix", rows)
    with (ledger := Ledger(tmp_path / "student-ledger")).writing("test"):
        fill_ledger(ledger, rows, read_manifest(tmp_path / "mix").lock_sha)
    changes: dict[str, Any] = {"base": str(convert().resolve()), "lora": {"rank": 8}, "epochs": 1}
    student = run(tmp_path, "student", learning_rate=1e-3, **changes)
    config = TeacherConfig.model_validate(
        {"vllm": str(student.path), "licence": "Apache-2.0", "args": ARGUMENTS}
    )
    served = open_teacher("student", config, Path(), tmp_path)
    own = open_local("student", student.path, dtype="float32")
    prompts = [Prompt.of(row["prompt"][0]["content"]) for row in rows[:6]]
    prompts += [Prompt.of("What is the capital of France?"), Prompt.of("Zähle bis drei. 日本")]
    greedy = Sampling(max_tokens=24)
    try:
        theirs = [answer.text for answer in asyncio.run(_served(served, prompts, greedy))]
    finally:
        stop_servers()
    ours = [answer.text for answer in asyncio.run(own.answer(prompts, greedy))]
    assert len(set(ours)) > 4
    for prompt, one, other in zip(prompts, ours, theirs, strict=True):
        assert one == other or _nearly_tied(own, prompt, one, other), (one, other)


async def _served(teacher: Any, prompts: list[Prompt], sampling: Sampling) -> list[Any]:
    await teacher.server.start()
    answers = await teacher.answer(prompts, sampling)
    await teacher.close()
    return list(answers)


def _nearly_tied(model: Any, prompt: Prompt, one: str, other: str) -> bool:
    """Whether the model's two likeliest tokens lie close together where both answers part."""
    tokenizer = model.tokenizer()
    text = tokenizer.apply_chat_template(
        list(prompt.messages), tokenize=False, add_generation_prompt=True
    )
    ours, theirs = (
        tokenizer(text + answer, add_special_tokens=False)["input_ids"] for answer in (one, other)
    )
    pairs = enumerate(zip(ours, theirs, strict=False))
    parted = next((i for i, (a, b) in pairs if a != b), min(len(ours), len(theirs)) - 1)
    ((_, p),) = asyncio.run(model.top_k([(ours[: parted + 1], parted)], 2, len(tokenizer), 1.0))
    return bool(p[0, 0] - p[0, 1] < NEAR)
