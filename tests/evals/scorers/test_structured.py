"""JSON and tool calls, against what jsonschema and BFCL's own rules say."""

import json
from typing import Any

import pytest

from evals.scorers import BadScorer, Score, score
from evals.scorers.base import NOTHING_FOUND
from evals.scorers.structured import find_calls, find_json

RIGHT, WRONG = Score(1.0, extracted=True), Score(0.0, extracted=True)
SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0}},
    "required": ["age"],
}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"age": 3}', RIGHT),
        ('Sure:\n```json\n{"age": 3}\n```', RIGHT),
        ('It is {"age": 3}, I think, not {}.', RIGHT),
        ('{"age": -3}', WRONG),
        ('{"age": "3"}', WRONG),
        ("[]", WRONG),
        ("three", NOTHING_FOUND),
        ('{"age": 3', NOTHING_FOUND),
        ("[" * 100_000, NOTHING_FOUND),
        ("{1, " * 100_000, NOTHING_FOUND),
    ],
)
def test_json_schema(answer: str, expected: Score) -> None:
    """Source: worked by hand, by JSON Schema 2020-12; the validator is the `jsonschema` package's."""
    assert score("json_schema", answer, None, {"schema": SCHEMA}) == expected
    assert score("json_schema", answer, json.dumps(SCHEMA), {}) == expected


def test_a_schema_that_is_none_is_told() -> None:
    with pytest.raises(BadScorer, match="the schema is none"):
        score("json_schema", "{}", None, {"schema": {"type": "objekt"}})
    with pytest.raises(BadScorer, match="not JSON"):
        score("json_schema", "{}", "{", {})
    with pytest.raises(BadScorer, match="points to nothing"):
        score("json_schema", "{}", None, {"schema": {"$ref": "#/$defs/none"}})


def test_fields_count_one_by_one() -> None:
    """Of name, tags 0 and 1, and address.town three are right: 3/4; one that is not asked for makes it 3/5."""
    wanted = json.dumps({"name": "Ann", "tags": ["a", "b"], "address": {"town": "Ulm"}})
    answer: dict[str, Any] = {"name": " Ann ", "tags": ["a", "c"], "address": {"town": "Ulm"}}
    assert score("json_fields", json.dumps(answer), wanted, {}).value == pytest.approx(3 / 4)
    more = json.dumps(answer | {"age": 3})
    assert score("json_fields", more, wanted, {}).value == pytest.approx(3 / 5)
    assert score("json_fields", more, wanted, {"extra": "ignore"}).value == pytest.approx(3 / 4)
    assert score("json_fields", "none", wanted, {}) == NOTHING_FOUND
    assert score("json_fields", "{}", "{}", {}) == RIGHT


def test_numbers_are_compared_by_value_and_truth_is_no_number() -> None:
    assert score("json_fields", '{"a": 1.0}', '{"a": 1}', {}) == RIGHT
    assert score("json_fields", '{"a": true}', '{"a": 1}', {}) == WRONG
    assert score("json_fields", '{"a": null}', '{"a": null}', {}) == RIGHT


# From BFCL's description of its possible answers: each parameter has a list of values, "" where it is optional.
TRIANGLE = json.dumps([{"triangle_area": {"base": [10], "height": [5], "unit": ["units", ""]}}])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"name": "triangle_area", "arguments": {"base": 10, "height": 5}}', RIGHT),
        (
            '[{"name": "triangle_area", "arguments": {"base": 10, "height": 5, "unit": "Units"}}]',
            RIGHT,
        ),
        ("[triangle_area(base=10, height=5)]", RIGHT),
        ("triangle_area(height=5.0, base=10)", RIGHT),
        (
            '<tool_call>{"name": "triangle_area", "arguments": {"base": 10, "height": 5}}</tool_call>',
            RIGHT,
        ),
        (
            '[{"function": {"name": "triangle_area", "arguments": "{\\"base\\": 10, \\"height\\": 5}"}}]',
            RIGHT,
        ),
        ("[triangle_area(base=10)]", WRONG),
        ("[triangle_area(base=10, height=6)]", WRONG),
        ("[triangle_area(base=10, height=5, colour='red')]", WRONG),
        ("[triangle_area(base='10', height=5)]", WRONG),
        ("[area(base=10, height=5)]", WRONG),
        (
            "[triangle_area(base=10, height=5), triangle_area(base=10, height=5)]",
            WRONG,
        ),
        ("The area is 25.", NOTHING_FOUND),
        ("[]", NOTHING_FOUND),
    ],
)
def test_tool_calls(answer: str, expected: Score) -> None:
    """Source: worked by hand, by the rules of the Berkeley Function Calling Leaderboard for simple calls."""
    assert score("tool_calls", answer, TRIANGLE, {}) == expected


def test_parallel_calls_come_in_any_order_and_names_with_dots_are_the_same() -> None:
    truth = json.dumps(
        [
            {"spotify.play": {"artist": ["Taylor Swift"], "duration": [20]}},
            {"spotify.play": {"artist": ["Maroon 5"], "duration": [15]}},
        ]
    )
    calls = "[spotify_play(artist='maroon 5', duration=15), spotify.play(artist='Taylor Swift', duration=20)]"
    assert score("tool_calls", calls, truth, {}) == RIGHT


def test_values_within_lists_and_dicts() -> None:
    truth = json.dumps(
        [{"order": {"lines": [[{"item": ["fries"], "count": [2, "2"], "note": [""]}]]}}]
    )
    assert score("tool_calls", "order(lines=[{'item': 'Fries', 'count': '2'}])", truth, {}) == RIGHT
    assert score("tool_calls", "order(lines=[{'item': 'fries'}])", truth, {}) == WRONG
    assert score("tool_calls", "order(lines=[])", truth, {}) == WRONG


def test_a_truth_of_another_form_is_told() -> None:
    with pytest.raises(BadScorer, match="list of"):
        score("tool_calls", "f()", '{"f": 3}', {})


def test_what_is_found() -> None:
    assert find_json("a {1} [2, 3] {") == [2, 3]
    assert find_calls("f(x=g(1))") is None
    assert find_calls("f(1)") is None


def nested(depth: int) -> str:
    return '{"in":' * depth + "{}" + "}" * depth


def test_an_answer_nested_too_deep_is_wrong() -> None:
    schema = {"type": "object", "properties": {"in": {"$ref": "#"}}}
    assert score("json_schema", nested(20), None, {"schema": schema}) == RIGHT
    assert score("json_schema", nested(300), None, {"schema": schema}) == WRONG
    assert score("json_fields", nested(900), '{"a": 1}', {}) == WRONG
    calls = json.dumps([{"f": {"x": [json.loads(nested(900))]}}])
    answer = f'{{"name": "f", "arguments": {{"x": {nested(900)}}}}}'
    assert score("tool_calls", answer, calls, {}) == WRONG


def test_a_schema_that_points_to_itself_is_told() -> None:
    with pytest.raises(BadScorer, match="without end"):
        score("json_schema", "{}", None, {"schema": {"anyOf": [{"$ref": "#"}]}})


@pytest.mark.parametrize(
    ("answer", "schema"),
    [
        ('"TEXT"', {"pattern": "^(a|aa)+$"}),
        ('{"TEXT": 1}', {"patternProperties": {"^(a|aa)+$": {}}}),
        ('{"TEXT": 1}', {"additionalProperties": False, "patternProperties": {"^(a|aa)+$": {}}}),
        ('{"TEXT": 1}', {"unevaluatedProperties": False, "patternProperties": {"^(a|aa)+$": {}}}),
    ],
)
def test_a_pattern_that_takes_too_long_is_told(answer: str, schema: dict[str, Any]) -> None:
    text = "a" * 100 + "!"
    with pytest.raises(BadScorer, match="took more than"):
        score("json_schema", answer.replace("TEXT", text), None, {"schema": schema})


def test_a_pattern_with_nested_repeats_ends() -> None:
    answer = json.dumps("a" * 100 + "!")
    assert score("json_schema", answer, None, {"schema": {"pattern": "^(a+)+$"}}) == WRONG


@pytest.mark.parametrize("keyword", ["additionalProperties", "unevaluatedProperties"])
def test_properties_are_left_over_where_no_pattern_matches(keyword: str) -> None:
    schema = {
        "properties": {"age": {}},
        "patternProperties": {"^a": {"type": "integer"}},
        keyword: False,
    }
    assert score("json_schema", '{"age": 1, "a": 2}', None, {"schema": schema}) == RIGHT
    assert score("json_schema", '{"age": 1, "a": "2"}', None, {"schema": schema}) == WRONG
    assert score("json_schema", '{"age": 1, "b": 2}', None, {"schema": schema}) == WRONG


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_in_json_fits_nothing(constant: str) -> None:
    schema = {"properties": {"x": {"type": "number"}}}
    assert score("json_schema", f'{{"x": {constant}}}', None, {"schema": schema}) == NOTHING_FOUND
    assert score("json_schema", constant, None, {"schema": {"type": "number"}}) == NOTHING_FOUND


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", "2024-02-29", "2023-02-29"),
        ("date", "2024-01-01", "1 January 2024"),
        ("date-time", "2024-01-01T10:00:00.5+02:00", "2024-01-01 10:00"),
        ("date-time", "2024-01-01T10:00:00Z", "2024-13-01T10:00:00Z"),
        ("time", "10:00:00Z", "25:00:00Z"),
        ("email", "a@example.com", "a at example"),
        ("ipv4", "10.0.0.1", "10.0.0.256"),
    ],
)
def test_formats_are_checked(name: str, good: str, bad: str) -> None:
    schema = {"format": name}
    assert score("json_schema", json.dumps(good), None, {"schema": schema}) == RIGHT
    assert score("json_schema", json.dumps(bad), None, {"schema": schema}) == WRONG
    assert score("json_schema", "3", None, {"schema": schema}) == RIGHT


def test_the_draft_is_the_one_that_the_schema_names() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "items": [{"type": "string"}, {"type": "integer"}],
    }
    assert score("json_schema", '["a", 1]', None, {"schema": schema}) == RIGHT
    assert score("json_schema", '["a", "b"]', None, {"schema": schema}) == WRONG
    with pytest.raises(BadScorer, match="the schema is none"):
        score("json_schema", "[]", None, {"schema": {"items": schema["items"]}})
    with pytest.raises(BadScorer, match="the schema is none"):
        score("json_schema", "[]", None, {"schema": {"$schema": 5}})


# Two calls, of which the first truth allows what the second needs.
TWO = json.dumps([{"f": {"x": [1, 2]}}, {"f": {"x": [1]}}])
ONE, OTHER = '{"name": "f", "arguments": {"x": 1}}', '{"name": "f", "arguments": {"x": 2}}'


@pytest.mark.parametrize(
    "answer",
    [
        "[f(x=1), f(x=2)]",
        "[f(x=2), f(x=1)]",
        f"{ONE}\n{OTHER}",
        f"{ONE}; {OTHER}",
        f"```json\n{ONE}\n```\nand\n```json\n{OTHER}\n```",
        f"```\n{ONE}\n{OTHER}\n```",
        f"1. {ONE}\n2. {OTHER}",
        f'{{"tool_calls": [{ONE}, {OTHER}]}}',
        f"<tool_call>{ONE}</tool_call><tool_call>{OTHER}</tool_call>",
        f"<tool_call>[{ONE}, {OTHER}]</tool_call>",
        "f(x=1)\nf(x=2)",
        "f(x=1); f(x=2)",
        "```tool_code\nprint(f(x=1))\nprint(f(x=2))\n```",
        "First f(x=1), then `f(x=2)`.",
        "I don't use f() alone: [f(x=1), f(x=2)]. Isn't it good?",
    ],
)
def test_parallel_calls_are_found_and_matched_in_any_order(answer: str) -> None:
    assert score("tool_calls", answer, TWO, {}) == RIGHT


@pytest.mark.parametrize("answer", ["[f(x=2), f(x=2)]", "[f(x=1)]", f"{ONE}\n{OTHER}\n{ONE}"])
def test_calls_too_many_too_few_or_other_ones_are_wrong(answer: str) -> None:
    assert score("tool_calls", answer, TWO, {}) == WRONG


@pytest.mark.parametrize(
    "answer",
    [
        'Sure, here is the call: [get_weather(city="Paris")]',
        'I call get_weather(city="Paris").',
        'get_weather(\n    city="Paris",\n)\n\nThat gets it (the weather).',
        '```json\n{"name": "get_weather", "parameters": {"city": "Paris"}}\n```',
        'For {"city": "Paris"}: {"name": "get_weather", "arguments": {"city": "Paris"}}',
    ],
)
def test_a_call_is_found_amid_prose(answer: str) -> None:
    truth = json.dumps([{"get_weather": {"city": ["Paris"]}}])
    assert score("tool_calls", answer, truth, {}) == RIGHT


@pytest.mark.parametrize(
    "answer",
    ["now()", "Here:\nnow()", '{"name": "now"}', '{"name": "now", "arguments": null}', "[now()]"],
)
def test_a_call_may_have_no_arguments(answer: str) -> None:
    assert score("tool_calls", answer, '[{"now": {}}]', {}) == RIGHT


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("No tool is needed.", RIGHT),
        ("[]", RIGHT),
        ("I do not call now() here (it is late).", RIGHT),
        ('{"name": "Ann", "age": 3}', RIGHT),
        ("```python\ndef f(x=1):\n    return x\n```", RIGHT),
        ("<think>f(x=1)?</think>No.", RIGHT),
        ("f(x=1)", WRONG),
        ("f(1)", WRONG),
        (f"Here: {ONE}", WRONG),
        ("<tool_call>{", WRONG),
        ("", NOTHING_FOUND),
    ],
)
def test_where_no_call_is_wanted_one_is_wrong(answer: str, expected: Score) -> None:
    assert score("tool_calls", answer, "[]", {}) == expected


def test_json_words_stand_in_python_calls() -> None:
    truth = json.dumps([{"f": {"x": [True], "y": [[None]]}}])
    assert score("tool_calls", "[f(x=true, y=[null])]", truth, {}) == RIGHT
