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
