"""Scorers over the text itself, without the thinking before it: `exact` and `regex`."""

import unicodedata
from collections.abc import Mapping
from typing import Any

# Unlike the standard library's `re`, it can be stopped: a recipe's pattern meets any text at all.
import regex as re_  # type: ignore[import-untyped]

from evals.scorers.base import (
    NOTHING_FOUND,
    BadScorer,
    Score,
    correct,
    final_part,
    needed_reference,
)

PATIENCE_S = 2.0


def exact(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """The same text, but for blanks around it and Unicode's form; an empty one is nothing."""
    text = _tidy(final_part(answer))
    return correct(text == _tidy(needed_reference("exact", reference))) if text else NOTHING_FOUND


def regex(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """With `meta: {"pattern": P}` the last match of P (its first group) must equal the reference.

    Without it the reference is itself a pattern, which must match somewhere in the answer.
    """
    wanted, answer = needed_reference("regex", reference), final_part(answer)
    if "pattern" not in meta:
        return correct(bool(_matches(wanted, answer))) if answer.strip() else NOTHING_FOUND
    found = _matches(meta["pattern"], answer)
    if not found or found[-1] is None:
        return NOTHING_FOUND
    return correct(_tidy(found[-1]) == _tidy(wanted))


def _tidy(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _matches(pattern: object, text: str) -> list[str | None]:
    """What each match holds: its first group where the pattern has one, else all of it."""
    if not isinstance(pattern, str):
        raise BadScorer(f"scorer 'regex': the pattern must be a text, not {pattern!r}")
    try:
        compiled = re_.compile(pattern)
        group = min(compiled.groups, 1)
        return [match[group] for match in compiled.finditer(text, timeout=PATIENCE_S)]
    except re_.error as error:
        raise BadScorer(f"scorer 'regex': {pattern!r} is not a valid pattern: {error}") from error
    except TimeoutError as error:
        raise BadScorer(
            f"scorer 'regex': {pattern!r} took more than {PATIENCE_S:.0f} s on an answer of "
            f"{len(text)} characters: write it without nested repeats such as (a+)+."
        ) from error
