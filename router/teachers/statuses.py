"""What an HTTP status says: which class of error, whether it passes, and how long to wait."""

import email.utils
import math
import time
from collections.abc import Mapping

from router.teachers.allowance import allowance
from router.teachers.errors import CallError

PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
CLASSES = {
    400: "bad_request",
    401: "unauthorised",
    402: "payment_required",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    413: "prompt_too_long",
    422: "bad_request",
    429: "rate_limited",
    503: "unavailable",
    529: "unavailable",
}
WAYS_OUT = {
    401: "the server refuses the API key: check the variable that `api_key_env` names",
    402: "the provider wants to be paid: check the account",
    403: "the API key may not use this model: check its rights",
    404: "nothing is served there: check the model's name and `url:`, which ends with /v1 for most",
}
FATAL = {401, 402, 403, 404}
TOO_LONG = ("context_length", "context size", "context length", "exceed_context", "too many tokens")


def status_error(status: int, headers: Mapping[str, str], told: str) -> CallError:
    """The error for a status that is not 200. `told` is the start of the body, without secrets.

    The body of a 401 or 403 is not shown: servers echo keys there.
    """
    if 300 <= status < 400:
        return CallError(
            "redirect", f"the server redirects ({status}); redirects are not followed", fatal=True
        )
    error_class = CLASSES.get(status, "server_error" if status >= 500 else "bad_request")
    told = "" if status in (401, 403) else " ".join(told.split())[:200]
    message = f"HTTP status {status}"
    if status in WAYS_OUT:
        message = f"{message}: {WAYS_OUT[status]}"
    if told:
        message = f"{message} ({told})"
    if "insufficient_quota" in told:
        return CallError("quota", message, fatal=True)
    if status == 400 and any(sign in told for sign in TOO_LONG):
        return CallError("prompt_too_long", message)
    return CallError(
        error_class,
        message,
        transient=status in PASSING,
        fatal=status in FATAL,
        retry_after_s=retry_after_s(headers) if status in PASSING else None,
        allowance=allowance(headers),
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `Retry-After` (seconds, or an HTTP date); None if there is no good value.

    A date is held against the server's own `Date`, so that our clock does not matter.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until = _epoch_s(value)
        if until is None:
            return None
        now = _epoch_s(headers.get("date", ""))
        seconds = until - (time.time() if now is None else now)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _epoch_s(value: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
