"""YAML that means one thing only: what is ambiguous is an error with its line, never a silent guess.

Aliases, duplicate keys, tags, and words such as `no`, `012` or `.nan` are refused; `2e-5` is a float
and `2_000_000` a whole number. Every value's line is kept, so that later errors can name it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ledger.errors import InputError

MAX_BYTES, MAX_DEPTH, MAX_DIGITS = 1_000_000, 40, 40
Location = tuple[str | int, ...]

WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
FLOAT = re.compile(
    r"[-+]?(([0-9][0-9_]*)?\.[0-9]+([eE][-+]?[0-9]+)?|[0-9][0-9_]*\.([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)"
)
LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
NOT_A_NUMBER = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
SWITCHES = {"yes": "true", "on": "true", "no": "false", "off": "false"}


class RecipeError(InputError):
    """A recipe breaks a rule; the message begins with file:line."""


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: plain values, and the line (from 1) of every value and of every key."""

    path: Path
    text: str
    value: Any
    lines: dict[Location, int]

    def line(self, location: Location) -> int:
        """The line of a value, or of the nearest thing around it."""
        while location not in self.lines and location:
            location = location[:-1]
        return self.lines.get(location, 1)


def load(path: Path) -> Document:
    """Reads one YAML file. Raises RecipeError naming file:line for whatever is not plain."""
    text = _read(path)
    fail = _failer(path)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise fail(event, f"more than {MAX_DEPTH} levels deep, which no recipe needs")
            if isinstance(event, yaml.AliasEvent):
                raise fail(event, f"alias *{event.anchor}: aliases are not allowed; write it out")
            if (tag := getattr(event, "tag", None)) is not None:
                raise fail(event, f"tag {tag}: tags are not allowed; remove it")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        raise RecipeError(f"{path}:{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}:1: not valid YAML: {error}") from error
    if node is None:
        raise RecipeError(f"{path}:1: the file is empty; `tutelage init` writes one to start from")
    lines: dict[Location, int] = {}
    return Document(path, text, _value(node, (), lines, fail), lines)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecipeError(f"{path}:1: over {MAX_BYTES:,} bytes, which no recipe needs")
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such file; `tutelage init {path}` writes one") from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise RecipeError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error


def _failer(path: Path) -> Callable[[Any, str], RecipeError]:
    def fail(node: Any, message: str) -> RecipeError:
        return RecipeError(f"{path}:{node.start_mark.line + 1}: {message}")

    return fail


def _value(
    node: yaml.Node,
    at: Location,
    lines: dict[Location, int],
    fail: Callable[[Any, str], RecipeError],
) -> Any:
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, fail)
    if isinstance(node, yaml.SequenceNode):
        return [_value(child, (*at, i), lines, fail) for i, child in enumerate(node.value)]
    assert isinstance(node, yaml.MappingNode)
    mapping: dict[str, Any] = {}
    for key_node, child in node.value:
        key = _scalar(key_node, fail) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            raise fail(key_node, "a key must be a word; put quotes around it")
        if key in mapping:
            raise fail(key_node, f"key {key!r} stands twice; keep one of them")
        lines[(*at, key)] = key_node.start_mark.line + 1
        mapping[key] = _value(child, (*at, key), lines, fail)
    return mapping


def _scalar(node: yaml.ScalarNode, fail: Callable[[Any, str], RecipeError]) -> Any:
    text = node.value
    if "\0" in text:
        raise fail(node, "holds a NUL character; remove it")
    if node.style is not None:
        return text
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if text.lower() in SWITCHES:
        meant = SWITCHES[text.lower()]
        raise fail(node, f"{text} is ambiguous: write {meant} for a switch, or '{text}' for a text")
    if LEADING_ZERO.fullmatch(text):
        number = text.lstrip("+-0_") or "0"
        raise fail(
            node, f"{text} is ambiguous: write {number} for a number, or '{text}' for a text"
        )
    if NOT_A_NUMBER.fullmatch(text):
        raise fail(node, f"{text} is no number that a recipe can use")
    if len(text) > MAX_DIGITS and (WHOLE.fullmatch(text) or FLOAT.fullmatch(text)):
        raise fail(node, f"a number of {len(text):,} characters, which no recipe needs")
    if WHOLE.fullmatch(text):
        return int(text.replace("_", ""))
    if FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    return text
