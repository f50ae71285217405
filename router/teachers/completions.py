"""Reads OpenAI-style chat completions, and trusts nothing in them.

A body that is not what it should be ends its request `invalid`, with a class that says how. Bodies
that a proxy may have broken (HTML, torn JSON) are tried again; an empty answer or one from another
model is not.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ledger import fastjson
from router.teachers.errors import CallError
from router.teachers.protocol import Answer

# Other words for the same ends.
FINISH = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "refusal": "refusal",
}
# A provider's alias is answered by its dated version: `m` by `m-2026-01-31`, `m-20260131`.
DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4})")


def decoded(body: bytes) -> str:
    """The text of a body that came with status 200. Raises CallError."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid("not_unicode", "the answer is not UTF-8", transient=True) from error


def parse(text: str) -> Any:
    """The JSON in a body that came with status 200. Raises CallError."""
    try:
        return fastjson.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:1] == "<":
            raise _invalid(
                "html", "the answer is HTML, not JSON: does `url:` end with /v1?", transient=True
            ) from error
        raise _invalid("broken_json", f"the answer is not JSON: {error}", transient=True) from error


def read(payload: Any, asked: str, allowed: Sequence[str], raw: str) -> Answer:
    """The answer in a chat completion, without its cost. Raises CallError."""
    if not isinstance(payload, dict):
        raise _invalid("no_choices", "the answer is JSON, but not an object")
    if payload.get("error"):
        raise _error_in_200(payload["error"])
    model = _checked_model(payload.get("model"), asked, allowed)
    choices = payload.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _invalid("no_choices", "the answer has no choices")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise _invalid("no_message", "the answer's choice has no message")
    finish = _finish(choices[0].get("finish_reason"), message)
    calls = _tool_calls(message)
    return Answer(
        text=_text(message, finish, calls),
        finish_reason=finish,
        prompt_tokens=count(payload, "prompt_tokens"),
        completion_tokens=count(payload, "completion_tokens"),
        model=model,
        cost_usd=None,
        price_source="unknown",
        reasoning=_reasoning(message),
        tool_calls=json.dumps(calls, ensure_ascii=False) if calls else None,
        raw=raw,
    )


def _finish(reason: Any, message: dict[str, Any]) -> str:
    if reason is None:
        raise _invalid("no_finish_reason", "the answer has no finish reason: it may be cut short")
    if reason == "stop" and isinstance(message.get("refusal"), str):
        return "refusal"
    known = FINISH.get(reason) if isinstance(reason, str) else None
    if known is None:
        raise _invalid("finish_reason", f"the answer ended with finish reason {str(reason)[:80]!r}")
    return known


def _text(message: dict[str, Any], finish: str, calls: list[Any]) -> str:
    """What the message says, and below it its tool calls, as a student writes them."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    if finish == "refusal" and not content:
        content = message.get("refusal")
    if content is not None and not isinstance(content, str):
        raise _invalid("no_text", f"the answer's content is a {type(content).__name__}, not text")
    text = "\n".join(part for part in (content, *map(_written, calls)) if part)
    if text or finish in ("content_filter", "refusal"):
        return text
    raise _invalid("empty", "the answer is empty")


def _reasoning(message: dict[str, Any]) -> str | None:
    found = message.get("reasoning_content") or message.get("reasoning")
    return found if isinstance(found, str) else None


def _tool_calls(message: dict[str, Any]) -> list[Any]:
    calls = message.get("tool_calls")
    return calls if isinstance(calls, list) else []


def _written(call: Any) -> str:
    """A tool call as text in Hermes' form, which many chat templates share: name and arguments in a tag."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise _invalid("tool_call", "a tool call of the answer names no function")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):  # as OpenAI writes them
        with suppress(ValueError):  # no JSON: kept as it stands, for a scorer to find wrong
            arguments = json.loads(arguments)
    written = json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{written}\n</tool_call>"


def require_logprobs(payload: Any) -> None:
    """Raises CallError where a completion has no log-probabilities though they were asked for."""
    found = payload["choices"][0].get("logprobs")
    if not isinstance(found, dict) or not isinstance(found.get("content"), list):
        raise CallError(
            "no_logprobs",
            "the answer has no log-probabilities, which `generate: top_logprobs` asks for: leave that "
            "out, or take a teacher that gives them",
            fatal=True,
            state="invalid",
            charged_usd=None,
        )


def _checked_model(answered: Any, asked: str, allowed: Sequence[str]) -> str:
    if "*" in allowed:
        return answered if isinstance(answered, str) else ""
    if isinstance(answered, str):
        short = asked.rpartition("/")[2]
        for name in (asked, short):
            rest = answered.removeprefix(name)
            if answered == name or (rest != answered and DATED.fullmatch(rest)):
                return answered
        if answered in allowed:
            return answered
    raise _invalid(
        "wrong_model",
        f"{asked!r} was asked and {str(answered)[:200]!r} answered: if that is right, "
        "add it to the teacher's `allow_model_names`",
    )


def count(payload: Any, name: str) -> int | None:
    """`prompt_tokens` or `completion_tokens`, where the answer counts them."""
    usage = payload.get("usage") if isinstance(payload, dict) else None
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value < 2**40 else None


def _error_in_200(error: Any) -> CallError:
    code = error.get("code") if isinstance(error, dict) else None
    transient = code in (408, 429, 500, 502, 503, 504, 529)
    told = error.get("message") if isinstance(error, dict) else error
    return _invalid("error_in_200", f"an error came as an answer: {str(told)[:200]}", transient)


def _invalid(error_class: str, message: str, transient: bool = False) -> CallError:
    return CallError(error_class, message, transient=transient, state="invalid", charged_usd=None)
