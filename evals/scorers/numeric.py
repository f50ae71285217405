r"""Scorer `numeric`: the answer's final number equals the reference's.

That is the one in the last \boxed{}, else the one after the last `####`, else the last. Numbers may
have thousands separators, a sign, a currency, an exponent, be fractions (3/4, \frac{3}{4}, 1 1/2)
and carry a unit or a word such as million. Two units of one kind are converted (1.5 km is 1500 m),
of different kinds they differ; a unit that only one side gives does not matter.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from evals.scorers.base import (
    NOTHING_FOUND,
    BadScorer,
    Score,
    correct,
    final_part,
    needed_reference,
)

TOLERANCE = Fraction(1, 10**6)
# Beyond these a "number" is noise that would cost memory: 9**9**9 must not stop a run.
MAX_CHARS, MAX_EXPONENT, MAX_POWER = 1000, 400, 64

Unit = tuple[
    str, Fraction
]  # what kind of thing it measures, and its size in that kind's first unit

SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

UNITS: dict[str, Unit] = {
    name: (kind, Fraction(size))
    for kind, table in {
        "length": "mm 0.001 cm 0.01 m 1 km 1000 inch 0.0254 ft 0.3048 yd 0.9144 mi 1609.344",
        "mass": "mg 0.000001 g 0.001 kg 1 lb 0.45359237 oz 0.028349523125",
        "time": "ms 0.001 s 1 min 60 h 3600 day 86400 week 604800",
        "volume": "ml 0.001 cl 0.01 l 1",
        "energy": "J 1 kJ 1000 kWh 3600000",
        "power": "W 1 kW 1000 MW 1000000",
        "money": "cent 0.01 dollar 1",
    }.items()
    for name, size in zip(table.split()[::2], table.split()[1::2], strict=True)
}
SPELLINGS = {
    other: unit
    for unit, others in {
        "mm": "millimetre millimeter", "cm": "centimetre centimeter", "m": "metre meter",
        "km": "kilometre kilometer", "inch": "inches", "ft": "foot feet", "yd": "yard",
        "mi": "mile", "mg": "milligram", "g": "gram", "kg": "kilogram", "lb": "pound",
        "oz": "ounce", "ms": "millisecond", "s": "sec second", "min": "minute", "h": "hr hour",
        "ml": "mL millilitre milliliter", "l": "L litre liter", "dollar": "USD",
    }.items()
    for other in others.split()
}  # fmt: skip

_DIGITS = r"\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)|\d+(?:['_\u2009\u202f\u00a0]\d{3})+(?!\d)|\d+"
_UNIT = r"[A-Za-z]+(?:\^?[23²³])?"
_NUMBER = re.compile(
    rf"""
    (?<![\w/^\\)])(?<!\d\.)                          # not inside a word, a date, a version
    (?P<sign>[-+])?(?:(?:(?P<dollar>\$|USD)|[€£¥]|EUR|GBP|Rs\.?)\s?)?(?P<sign2>[-+](?=\d))?
    (?:
      \\[dt]?frac\{{(?P<top>[-+]?\d+)\}}\{{(?P<bottom>\d+)\}}
    | (?:(?P<whole>\d+)[ ])?(?P<over>\d+)\s?/\s?(?P<under>\d+)(?!\d|/|\.\d)
    | (?P<digits>(?:{_DIGITS})(?:\.\d+)?|(?<!\.)\.\d+)
      (?:[eE](?P<e>[-+]?\d+)|\s?(?:[x*×]|\\times|\\cdot)\s?10\^\{{?(?P<ten>[-+]?\d+)\}}?
      |\^\{{?(?P<power>[-+]?\d+)\}}?)?
    )
    (?:\s?(?P<percent>\\?%|percent\b))?
    (?:[\s-]?(?P<scale>thousand|million|billion|trillion)\b)?
    (?:[\s-]?(?:\\(?:text|mathrm)\{{\s?)?(?P<unit>{_UNIT}(?:/{_UNIT})?)(?!\w))?
    """,
    re.VERBOSE,
)
_UNIT_PART = re.compile(r"([A-Za-z]+)\^?([23²³]?)")
_VULGAR = re.compile(r"(?:(?<!\d)(\d+)\s?)?([¼½¾⅐-⅞])")
_POWERS = {"": 1, "2": 2, "²": 2, "3": 3, "³": 3}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its unit (None where there is none, or none that is known)."""

    value: Fraction
    unit: Unit | None
    percent: bool


def numeric(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """Equal within a relative `meta: {"tolerance": …}`, by default a millionth."""
    reference = needed_reference("numeric", reference)
    wanted = final_number(reference)
    if wanted is None:
        raise BadScorer(f"scorer 'numeric': there is no number in the reference {reference!r}")
    tolerance = _tolerance(meta)
    found = final_number(final_part(answer))
    return NOTHING_FOUND if found is None else correct(_same(found, wanted, tolerance))


def final_number(text: str) -> Quantity | None:
    """The number that a text ends up with, None if it has none."""
    for part in (_boxed(text), _after_hashes(text), text):
        number = None if part is None else _last_number(part)
        if number is not None:
            return number
    return None


def _boxed(text: str) -> str | None:
    """What stands in the last \\boxed{}, to its own closing brace."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for end in range(start + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start + 7 : end]
    return None


def _after_hashes(text: str) -> str | None:
    _, found, rest = text.rpartition("####")
    return rest.strip().split("\n")[0] if found else None


def _last_number(text: str) -> Quantity | None:
    text = re.sub(r"(?<=\d)\*\*(?=\d)", "^", text.replace("\u2212", "-")).replace("**", " ")
    text = text.replace("{,}", ",").replace("\\,", "").replace("\\!", "").replace("\\$", "$")
    matches = list(_NUMBER.finditer(_VULGAR.sub(_spelt_out, text)))
    return next((found for match in reversed(matches) if (found := _quantity(match))), None)


def _spelt_out(match: re.Match[str]) -> str:
    part = Fraction(unicodedata.numeric(match[2])).limit_denominator(100)
    return f"{match[1] or ''} {part}".strip()


def _quantity(match: re.Match[str]) -> Quantity | None:
    value = _magnitude(match)
    if value is None:
        return None
    if "-" in (match["sign"], match["sign2"]):
        value = -value
    unit = _unit(match["unit"] or "") or (UNITS["dollar"] if match["dollar"] else None)
    return Quantity(value * SCALES.get(match["scale"], 1), unit, bool(match["percent"]))


def _magnitude(match: re.Match[str]) -> Fraction | None:
    """The number without its sign; None for one that no answer can mean, and that costs much."""
    if len(match[0]) > MAX_CHARS:
        return None
    top, bottom = match["top"] or match["over"], match["bottom"] or match["under"]
    if top is not None:
        return int(match["whole"] or 0) + Fraction(int(top), int(bottom)) if int(bottom) else None
    value = Fraction(re.sub(r"[^\d.]", "", match["digits"]))
    ten, power = int(match["e"] or match["ten"] or 0), int(match["power"] or 1)
    if abs(ten) > MAX_EXPONENT or abs(power) > MAX_POWER or (value == 0 and power <= 0):
        return None
    return Fraction(value * Fraction(10) ** ten) ** power


def _same(found: Quantity, wanted: Quantity, tolerance: Fraction) -> bool:
    a, b = found.value, wanted.value
    if found.unit and wanted.unit:
        if found.unit[0] != wanted.unit[0]:
            return False
        a, b = a * found.unit[1], b * wanted.unit[1]
    if _near(a, b, tolerance):
        return True
    # 50 % is 0.5 as well as 50, where only one side writes the sign.
    if found.percent != wanted.percent:
        return _near(a / 100, b, tolerance) if found.percent else _near(a, b / 100, tolerance)
    return False


def _near(a: Fraction, b: Fraction, tolerance: Fraction) -> bool:
    return abs(a - b) <= tolerance * abs(b)


def _unit(word: str) -> Unit | None:
    """The unit that a word such as `km`, `metres`, `m²` or `km/h` names."""
    kind, size = "", Fraction(1)
    for place, part in enumerate(word.split("/")):
        match = _UNIT_PART.fullmatch(part)
        known = _known_unit(match[1]) if match else None
        if match is None or known is None:
            return None
        power = _POWERS[match[2]] * (-1 if place else 1)
        kind, size = f"{kind} {known[0]}^{power}", size * known[1] ** power
    return kind.strip().removesuffix("^1"), size


def _known_unit(word: str) -> Unit | None:
    for name in (word, word.removesuffix("s")):
        if unit := UNITS.get(SPELLINGS.get(name, name)):
            return unit
    return None


def _tolerance(meta: Mapping[str, Any]) -> Fraction:
    value = meta.get("tolerance", TOLERANCE)
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction) or not value >= 0:
        raise BadScorer(f"scorer 'numeric': `tolerance` must be a number >= 0, not {value!r}")
    return Fraction(value)
