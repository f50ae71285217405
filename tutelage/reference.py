"""The recipe reference: every key of a recipe, from the models that check it.

    python -m tutelage.reference docs/recipe.md

The page cannot drift from the code: a test compares the two.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]
WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "null": "nothing",
    "object": "mapping",
    "array": "list",
}
LIMITS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
}
INTRODUCTION = """\
# The recipe, key by key

Written by `make docs` from the models that check a recipe; do not edit by hand. A key without a
default must be given. Paths are relative to the recipe, but `run:` is relative to the working
directory. `NAME` stands for a name of your choice, `[]` for the entries of a list.

A recipe is strict YAML: an unknown or doubled key, an alias, a tag and a value of the wrong kind
are errors that name the line. `2e-5` is a number and `2_000_000` a whole number; `1e3` for a whole
number, `012`, and unquoted `no` or `yes` are refused, with what to write instead.
`tutelage check RECIPE` checks one, `tutelage plan RECIPE` shows it with every default filled in.
"""


@dataclass
class Part:
    """One mapping of the recipe, with the places where it may stand."""

    name: str
    schema: Schema
    places: list[str] = field(default_factory=list)
    title: str = ""

    @property
    def anchor(self) -> str:
        """As the common Markdown renderers make it from the title."""
        kept = (c for c in self.title.lower() if c.isalnum() or c in " -_")
        return "".join(kept).replace(" ", "-")


def render(recipe: type[BaseModel]) -> str:
    """The page in Markdown for a recipe model."""
    schema = recipe.model_json_schema(by_alias=True)
    parts = _parts(schema)
    return "\n".join([INTRODUCTION, *(_section(part, parts) for part in parts.values())])


def undescribed(recipe: type[BaseModel]) -> list[str]:
    """The keys that carry no description."""
    parts = _parts(recipe.model_json_schema(by_alias=True))
    return [
        f"{part.places[0]}.{key}".lstrip(".")
        for part in parts.values()
        for key, value in part.schema["properties"].items()
        if not _meaning(value, parts)
    ]


def _parts(schema: Schema) -> dict[str, Part]:
    """Every mapping with fixed keys, in the order in which a reader of the recipe meets them."""
    definitions = schema.get("$defs", {})
    parts = {"": Part("", schema)}
    waiting = [("", "")]
    while waiting:
        name, place = waiting.pop(0)
        parts.setdefault(name, Part(name, definitions.get(name, schema)))
        if place in parts[name].places:
            continue
        parts[name].places.append(place)
        found = [
            (inner, where)
            for key, value in parts[name].schema.get("properties", {}).items()
            for inner, where in _references(value, f"{place}.{key}".lstrip("."))
        ]
        waiting = found + waiting
    _entitle(list(parts.values()))
    return parts


def _references(schema: Schema, place: str) -> Iterator[tuple[str, str]]:
    """(definition, place) of every mapping with fixed keys directly below a key."""
    if "$ref" in schema:
        yield schema["$ref"].rsplit("/", 1)[1], place
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _references(branch, place)
    if isinstance(schema.get("items"), dict):
        yield from _references(schema["items"], f"{place}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _references(schema["additionalProperties"], f"{place}.NAME")


def _entitle(parts: list[Part]) -> None:
    """Names each part by its first place; where several may stand there, also by its own keys."""
    for part in parts:
        part.title = f"`{part.places[0]}`" if part.places[0] else "The whole recipe"
        if sum(other.places[0] == part.places[0] for other in parts) > 1:
            keys = part.schema.get("required") or list(part.schema["properties"])[:1]
            part.title += " with " + ", ".join(f"`{key}`" for key in keys)


def _section(part: Part, parts: dict[str, Part]) -> str:
    also = [f"`{place}`" for place in part.places[1:]]
    lines = [f"## {part.title}", "", _one_line(part.schema.get("description", ""))]
    lines += [f"The same at {', '.join(also)}."] if also else []
    lines += ["", "| key | value | default | meaning |", "|---|---|---|---|"]
    required = part.schema.get("required", [])
    for key, value in part.schema.get("properties", {}).items():
        cells = [
            f"`{key}`",
            _kind(value, parts) + _limits(value),
            "must be given" if key in required else _default(value),
            _one_line(_meaning(value, parts)),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _meaning(schema: Schema, parts: dict[str, Part]) -> str:
    """A key's description; pydantic drops one that says the same as the mapping's own."""
    of_mapping = parts[schema["$ref"].rsplit("/", 1)[1]].schema if "$ref" in schema else {}
    return str(schema.get("description") or of_mapping.get("description", ""))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _kind(schema: Schema, parts: dict[str, Part]) -> str:
    """What may be written, in words."""
    if "$ref" in schema:
        part = parts[schema["$ref"].rsplit("/", 1)[1]]
        return f"[mapping](#{part.anchor})"
    if branches := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        kinds = [_kind(one, parts) + _limits(one) for one in branches if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{word}`" for word in schema.get("enum") or [schema["const"]])
    if schema.get("items"):
        return f"list of: {_kind(schema['items'], parts)}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"NAME: {_kind(schema['additionalProperties'], parts)}"
    return WORDS.get(schema.get("type", ""), "anything")


def _limits(schema: Schema) -> str:
    limits = [f"{sign} {schema[key]:g}" for key, sign in LIMITS.items() if key in schema]
    return f", {' and '.join(limits)}" if limits else ""


def _default(schema: Schema) -> str:
    factories: Schema = {"object": {}, "array": []}
    made = factories.get(schema.get("type", ""))
    default = schema.get("default", made)
    if default is None:
        return "" if "default" in schema else "its own defaults"
    return f"`{json.dumps(default, ensure_ascii=False)}`"


def main() -> None:
    """Writes the page of the real recipe to the file that is named, or prints it."""
    from tutelage.recipe import Recipe

    text = render(Recipe)
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(text, "utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
