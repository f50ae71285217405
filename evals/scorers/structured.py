"""Scorers of answers with a form: `json_schema`, `json_fields` and `tool_calls`."""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from evals.scorers.base import (
    NOTHING_FOUND,
    BadScorer,
    Score,
    correct,
    final_part,
    needed_reference,
)

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

_FENCED = re.compile(r"```(?:json|python|tool_code)?\s*\n?(.*?)```", re.S)
_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.S)
_NOISE = re.compile(r"[ ,./\-_*^]")  # what BFCL leaves out of texts before it compares them
_OPENS = re.compile(r"[{\[]")
MOST_STARTS = 1_000  # of something that may be JSON, in one answer: each may cost as much as the answer is long
MISSING = object()


def json_schema(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """The answer's JSON fits `meta: {"schema": {...}}`, or the schema that is the reference."""
    from referencing.exceptions import Unresolvable

    schema = meta.get("schema", MISSING)
    if schema is MISSING:
        schema = _json_reference("json_schema", reference)
    validator = _validator(json.dumps(schema))
    value = find_json(final_part(answer))
    if value is MISSING:
        return NOTHING_FOUND
    try:
        return correct(validator.is_valid(value))
    except Unresolvable as error:
        raise BadScorer(f"scorer 'json_schema': the schema points to nothing: {error}") from error


@lru_cache(maxsize=256)
def _validator(schema: str) -> "Draft202012Validator":
    """Of a schema, as JSON; its own check takes longer than an answer's, and many items share one."""
    from jsonschema import Draft202012Validator, SchemaError

    found = json.loads(schema)
    try:
        Draft202012Validator.check_schema(found)
    except SchemaError as error:
        raise BadScorer(f"scorer 'json_schema': the schema is none: {error.message}") from error
    return Draft202012Validator(found)


def json_fields(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """The share of fields that are as in the reference's JSON, over the fields of both.

    Fields are leaves by their path; texts are compared without blanks around them, numbers by value. Fields
    that the reference does not have count as wrong, unless `meta: {"extra": "ignore"}`.
    """
    wanted = dict(_leaves(_json_reference("json_fields", reference)))
    value = find_json(final_part(answer))
    if value is MISSING:
        return NOTHING_FOUND
    found = dict(_leaves(value))
    paths = wanted.keys() if meta.get("extra") == "ignore" else wanted.keys() | found.keys()
    right = sum(
        path in found and path in wanted and _same(found[path], wanted[path]) for path in paths
    )
    return Score(right / len(paths) if paths else 1.0, extracted=True)


def tool_calls(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """The answer calls the functions that it should, in any order, with arguments that are allowed.

    The reference is a ground truth of the Berkeley Function Calling Leaderboard: a list of {function:
    {parameter: [values that will do]}}, in which "" among the values says that the parameter may be left out.
    Calls are read from JSON ({"name", "arguments"}, also in <tool_call> tags), or as Python calls `[f(x=1),
    g()]`.
    """
    truth = _truth(_json_reference("tool_calls", reference))
    calls = find_calls(final_part(answer))
    if calls is None:
        return NOTHING_FOUND
    left = list(truth)
    for call in calls:
        match = next((want for want in left if _is_call(call, want)), None)
        if match is None:
            return correct(False)
        left.remove(match)
    return correct(not left)


def find_json(text: str) -> Any:
    """The JSON in a text: all of it, the last fenced block, else the widest object or list; MISSING if none."""
    for part in (text, *reversed(_FENCED.findall(text))):
        value = _loads(part)
        if value is not MISSING:
            return value
    decoder = json.JSONDecoder()
    found, at, widest = MISSING, 0, 0
    for _ in range(MOST_STARTS):
        match = _OPENS.search(text, at)
        if match is None:
            break
        try:
            value, end = decoder.raw_decode(text, match.start())
        except ValueError:
            at = match.end()
            continue
        except RecursionError:  # nested without end: what is inside is no better
            break
        if end - match.start() > widest:
            found, widest = value, end - match.start()
        at = end
    return found


Call = tuple[str, dict[str, Any]]


def find_calls(text: str) -> list[Call] | None:
    """The calls in an answer: name and arguments; None where there are none."""
    tagged = [_loads(part) for part in _TAGGED.findall(text)]
    value: Any = tagged if tagged else find_json(text)
    calls = _json_calls(value)
    if calls is not None:
        return calls
    for part in (*reversed(_FENCED.findall(text)), text):
        calls = _python_calls(part.strip())
        if calls is not None:
            return calls
    return None


def _json_calls(value: Any) -> list[Call] | None:
    entries = value if isinstance(value, list) else [value]
    calls = []
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("function"), dict):
            entry = entry["function"]
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            return None
        arguments = entry.get("arguments", entry.get("parameters", {}))
        if isinstance(arguments, str):  # as OpenAI writes them
            arguments = _loads(arguments)
        if not isinstance(arguments, dict):
            return None
        calls.append((entry["name"], arguments))
    return calls or None


def _python_calls(text: str) -> list[Call] | None:
    try:
        tree = ast.parse(text, mode="eval").body
        entries = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
        calls = []
        for entry in entries:
            if not isinstance(entry, ast.Call) or entry.args:
                return None
            arguments = {str(k.arg): ast.literal_eval(k.value) for k in entry.keywords if k.arg}
            calls.append((ast.unparse(entry.func), arguments))
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return None
    return calls or None


def _truth(value: Any) -> list[tuple[str, dict[str, list[Any]]]]:
    try:
        return [
            (name, {key: list(allowed) for key, allowed in parameters.items()})
            for entry in value
            for name, parameters in entry.items()
        ]
    except (AttributeError, TypeError) as error:
        raise BadScorer(
            "scorer 'tool_calls': the reference must be a list of {function: {parameter: [values]}}, not "
            f"{str(value)[:80]}"
        ) from error


def _is_call(call: Call, wanted: tuple[str, dict[str, list[Any]]]) -> bool:
    (name, arguments), (its_name, allowed) = call, wanted
    if name.replace(".", "_") != its_name.replace(".", "_"):
        return False
    if arguments.keys() - allowed.keys():
        return False
    return all(
        any(_will_do(arguments[key], value) for value in values)
        if key in arguments
        else "" in values
        for key, values in allowed.items()
    )


def _will_do(given: Any, allowed: Any) -> bool:
    """Whether a value is one that BFCL's check lets through: in a dict each key has its own list of values."""
    if isinstance(allowed, dict) and isinstance(given, dict):
        return not given.keys() - allowed.keys() and all(
            any(_will_do(given[key], value) for value in _as_list(values))
            if key in given
            else "" in _as_list(values)
            for key, values in allowed.items()
        )
    if isinstance(allowed, list) and isinstance(given, list | tuple):
        return len(given) == len(allowed) and all(map(_will_do, given, allowed))
    if isinstance(given, str) and isinstance(allowed, str):
        return _plain(given) == _plain(allowed)
    return _same(given, allowed)


def _as_list(values: Any) -> Sequence[Any]:
    return values if isinstance(values, list) else [values]


def _plain(text: str) -> str:
    return _NOISE.sub("", text).lower().replace("'", '"')


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    if isinstance(one, str) and isinstance(other, str):
        return one.strip() == other.strip()
    return type(one) is type(other) and one == other


def _leaves(
    value: Any, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Each value that holds no other, by its path; an empty object or list is one itself."""
    inner: Iterator[tuple[str | int, Any]]
    if isinstance(value, dict) and value:
        inner = iter(value.items())
    elif isinstance(value, list) and value:
        inner = iter(enumerate(value))
    else:
        yield path, value
        return
    for key, each in inner:
        yield from _leaves(each, (*path, key))


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return MISSING


def _json_reference(scorer: str, reference: str | None) -> Any:
    value = _loads(needed_reference(scorer, reference))
    if value is MISSING:
        raise BadScorer(f"scorer {scorer!r}: the reference is not JSON: {str(reference)[:80]!r}")
    return value
