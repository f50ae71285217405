"""A prompt (a chat to be answered) and an item (a prompt with what its source says of it)."""

import json
from dataclasses import dataclass, field
from typing import Any

from ledger.keys import prompt_key
from ledger.structure import JsonSchema

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat to be answered. Messages are `{"role", "content"}`; two prompts with the same key are one.

    With `json_schema`, the answer must be JSON that keeps to it.
    """

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] | None = None
    json_schema: JsonSchema | None = None
    key: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", prompt_key(self.messages, self.tools, self.json_schema))

    @classmethod
    def of(cls, text: str) -> "Prompt":
        """A prompt of one user message."""
        return cls(({"role": "user", "content": text},))

    @classmethod
    def from_row(cls, messages: str, tools: str | None, json_schema: str | None) -> "Prompt":
        """The prompt that a row of `prompt_text` holds."""
        return cls(
            tuple(json.loads(messages)),
            tuple(json.loads(tools)) if tools else None,
            json.loads(json_schema) if json_schema else None,
        )

    @property
    def text(self) -> str:
        """What the user says, all turns joined by newlines: the text that is embedded and classified."""
        return "\n".join(m["content"] for m in self.messages if m["role"] == "user")

    def rows(self, source: str) -> list[tuple[str, list[dict[str, Any]]]]:
        """The ledger rows that hold this prompt, ready for `Ledger.put_all`."""
        messages = json.dumps(list(self.messages), ensure_ascii=False)
        tools = json.dumps(list(self.tools), ensure_ascii=False) if self.tools else None
        schema = json.dumps(self.json_schema, ensure_ascii=False) if self.json_schema else None
        chars = sum(len(m["content"]) for m in self.messages)
        text = {
            "prompt": self.key,
            "messages": messages,
            "tools": tools,
            "json_schema": schema,
        }
        narrow = {"key": self.key, "source": source, "chars": chars}
        return [("prompt", [narrow]), ("prompt_text", [text])]


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt as a source gives it: perhaps with a task, a reference answer and notes for its scorer.

    References are for probes, scoring and tests; none reaches the mix or the trainer.
    """

    prompt: Prompt
    source: str
    licence: str
    task: str | None = None
    reference: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0  # of its samples in training
