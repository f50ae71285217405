"""Where prompts come from: JSON lines files, and `reasoning-gym`'s task families.

A file's line is an object with `prompt` (a text) or `messages`, and perhaps `tools`, `reference`,
`task`, `meta`, `json_schema` and `weight` (of its samples in training). Reading is strict: a line that cannot
be used stops the run before anything is bought, unless the recipe says `on_bad_row: skip`, which counts them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from ledger.errors import InputError
from ledger.keys import content_key
from ledger.prompts import Item, Prompt
from ledger.section import Section
from ledger.structure import JsonSchema, schema_problem

MAX_PROMPT_CHARS = 1_000_000
MOST_WEIGHT = 1_000  # of a prompt's samples; more is a slip, and drowns all others
ROLES = ("system", "user", "assistant", "tool")


class PromptSource(Section):
    """One set of prompts: a JSON lines file, or a task family that generates them."""

    model_config = ConfigDict(populate_by_name=True)

    file: str | None = Field(
        None,
        description="JSON lines file, relative to the recipe: `prompt` or `messages`; optional "
        "`reference`, `task`, `meta`, `tools`, `json_schema`, and `weight`, by which the training "
        "multiplies the loss of its samples.",
    )
    reasoning_gym: str | None = Field(
        None, description="Name of a `reasoning-gym` family, which generates prompts by the seed."
    )
    config: dict[str, Any] = Field({}, description="Settings of the `reasoning_gym` family.")
    count: int | None = Field(
        None, gt=0, description="How many different prompts to take: at most, from a file."
    )
    task: str | None = Field(
        None,
        description="The task of every prompt here; a `reasoning_gym` family's name by default.",
    )
    except_: str | None = Field(
        None,
        alias="except",
        description="JSON lines file of prompts never to take from here.",
    )
    json_schema: str | None = Field(
        None,
        description="File with the JSON schema that the answers must keep to, relative to the recipe, "
        "for lines of `file` without a `json_schema` of their own.",
    )
    licence: str = Field(description="Licence of the prompts; `unknown` is accepted and reported.")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.file is None) == (self.reasoning_gym is None):
            raise ValueError("name exactly one of `file` and `reasoning_gym`")
        if self.reasoning_gym is not None and self.count is None:
            raise ValueError("`reasoning_gym` needs `count`: how many prompts to generate")
        if self.file is None and self.json_schema is not None:
            raise ValueError("`json_schema` belongs to `file`")
        if self.file is not None and self.config:
            raise ValueError("`config` belongs to `reasoning_gym`")
        return self

    @property
    def name(self) -> str:
        """What the ledger calls this source."""
        return self.file or f"reasoning_gym:{self.reasoning_gym}"


@dataclass(slots=True)
class Skipped:
    """Lines that were left out under `on_bad_row: skip`: their number, and the first few reasons."""

    count: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, reason: str) -> None:
        """Counts a line; keeps its reason while there are few."""
        self.count += 1
        if len(self.reasons) < 5:
            self.reasons.append(reason)


class BadRow(InputError):
    """A line of a prompt file cannot be used; the message begins with file:line."""


def read_source(source: PromptSource, base: Path, seed: int, skipped: Skipped | None) -> list[Item]:
    """The items of one source, each prompt once, in order. `skipped` None stops at a bad line."""
    never: set[str] = set()
    if source.except_ is not None:
        never = {item.prompt.key for item in read_file(base / source.except_, "", "", None)}
    if source.reasoning_gym is not None:
        items = _generated(source, seed, never)
    else:
        assert source.file is not None
        items = read_file(base / source.file, source.name, source.licence, skipped)
        if source.json_schema is not None:
            items = _structured(items, _read_schema(base / source.json_schema))
        items = [item for item in _distinct(items) if item.prompt.key not in never][: source.count]
    if source.task is not None:
        items = [replace(item, task=source.task) for item in items]
    return items


def _structured(items: list[Item], schema: JsonSchema) -> list[Item]:
    """Items whose prompts without a schema get this one."""
    return [
        item
        if item.prompt.json_schema is not None
        else replace(item, prompt=Prompt(item.prompt.messages, item.prompt.tools, schema))
        for item in items
    ]


def _read_schema(path: Path) -> JsonSchema:
    try:
        schema = json.loads(path.read_text("utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}; check `json_schema`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}; `json_schema` names a JSON file") from error
    if problem := schema_problem(schema):
        raise InputError(f"{path}: {problem}; mend the file that `json_schema` names")
    found: JsonSchema = schema
    return found


def read_file(path: Path, source: str, licence: str, skipped: Skipped | None) -> list[Item]:
    """All items of a JSON lines file. Raises BadRow (file:line) or InputError (missing, empty)."""
    items: list[Item] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    items.append(_item(line, source, licence))
                except (ValueError, RecursionError) as error:
                    deep = isinstance(error, RecursionError)
                    reason = f"{path}:{number}: {'nested too deeply' if deep else error}"
                    if skipped is None:
                        raise BadRow(
                            f"{reason}. Mend the line, or write `on_bad_row: skip` in the recipe."
                        ) from error
                    skipped.add(reason)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}; check the recipe's path"
        ) from error
    if not items:
        raise InputError(f"{path}: holds no prompt; give one JSON object a line with `prompt`")
    return items


def _item(line: bytes, source: str, licence: str) -> Item:
    if len(line) > 8 * MAX_PROMPT_CHARS:
        raise ValueError(f"a line of {len(line):,} bytes; the limit is {8 * MAX_PROMPT_CHARS:,}")
    row = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    if not isinstance(row, dict):
        raise ValueError(f"a line must be a JSON object, not {type(row).__name__}")
    prompt = Prompt(_messages(row), _tools(row), _json_schema(row))
    chars = sum(len(message["content"]) for message in prompt.messages)
    if chars > MAX_PROMPT_CHARS:
        raise ValueError(f"a prompt of {chars:,} characters; the limit is {MAX_PROMPT_CHARS:,}")
    task, reference, meta = row.get("task"), row.get("reference"), row.get("meta") or {}
    for name, value, kind in (("task", task, str), ("meta", meta, dict)):
        if value is not None and not isinstance(value, kind):
            raise ValueError(f"`{name}` must be a {kind.__name__}, not {value!r:.60}")
    if reference is not None and not isinstance(reference, str):
        reference = json.dumps(reference, ensure_ascii=False)
    _refuse_surrogates(row)
    return Item(prompt, source, licence, task, reference, meta, _weight(row))


def _weight(row: dict[str, Any]) -> float:
    weight = row.get("weight", 1.0)
    if type(weight) not in (int, float) or not 0 < weight <= MOST_WEIGHT:
        raise ValueError(
            f"`weight` must be a number above 0, {MOST_WEIGHT:,} at most, not {weight!r:.60}"
        )
    return float(weight)


def _tools(row: dict[str, Any]) -> tuple[dict[str, Any], ...] | None:
    tools = row.get("tools")
    if not tools:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ValueError(f"`tools` must be a list of objects, not {tools!r:.60}")
    return tuple(tools)


def _json_schema(row: dict[str, Any]) -> JsonSchema | None:
    schema = row.get("json_schema")
    if schema is not None and (problem := schema_problem(schema)):
        raise ValueError(f"`json_schema`: {problem}")
    return schema


def _messages(row: dict[str, Any]) -> tuple[dict[str, str], ...]:
    if ("prompt" in row) == ("messages" in row):
        raise ValueError("a line needs either `prompt` (a text) or `messages`")
    if "prompt" in row:
        if not isinstance(row["prompt"], str) or not row["prompt"].strip():
            raise ValueError("`prompt` must be a text that is not empty")
        return ({"role": "user", "content": row["prompt"]},)
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise ValueError("`messages` must be a list that is not empty")
    for message in messages:
        known = isinstance(message, dict) and message.get("role") in ROLES
        if not known or not isinstance(message.get("content"), str):
            raise ValueError(
                f"a message needs `role` (one of {', '.join(ROLES)}) and text `content`"
            )
    if messages[-1]["role"] == "assistant":
        raise ValueError(
            "the last message is the assistant's; a prompt ends where an answer is due"
        )
    return tuple({"role": m["role"], "content": m["content"]} for m in messages)


def _refuse_surrogates(row: dict[str, Any]) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("holds a lone surrogate (half a character), which is no text") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _distinct(items: list[Item]) -> Iterator[Item]:
    seen: set[str] = set()
    for item in items:
        if item.prompt.key not in seen:
            seen.add(item.prompt.key)
            yield item


def _generated(source: PromptSource, seed: int, never: set[str]) -> list[Item]:
    """Different prompts of a family, in the order that the seed gives.

    The family draws item i from its seed + i, so seeds are spread over 2**31 by hashing. It ends
    when `count` prompts are there, or when the last 20 draws for each found brought nothing new.
    """
    family, wanted = source.reasoning_gym, source.count
    assert family is not None
    assert wanted is not None
    start = int(content_key([seed, family, source.config]), 16) % 2**31
    items: dict[str, Item] = {}
    dataset = _family(family, source.config, start, size=60 * wanted)
    for position in range(60 * wanted):
        if len(items) == wanted:
            break
        entry = dataset[position]
        prompt = Prompt.of(entry["question"].strip())
        if prompt.key not in items and prompt.key not in never:
            entry["metadata"] = json.loads(json.dumps(entry["metadata"], default=str))
            meta = {"family": family, "config": source.config, "entry": entry}
            items[prompt.key] = Item(
                prompt, source.name, source.licence, family, entry["answer"], meta
            )
    return list(items.values())


def _family(name: str, config: dict[str, Any], seed: int, size: int) -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise InputError(
            f"reasoning_gym: {name}: the package is not installed; `pip install reasoning-gym`"
        ) from error
    try:
        return reasoning_gym.create_dataset(name, seed=seed, size=size, **config)
    except (ValueError, TypeError, AssertionError) as error:
        raise InputError(f"reasoning_gym: {name} with {config} cannot be used: {error}") from error
