"""Answers as they are: structure, tool calls, log-probabilities, several to a prompt, whoever answered."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.scorers import score
from ledger.lineage import find_sample, sample_story
from ledger.prompts import Prompt
from ledger.store import Ledger
from ledger.structure import schema_problem
from router.engine import GenerateConfig, Purchase, Request, answers, buy, sampling_of
from router.teachers import Teacher, open_local
from tests.faults.server import Call, FaultServer, Reply, completion, content, payload

MakeTeacher = Callable[..., Teacher]
SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "integer", "multipleOf": 0.5}},
    "required": ["sum"],
    "additionalProperties": False,
}
TOOLS = ({"type": "function", "function": {"name": "add"}},)


def ask(ledger: Ledger, teacher: Teacher, prompt: Prompt, n: int = 1, **fields: Any) -> Purchase:
    """Buys n answers to one prompt."""
    ledger.put_all(prompt.rows("test"))
    settings = GenerateConfig(**{"max_tokens": 8, "deadline_s": 5.0, **fields})
    requests = [Request(prompt, "t", place) for place in range(n)]
    sampling = sampling_of(settings)
    return buy(requests, {"t": teacher}, ledger, sampling, settings, stage="generate", run="r")


def with_logprobs(call: Call) -> Reply | None:
    """What a server says that can give log-probabilities, when it is asked for them."""
    if not call.body.get("logprobs"):
        return None
    answer = completion("4")
    entry = {"token": "4", "logprob": -0.1, "top_logprobs": [{"token": "4", "logprob": -0.1}]}
    answer["choices"][0]["logprobs"] = {"content": [entry]}
    return payload(answer)


def test_structured_answer_is_asked_for_and_held_against_its_schema(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher
) -> None:
    prompt = Prompt(({"role": "user", "content": "1 + 2?"},), None, SCHEMA)
    server.script(content('{"sum": 3}'))
    assert ask(ledger, http_teacher(server), prompt).states == {"done": 1}
    form = server.calls[0].body["response_format"]
    assert form["json_schema"] == {"name": "answer", "schema": SCHEMA, "strict": True}
    assert prompt.key != Prompt.of("1 + 2?").key
    ledger.verify()
    stored = ledger.rows("SELECT messages, tools, json_schema FROM prompt_text")[0]
    assert Prompt.from_row(*stored) == prompt


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"sum": "three"}', "'three' is not of type 'integer' (at $.sum)"),
        ("{}", "'sum' is a required property"),
        ("The sum is 3.", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('{"sum": NaN}', "NaN is no JSON number"),
        ('{"sum": 1e999}', "it cannot be held against its schema"),
        ('{"sum": 1' + "0" * 400 + "}", "it cannot be held against its schema"),
    ],
)
def test_answer_against_its_schema_is_invalid_and_paid_for(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, text: str, told: str
) -> None:
    price = {"input_usd_per_million": 0.0, "output_usd_per_million": 1000.0}
    teacher = http_teacher(server, price=price, budget_usd=1.0)
    server.script(content(text))
    purchase = ask(ledger, teacher, Prompt(({"role": "user", "content": "?"},), None, SCHEMA))
    assert purchase.states == {"invalid": 1}
    assert told in purchase.failures["schema"].example
    assert purchase.cost_usd == pytest.approx(0.005)


@pytest.mark.parametrize("schema", [{"type": 5}, {"$schema": 5}, [], "x", {"properties": 1}])
def test_what_is_no_schema_is_told(schema: Any) -> None:
    assert schema_problem(schema)


def test_schema_that_points_elsewhere_is_not_followed(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher
) -> None:
    with FaultServer() as elsewhere:
        schema = {"$ref": f"{elsewhere.url}/schema.json"}
        server.script(content("{}"))
        purchase = ask(
            ledger, http_teacher(server), Prompt(({"role": "user", "content": "?"},), None, schema)
        )
        assert "its schema cannot be followed" in purchase.failures["schema"].example
        assert not elsewhere.calls


def calling(server: FaultServer, text: str | None, finish: str, *functions: Any) -> None:
    """The server answers with tool calls."""
    answer = completion(text, finish, model="m-2026-01-31")
    answer["choices"][0]["message"]["tool_calls"] = [
        {"id": str(n), "type": "function", "function": function}
        for n, function in enumerate(functions)
    ]
    server.script(payload(answer))


def test_tool_calls_and_the_answering_model_have_columns_of_their_own(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher
) -> None:
    calling(server, None, "tool_calls", {"name": "add", "arguments": '{"a": 1}'})
    ask(ledger, http_teacher(server), Prompt(({"role": "user", "content": "?"},), TOOLS))
    key = ledger.rows("SELECT key FROM sample")[0][0]
    story = sample_story(ledger, find_sample(ledger, key))
    assert json.loads(story["tool_calls"])[0]["function"]["arguments"] == '{"a": 1}'
    assert story["answered_by"] == "m-2026-01-31"


@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
def test_tool_calls_stand_in_the_text_as_students_write_them_and_scorers_read_them(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, finish: str
) -> None:
    wanted = [{"add": {"a": [1], "b": [2]}}, {"now": {}}]
    add, now = {"name": "add", "arguments": '{"a": 1, "b": 2}'}, {"name": "now", "arguments": ""}
    calling(server, "Let me see.", finish, add, now)
    purchase = ask(ledger, http_teacher(server), Prompt.of("1 + 2, and when?"))
    assert purchase.states == {"done": 1}
    text = ledger.rows("SELECT text FROM sample_text")[0][0]
    assert text == (
        'Let me see.\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>\n'
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    )
    assert score("tool_calls", text, json.dumps(wanted), {}).value == 1


def test_arguments_that_are_no_json_are_kept_and_a_call_of_nothing_is_invalid(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher
) -> None:
    calling(server, None, "tool_calls", {"name": "add", "arguments": "{a: 1"})
    ask(ledger, http_teacher(server), Prompt.of("1 + 2?"))
    text = ledger.rows("SELECT text FROM sample_text")[0][0]
    assert '"arguments": "{a: 1"' in text
    assert not score("tool_calls", text, '[{"add": {}}]', {}).extracted
    calling(server, None, "tool_calls", {"arguments": "{}"})
    purchase = ask(ledger, http_teacher(server), Prompt.of("2 + 2?"))
    assert "names no function" in purchase.failures["tool_call"].example


def test_log_probabilities_are_kept_and_bought_once(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher
) -> None:
    server.rule, teacher, prompt = with_logprobs, http_teacher(server), Prompt.of("2 + 2?")
    ask(ledger, teacher, prompt)
    assert "logprobs" not in server.calls[0].body
    for wanted, calls in ((5, 2), (5, 2), (3, 2), (8, 3), (None, 3)):
        ask(ledger, teacher, prompt, top_logprobs=wanted)
        assert len(server.calls) == calls, f"top_logprobs {wanted}"
    assert server.calls[1].body["top_logprobs"] == 5
    newest = ledger.rows("SELECT x.raw FROM sample_text x ORDER BY x.id DESC LIMIT 1")[0][0]
    assert json.loads(newest)["choices"][0]["logprobs"]["content"][0]["logprob"] == -0.1


def test_teacher_without_log_probabilities_is_asked_once(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher, tiny_model: Path
) -> None:
    teacher = http_teacher(server, max_in_flight=1)
    purchase = ask(ledger, teacher, Prompt.of("?"), n=4, top_logprobs=5, temperature=1.0)
    assert len(server.calls) == 1
    assert "`generate: top_logprobs`" in purchase.failures["no_logprobs"].example
    local = open_local("t", tiny_model)
    assert "no_logprobs" in ask(ledger, local, Prompt.of("?"), top_logprobs=5).failures


def test_several_answers_to_a_prompt_are_drawn_apart(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher
) -> None:
    teacher, prompt = http_teacher(server), Prompt.of("?")
    ask(ledger, teacher, prompt, n=3, temperature=0.7, seed=5)
    assert sorted(call.body["seed"] for call in server.calls) == [5, 6, 7]
    settings = GenerateConfig(max_tokens=8, temperature=0.7, seed=5)
    requests = [Request(prompt, "t", place) for place in range(3)]
    assert len(answers(ledger, requests, {"t": teacher}, sampling_of(settings))) == 3
    with pytest.raises(ValueError, match="all the same at temperature 0"):
        GenerateConfig(n=2)
