"""Reads streamed chat completions for their times: when the first piece of text came, and when the last."""

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from router.teachers.connections import Arrival
from router.teachers.errors import CallError

_BLANK = re.compile(rb"\r?\n\r?\n")
WRITTEN = ("content", "reasoning_content", "reasoning", "tool_calls")  # what a model wrote


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer's times, in seconds since it was asked for, its tokens and its cost, where that is known.

    `tokens` is what the server counted, else the number of pieces; `hidden` of them were thought and not sent.
    """

    first_s: float
    last_s: float
    pieces: int
    tokens: int
    hidden: int
    usd: float | None

    @property
    def steps_s(self) -> list[float]:
        """Seconds until the first token, and for each further one, which are taken to be as far apart; the
        first alone where the answer came in one piece."""
        further = self.tokens - self.hidden - 1 if self.pieces > 1 else 0
        apart = (self.last_s - self.first_s) / max(1, further)
        return [self.first_s, *[apart] * further]


def read_stream(
    body: bytes, arrivals: Sequence[Arrival], asked_at: float
) -> tuple[list[float], dict[str, Any]]:
    """The seconds after which each piece of the answer came, and the server's counts of tokens, if any.

    Raises CallError where the server says that it failed, or did not stream.
    """
    sizes = [size for _, size in arrivals]
    pieces_s: list[float] = []
    usage: dict[str, Any] = {}
    for end, event in _events(body):
        if isinstance(event, dict) and event.get("error"):
            raise CallError("stream_error", f"the server broke off: {str(event['error'])[:200]}")
        if not isinstance(event, dict):
            continue
        counted, choices = event.get("usage"), event.get("choices")
        usage = counted if isinstance(counted, dict) else usage
        if isinstance(choices, list) and any(map(_wrote, choices)):
            arrived = arrivals[min(bisect_left(sizes, end), len(arrivals) - 1)][0]
            pieces_s.append(arrived - asked_at)
    if not pieces_s:
        raise CallError("no_stream", "its answer came without a streamed piece of text")
    return pieces_s, usage


def hidden_tokens(usage: dict[str, Any]) -> int:
    """How many tokens a model thought, where the server counts them apart."""
    details = usage.get("completion_tokens_details")
    found = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return found if type(found) is int and found > 0 else 0


def _wrote(choice: Any) -> bool:
    delta = choice.get("delta") if isinstance(choice, dict) else None
    return isinstance(delta, dict) and any(delta.get(name) for name in WRITTEN)


def _events(body: bytes) -> Iterator[tuple[int, Any]]:
    """The JSON of every event, and how many bytes of the body end with it."""
    at = 0
    for part in [*_BLANK.finditer(body), None]:
        end = part.start() if part else len(body)
        lines = [line[5:] for line in body[at:end].splitlines() if line.startswith(b"data:")]
        if (data := b"\n".join(lines).strip()) and data != b"[DONE]":
            try:
                yield end, json.loads(data)
            except (ValueError, RecursionError) as error:
                raise CallError("broken_stream", f"an event is not JSON: {error}") from error
        at = part.end() if part else end
