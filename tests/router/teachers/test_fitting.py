"""What a teacher cannot take, and why."""

from pathlib import Path

import pytest

from ledger.prompts import Prompt
from router.teachers.config import TeacherConfig
from router.teachers.fitting import unable
from router.teachers.opening import open_teacher
from router.teachers.protocol import Sampling

QUICKSTART = Path(__file__).parents[3] / "recipes" / "quickstart"
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
SHORT, LONG = Prompt.of("What is 4 + 5?"), Prompt.of("What is 4 + 5? " * 40)
TOOLS = Prompt(SHORT.messages, tools=(TOOL,))
JSON = Prompt(SHORT.messages, json_schema={"type": "object"})
ALL = [SHORT, LONG, TOOLS, JSON]
KINDS = [
    {"local": "adder"},
    {"http": "m", "url": "http://127.0.0.1:9/v1"},
    {"vllm": "adder", "args": "--max-model-len 100", "command": "true"},
    {"litellm": "openai/m"},
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: next(iter(kind)))
def test_a_teacher_cannot_take_what_it_lacks_or_what_is_too_long(kind: dict[str, str]) -> None:
    config = TeacherConfig.model_validate(
        {**kind, "licence": "MIT", "context": 100, "lacks": ["tools", "json"]}
    )
    found = unable(open_teacher("t", config, QUICKSTART), ALL, Sampling(max_tokens=24))
    assert list(found) == [1, 2, 3]
    assert found[1].startswith("the prompt has ")
    assert "the teacher's context is 100" in found[1]
    assert found[2] == "the prompt asks for tools, which the recipe says the teacher `lacks`"
    assert "json" in found[3]


def test_by_default_a_server_takes_everything() -> None:
    config = TeacherConfig(http="m", url="http://127.0.0.1:9/v1", licence="MIT")
    assert unable(open_teacher("t", config, QUICKSTART), ALL, Sampling()) == {}


def test_an_own_server_takes_as_much_as_its_arguments_say() -> None:
    config = TeacherConfig.model_validate(
        {"vllm": "adder", "args": "--max-model-len 100", "command": "true", "licence": "MIT"}
    )
    assert list(unable(open_teacher("t", config, QUICKSTART), ALL, Sampling(max_tokens=24))) == [1]
