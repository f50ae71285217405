"""Reads vLLM's `prompt_logprobs`: what a server's model foretold at each token of a text that it was given."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from router.teachers.errors import CallError

if TYPE_CHECKING:
    import numpy as np

Place = Mapping[str, Any]  # by token: its `logprob`, and more


def read_places(payload: Any, tokens: int) -> list[Place]:
    """The places of a completion's prompt of so many tokens. Raises CallError."""
    try:
        found = payload["choices"][0]["prompt_logprobs"]
        if len(found) == tokens:
            return list(found)
        told = f"{len(found)} places for {tokens} tokens"
    except (KeyError, IndexError, TypeError) as error:
        told = f"{type(error).__name__}: {error}"
    raise _none(told)


def top_of(places: Sequence[Place], k: int, vocabulary: int) -> "tuple[np.ndarray, np.ndarray]":
    """The `k` likeliest tokens at each of T places: ids (T, k) int64 and probabilities (T, k) float32, highest
    first. Ids from `vocabulary` on are left out. Raises CallError.
    """
    import numpy as np

    ids, p = np.zeros((len(places), k), np.int64), np.zeros((len(places), k), np.float32)
    try:
        for row, place in enumerate(places):
            for column, (number, logprob) in enumerate(_likeliest(place, k, vocabulary)):
                ids[row, column], p[row, column] = number, math.exp(logprob)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _none(f"{type(error).__name__}: {error}") from error
    return ids, p


def _likeliest(place: Place, k: int, vocabulary: int) -> list[tuple[int, float]]:
    found = [(int(number), float(entry["logprob"])) for number, entry in place.items()]
    known = [(number, logprob) for number, logprob in found if number < vocabulary]
    return sorted(known, key=lambda item: -item[1])[:k]


def _none(what: str) -> CallError:
    return CallError(
        "no_logprobs",
        f"the server gave no `prompt_logprobs` that can be read ({what}): take a vLLM server, or train "
        "by `signal: hard`",
        fatal=True,
        state="invalid",
    )
