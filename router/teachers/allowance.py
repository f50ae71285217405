"""What a provider's headers say may still be sent: requests and tokens, and when there is more.

Read are OpenAI's form (`x-ratelimit-remaining-requests`, `x-ratelimit-reset-requests: 6m0s`),
Anthropic's (`anthropic-ratelimit-requests-remaining`, a reset by date) and the IETF draft's
(`RateLimit-Remaining`, `RateLimit-Reset` in seconds). What cannot be read is ignored.
"""

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

# For requests and for tokens: what is left, and when there is more.
NAMES = (
    (
        ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ),
    (
        ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
        ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ),
    (("ratelimit-remaining", "ratelimit-reset"), ("", "")),
)
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


@dataclass(frozen=True, slots=True)
class Quota:
    """So much is left, and after `reset_s` seconds there is more."""

    left: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of requests and of tokens; None where the headers do not say."""

    requests: Quota | None
    tokens: Quota | None


def allowance(headers: Mapping[str, str]) -> Allowance | None:
    """What the headers of a response say, or None. Their names are in lower case."""
    for requests, tokens in NAMES:
        if requests[0] in headers or tokens[0] in headers:
            return Allowance(_quota(headers, *requests), _quota(headers, *tokens))
    return None


def _quota(headers: Mapping[str, str], left_name: str, reset_name: str) -> Quota | None:
    left, reset = headers.get(left_name, ""), headers.get(reset_name, "")
    if not left.strip().isdecimal():
        return None
    seconds = _seconds(reset.strip())
    return None if seconds is None else Quota(int(left), seconds)


def _seconds(text: str) -> float | None:
    """`12`, `1.5`, `6m0s`, `20ms`, or an RFC 3339 date, as seconds from now."""
    try:
        value = float(text)
    except ValueError:
        parts = PART.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            return sum(float(number) * UNITS_S[unit] for number, unit in parts)
        return _until(text)
    return value if math.isfinite(value) and value >= 0 else None


def _until(text: str) -> float | None:
    try:
        until = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, until.timestamp() - time.time()) if until.tzinfo else None
