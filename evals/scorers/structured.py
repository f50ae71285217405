"""Scorers of answers with a form: `json_schema`, `json_fields` and `tool_calls`."""

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

# Unlike the standard library's `re`, it can be stopped: a schema's pattern meets any text at all.
import regex as re_  # type: ignore[import-untyped]

from evals.scorers.base import (
    NOTHING_FOUND,
    BadScorer,
    Score,
    correct,
    final_part,
    needed_reference,
)

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_FENCED = re.compile(r"```(?:json|python|tool_code)?\s*\n?(.*?)```", re.S)
_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.S)
_NOISE = re.compile(r"[ ,./\-_*^]")  # what BFCL leaves out of texts before it compares them
_OPENS = re.compile(r"[{\[]")
MOST_STARTS = 1_000  # of something that may be JSON, in one answer: each may cost as much as the answer is long
MOST_CHARS = 10_000  # in one call that stands amid prose
MOST_DEPTH = 100  # of brackets in one; Python's parser takes 200
PATIENCE_S = 2.0  # for one pattern of a schema on one text
MISSING = object()

_CALLED = re.compile(r"(?<!def )(?<!class )\b([A-Za-z_][\w.]*)\(")
_LISTED = re.compile(r"\[\s*[A-Za-z_][\w.]*\(")
_ALONE = re.compile(r"\s*\[?\s*[A-Za-z_][\w.]*\(.*\)\s*\]?\s*", re.S)
_TOKEN = re.compile(r""""(?:\\.|[^"\\])*(?:"|\Z)|'(?:\\.|[^'\\])*(?:'|\Z)|[()\[\]{}]""", re.S)
_OF_JSON = {"true": True, "false": False, "null": None}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


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
    except RecursionError as error:  # the answer is nested deeper than can be followed
        if _goes_round(validator):
            raise BadScorer(
                "scorer 'json_schema': the schema points to itself without end: a `$ref` must lead to something"
            ) from error
        return correct(False)
    except Unresolvable as error:
        raise BadScorer(f"scorer 'json_schema': the schema points to nothing: {error}") from error


@lru_cache(maxsize=256)
def _validator(schema: str) -> "Validator":
    """Of a schema, as JSON; its own check takes longer than an answer's, and many items share one.

    The draft is the one that `$schema` names, else 2020-12.
    """
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for

    found = json.loads(schema)
    draft: Any = Draft202012Validator
    try:
        if isinstance(found, dict) and isinstance(found.get("$schema"), str):
            draft = validator_for(found, default=draft)
        draft.check_schema(found)
    except (SchemaError, ValueError) as error:
        told = getattr(error, "message", error)
        raise BadScorer(f"scorer 'json_schema': the schema is none: {told}") from error
    kind, formats = _patient(draft)
    validator: Validator = kind(found, format_checker=formats)
    return validator


def _goes_round(validator: "Validator") -> bool:
    try:
        validator.is_valid(None)
    except RecursionError:
        return True
    return False


@lru_cache(maxsize=16)
def _patient(draft: Any) -> tuple[Any, Any]:
    """A draft's validator whose patterns have a time limit, and what it takes for each `format`."""
    from jsonschema import FormatChecker
    from jsonschema.validators import extend

    formats = FormatChecker(())
    formats.checkers = {  # theirs come first: they have these two only beside packages that we do without
        "date-time": (_is_moment, ()),
        "time": (lambda text: not isinstance(text, str) or _is_moment(f"2000-01-01T{text}"), ()),
        **draft.FORMAT_CHECKER.checkers,
    }
    keywords = {"pattern": _pattern, "patternProperties": _pattern_properties}
    for name in ("additionalProperties", "unevaluatedProperties"):
        if name in draft.VALIDATORS:
            keywords[name] = _with_names(draft.VALIDATORS[name])
    return extend(draft, keywords), formats


def _is_moment(text: object) -> bool:
    """Whether a text is a date and time as RFC 3339 has them."""
    if not isinstance(text, str):
        return True
    try:
        return bool(_MOMENT.fullmatch(text) and datetime.fromisoformat(text.upper()))
    except ValueError:
        return False


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Exception]:
    from jsonschema import ValidationError

    if validator.is_type(instance, "string") and not _found(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any
) -> Iterator[Exception]:
    if validator.is_type(instance, "object"):
        for pattern, wanted in patterns.items():
            for name, value in instance.items():
                if _found(pattern, name):
                    yield from validator.descend(value, wanted, path=name, schema_path=pattern)


def _with_names(keyword: Callable[..., Iterator[Exception]]) -> Callable[..., Iterator[Exception]]:
    """A keyword for properties that others leave over, which is told by name those that a pattern matched."""

    def with_names(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Exception]:
        patterns = schema.get("patternProperties")
        if patterns and validator.is_type(instance, "object"):
            matched: dict[str, Any] = {
                name: {} for name in instance if any(_found(each, name) for each in patterns)
            }
            schema = {**schema, "properties": matched | schema.get("properties", {})}
            del schema["patternProperties"]
        yield from keyword(validator, value, instance, schema)

    return with_names


def _found(pattern: str, text: str) -> bool:
    try:
        return re_.search(pattern, text, timeout=PATIENCE_S) is not None
    except TimeoutError as error:
        raise BadScorer(
            f"scorer 'json_schema': the pattern {pattern!r} took more than {PATIENCE_S:.0f} s on a text of "
            f"{len(text)} characters: write it without nested repeats such as (a+)+."
        ) from error
    except re_.error as error:
        raise BadScorer(
            f"scorer 'json_schema': {pattern!r} is not a valid pattern: {error}"
        ) from error


def json_fields(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """The share of fields that are as in the reference's JSON, over the fields of both.

    Fields are leaves by their path; texts are compared without blanks around them, numbers by value. Fields
    that the reference does not have count as wrong, unless `meta: {"extra": "ignore"}`.
    """
    wanted = dict(_leaves(_json_reference("json_fields", reference)))
    value = find_json(final_part(answer))
    if value is MISSING:
        return NOTHING_FOUND
    try:
        found = dict(_leaves(value))
    except RecursionError:
        return correct(False)
    paths = wanted.keys() if meta.get("extra") == "ignore" else wanted.keys() | found.keys()
    right = sum(
        path in found and path in wanted and _same(found[path], wanted[path]) for path in paths
    )
    return Score(right / len(paths) if paths else 1.0, extracted=True)


def tool_calls(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """The answer calls the functions that it should, in any order, with arguments that are allowed.

    The reference is a ground truth of the Berkeley Function Calling Leaderboard: a list of {function:
    {parameter: [values that will do]}}, in which "" among the values says that the parameter may be left out;
    where it is empty, an answer without a call is right. Calls are read from JSON ({"name", "arguments"}, also
    in <tool_call> tags), or as Python calls `[f(x=1), g()]`.
    """
    truth = _truth(_json_reference("tool_calls", reference))
    text = final_part(answer)
    calls = find_calls(text)
    if not truth and text.strip():
        return correct(calls is None and not _TAGGED.search(text) and not _ALONE.fullmatch(text))
    if calls is None:
        return NOTHING_FOUND
    if len(calls) != len(truth):
        return correct(False)
    try:
        fits = [[_is_call(call, wanted) for wanted in truth] for call in calls]
    except RecursionError:
        return correct(False)
    return correct(_pairs_up(fits))


def _pairs_up(fits: Sequence[Sequence[bool]]) -> bool:
    """Whether each row can have a column of its own that fits it (Kuhn's augmenting paths)."""
    row_of: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, fit in enumerate(fits[row]):
            if fit and column not in seen:
                seen.add(column)
                if column not in row_of or place(row_of[column], seen):
                    row_of[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(fits)))


def find_json(text: str) -> Any:
    """The JSON in a text: all of it, the last fenced block, else the widest object or list; MISSING if none."""
    for part in (text, *reversed(_FENCED.findall(text))):
        value = _loads(part)
        if value is not MISSING:
            return value
    return max(_amid(text), key=lambda found: found[0], default=(0, MISSING))[1]


def _amid(text: str) -> Iterator[tuple[int, Any]]:
    """Width and value of each object or list in a text that is not within another."""
    at = 0
    for _ in range(MOST_STARTS):
        match = _OPENS.search(text, at)
        if match is None:
            break
        try:
            value, end = _JSON.raw_decode(text, match.start())
        except ValueError:
            at = match.end()
            continue
        except RecursionError:  # nested without end: what is inside is no better
            break
        yield end - match.start(), value
        at = end


Call = tuple[str, dict[str, Any]]


def find_calls(text: str) -> list[Call] | None:
    """The calls in an answer: name and arguments; None where there are none."""
    tagged = [_calls(part) for part in _TAGGED.findall(text)]
    if tagged:
        return [call for calls in tagged for call in calls] if all(tagged) else None
    fenced = [_calls(part) or _calls_amid(part) for part in _FENCED.findall(text)]
    return _calls(text) or [call for calls in fenced for call in calls] or _calls_amid(text) or None


def _calls(text: str) -> list[Call]:
    """The calls that a text is, as one JSON value or as Python; none where it is anything else besides."""
    return _json_calls(_loads(text)) or _python_calls(text)


def _calls_amid(text: str) -> list[Call]:
    """The calls amid prose: all that are JSON, else all Python lists of calls, else all calls of Python's.

    Outside a list a call without arguments counts where it has a line of its own: prose names functions so too.
    """
    found = [call for _, value in _amid(text) for call in _json_calls(value)]
    return found or _python_amid(text, _LISTED) or _python_amid(text, _CALLED)


def _python_amid(text: str, opens: re.Pattern[str]) -> list[Call]:
    found: list[Call] = []
    at = 0
    for _ in range(MOST_STARTS):
        match = opens.search(text, at)
        if match is None:
            break
        start, at = match.start(), match.end()
        end = _closing(text, start)
        if end is None:
            continue
        part = text[start:end]
        calls = _python_calls(part)
        told = opens is _LISTED or any(arguments for _, arguments in calls)
        if told or _has_line(text, start, end):
            found += calls
        if _is_expression(part) and not part.startswith("print("):  # else there may be calls within
            at = end
    return found


def _has_line(text: str, start: int, end: int) -> bool:
    before, after = text[:start].rpartition("\n")[2], text[end:].partition("\n")[0]
    return not (before + after).strip(" \t\r`;,")


def _closing(text: str, start: int) -> int | None:
    """Behind the bracket that closes the first one after `start`."""
    depth = 0
    for token in _TOKEN.finditer(text, start, start + MOST_CHARS):
        if token[0] in "([{":
            depth += 1
        elif token[0] in ")]}":
            depth -= 1
            if depth == 0:
                return token.end()
        if depth > MOST_DEPTH:
            break
    return None


def _json_calls(value: Any) -> list[Call]:
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    calls = []
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, dict) and isinstance(entry.get("function"), dict):
            entry = entry["function"]
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            return []
        if not entry.keys() & {"arguments", "parameters"} and entry.keys() - {"name", "id", "type"}:
            return []  # something else that has a name
        arguments = entry.get("arguments", entry.get("parameters"))
        if isinstance(arguments, str) and arguments.strip():  # as OpenAI writes them
            arguments = _loads(arguments)
        if not isinstance(arguments or {}, dict):
            return []
        calls.append((entry["name"], arguments or {}))
    return calls


def _python_calls(text: str) -> list[Call]:
    calls: list[Call] = []
    try:
        for statement in ast.parse(text.strip()).body:
            value = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
            for entry in value.elts if isinstance(value, ast.List | ast.Tuple) else [value]:
                if not isinstance(entry, ast.Call) or entry.args:
                    return []
                entry = _OfJson().visit(entry)
                arguments = {str(k.arg): ast.literal_eval(k.value) for k in entry.keywords if k.arg}
                calls.append((ast.unparse(entry.func), arguments))
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return []
    return calls


class _OfJson(ast.NodeTransformer):
    """Takes JSON's `true`, `false` and `null` for Python's."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(_OF_JSON[node.id]) if node.id in _OF_JSON else node


def _is_expression(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


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
        return _JSON.decode(text)
    except (ValueError, RecursionError):
        return MISSING


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_JSON = json.JSONDecoder(parse_constant=_no_constant)


def _json_reference(scorer: str, reference: str | None) -> Any:
    value = _loads(needed_reference(scorer, reference))
    if value is MISSING:
        raise BadScorer(f"scorer {scorer!r}: the reference is not JSON: {str(reference)[:80]!r}")
    return value
