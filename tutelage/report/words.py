"""Figures as a person reads them, and text made safe to show.

Escaping is Jinja's; `visible` only shows what a browser would hide or reorder: control characters,
bidirectional marks and lone surrogates (which no UTF-8 file can hold). Joiners stay: scripts and
emoji are spelt with them.
"""

from __future__ import annotations

import math
import re

from tutelage.report.data import Estimate

NONE = "–"
TEXT_LIMIT = 20_000  # characters of one prompt, answer or recipe that the page shows
THIN = "\u202f"  # narrow no-break space, between a figure and its unit

_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069"
    "\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """`text` with each hidden character written out as its code point."""
    return _HIDDEN.sub(lambda m: f"\u27e8U+{ord(m[0]):04X}\u27e9", text)


def cut(text: str, limit: int = TEXT_LIMIT) -> str:
    """The first `limit` characters of `text`, with a note of how much is missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[… {len(text) - limit:,} more characters: see `tutelage audit sample`]"


def short(text: str, limit: int = 20) -> str:
    """`text` for a label in a picture."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def known(value: float | None) -> bool:
    """Whether `value` is a figure at all."""
    return value is not None and math.isfinite(value)


def percent(value: float | None, digits: int = 1) -> str:
    """0.963 as 96.3 %."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{100 * value:.{digits}f}{THIN}%"


def points(value: float | None) -> str:
    """A difference of two rates in percentage points, signed."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{100 * value:+.1f}".replace("-", "\u2212")


def bounds(estimate: Estimate) -> str:
    """The interval of an estimate, in per cent without the sign."""
    if not (math.isfinite(estimate.lo) and math.isfinite(estimate.hi)):
        return NONE
    return f"{100 * estimate.lo:.1f}–{100 * estimate.hi:.1f}"


def nats(value: float | None) -> str:
    """A divergence with three digits behind the point."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.3f}".replace("-", "\u2212")


def p_value(value: float | None) -> str:
    """A p-value as papers print it."""
    if value is None or not math.isfinite(value):
        return NONE
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def whole(value: float | None) -> str:
    """12345.6 as 12,346."""
    return f"{value:,.0f}" if value is not None and math.isfinite(value) else NONE


def measure(value: float | None) -> str:
    """A size or a rate with about three digits that count."""
    if value is None or not math.isfinite(value):
        return NONE
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"


def usd(value: float | None) -> str:
    """An amount of money; below a cent with the digits that count."""
    if value is None or not math.isfinite(value):
        return "unknown"
    if value == 0 or abs(value) >= 0.01:
        return f"${value:,.2f}"
    return f"${value:.2g}"


def duration(seconds: float | None) -> str:
    """142.3 as 2 min 22 s."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 60:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}{THIN}h {minutes}{THIN}min"
    return f"{minutes}{THIN}min {rest}{THIN}s"


FILTERS = {
    "percent": percent,
    "points": points,
    "bounds": bounds,
    "nats": nats,
    "p_value": p_value,
    "whole": whole,
    "measure": measure,
    "usd": usd,
    "duration": duration,
    "cut": cut,
    "short": short,
}
