"""What a call costs, and what it can cost at most."""

import json
from collections.abc import Sequence
from typing import Any, Protocol

from ledger.prompts import Message, Prompt
from router.teachers.config import Price as PriceConfig
from router.teachers.protocol import Sampling, with_system

# A tokenizer makes at most one token of each byte; roles and turn marks take a few more.
TOKENS_PER_MESSAGE, TOKENS_PER_CHAT = 16, 64


class Price(Protocol):
    """A price and where it stands: `recipe`, `litellm`, `none` or `unknown`."""

    source: str

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What a call of this size costs; None if nobody knows."""
        ...


class FlatPrice:
    """So much per token, whatever the size of the call."""

    def __init__(self, input_usd: float, output_usd: float, source: str) -> None:
        self._input_usd, self._output_usd, self.source = input_usd, output_usd, source

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return prompt_tokens * self._input_usd + completion_tokens * self._output_usd


class HalfPrice:
    """Half of another price: what providers charge for batches."""

    def __init__(self, whole: Price) -> None:
        self._whole, self.source = whole, whole.source

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        usd = self._whole.usd(prompt_tokens, completion_tokens)
        return None if usd is None else usd / 2


class UnknownPrice:
    """Someone charges, and nobody knows what."""

    source = "unknown"

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return None


FREE = FlatPrice(0.0, 0.0, "none")
UNKNOWN = UnknownPrice()


def from_recipe(config: PriceConfig) -> FlatPrice:
    """The price that the recipe gives."""
    return FlatPrice(
        config.input_usd_per_million / 1e6, config.output_usd_per_million / 1e6, "recipe"
    )


def worst_usd(price: Price, prompt: Prompt, system: str | None, sampling: Sampling) -> float | None:
    """The most that one call can cost: a token per byte of the prompt, and the longest answer."""
    if price is FREE:
        return 0.0
    return price.usd(most_tokens(prompt, system), sampling.max_tokens)


def charged_usd(
    price: Price, prompt_tokens: int | None, completion_tokens: int | None
) -> float | None:
    """What an answer cost; None where the server did not count tokens, or no price is known."""
    if price is FREE:
        return 0.0
    if prompt_tokens is None or completion_tokens is None:
        return None
    return price.usd(prompt_tokens, completion_tokens)


def most_tokens(prompt: Prompt, system: str | None) -> int:
    """An upper bound of a prompt's tokens under any tokenizer."""
    messages = with_system(prompt, system)
    size = _bytes(messages) + (_size(prompt.tools) if prompt.tools else 0)
    return size + TOKENS_PER_MESSAGE * len(messages) + TOKENS_PER_CHAT


def likely_tokens(prompt: Prompt, system: str | None) -> int:
    """An estimate of a prompt's tokens, four characters each, where no tokenizer is at hand."""
    chars = sum(len(m["content"]) for m in with_system(prompt, system))
    return -(-chars // 4)


def _bytes(messages: Sequence[Message]) -> int:
    return sum(len(m["content"].encode("utf-8", errors="surrogatepass")) for m in messages)


def _size(value: Any) -> int:
    return len(json.dumps(value))
