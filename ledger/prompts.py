"""A prompt (a chat to be answered) and an item (a prompt with what its source says of it)."""

import json
from dataclasses import dataclass, field
from typing import Any

from ledger.keys import prompt_key

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat to be answered. Messages are `{"role", "content"}`; two prompts with the same key are one."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] | None = None
    key: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", prompt_key(self.messages, self.tools))

    @classmethod
    def of(cls, text: str) -> "Prompt":
        """A prompt of one user message."""
        return cls(({"role": "user", "content": text},))

    @property
    def text(self) -> str:
        """What the user says, all turns joined by newlines: the text that is embedded and classified."""
        return "\n".join(m["content"] for m in self.messages if m["role"] == "user")

    def rows(self, source: str) -> list[tuple[str, list[dict[str, Any]]]]:
        """The ledger rows that hold this prompt, ready for `Ledger.put_all`."""
        messages = json.dumps(list(self.messages), ensure_ascii=False)
        tools = json.dumps(list(self.tools), ensure_ascii=False) if self.tools else None
        chars = sum(len(m["content"]) for m in self.messages)
        return [
            ("prompt", [{"key": self.key, "source": source, "chars": chars}]),
            ("prompt_text", [{"prompt": self.key, "messages": messages, "tools": tools}]),
        ]


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
