"""Answers for the mixer's tests: small, and told apart by their number."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ledger.keys import content_key
from ledger.prompts import Prompt
from mixer import Candidate, MixConfig

Answers = Callable[..., list[Candidate]]
Mix = Callable[..., MixConfig]


@pytest.fixture(scope="session")
def answers() -> Answers:
    """`answers("maths", 3, tokens=[5, 6, 7], **fields)`: distinct usable candidates of one task."""

    def make(task: str, n: int, tokens: list[int] | int = 10, **fields: Any) -> list[Candidate]:
        each = [tokens] * n if isinstance(tokens, int) else tokens
        return [_candidate(task, number, each[number], fields) for number in range(n)]

    return make


def _candidate(task: str, number: int, tokens: int, fields: dict[str, Any]) -> Candidate:
    prompt = Prompt.of(f"{task} question {number}")
    teacher = fields.get("teacher", "ada")
    candidate = Candidate(
        sample=content_key([task, number, teacher]),
        prompt_key=prompt.key,
        task=task,
        teacher=teacher,
        licence="Apache-2.0",
        source="prompts.jsonl",
        source_licence="CC-BY-4.0",
        messages=prompt.messages,
        answer=f"{task} answer {number}",
        tokens=tokens,
    )
    return replace(candidate, **fields)


@pytest.fixture(scope="session")
def mix() -> Mix:
    """`mix(total=10, shares={...})`: the recipe section, in samples unless told."""

    def make(**section: Any) -> MixConfig:
        return MixConfig.model_validate({"unit": "samples", **section})

    return make
