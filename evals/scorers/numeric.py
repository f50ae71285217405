r"""Scorer `numeric`: the answer's final number equals the reference's.

That is the one in the last \boxed{}, else the one after the last `####`, else the last. A box that
holds anything but one quantity, such as 2\pi or (3, 4), is wrong; elsewhere a final 2\pi is nothing.
Numbers may have thousands separators, a sign, a currency, an exponent, be fractions (3/4,
\frac{3}{4}, 1 1/2) and carry a unit or a word such as million. A comma is decimal where no group of
three digits follows (3,5 and 1.234,50). Two units of one kind are converted (1.5 km is 1500 m, and 1
hour and 30 minutes is 90 minutes), of different kinds they differ; a unit that only one side gives
does not matter.
"""

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
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

# What kind of thing a unit measures, and its size in that kind's first unit.
Unit = tuple[str, Fraction]

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
        "dollars": "¢ 0.01 $ 1",
        "euros": "eurocent 0.01 € 1",
        "pounds": "penny 0.01 £ 1",
        "yen": "¥ 1",
        "rupees": "₹ 1",
    }.items()
    for name, size in zip(table.split()[::2], table.split()[1::2], strict=True)
}
SPELLINGS = {
    other: unit
    for unit, others in {
        "mm": "millimetre millimeter", "cm": "centimetre centimeter", "m": "metre meter",
        "km": "kilometre kilometer", "inch": "inches in", "ft": "foot feet", "yd": "yard",
        "mi": "mile", "mg": "milligram", "g": "gram", "kg": "kilogram", "lb": "pound",
        "oz": "ounce", "ms": "millisecond", "s": "sec second", "min": "minute", "h": "hr hour",
        "ml": "mL millilitre milliliter", "l": "L litre liter", "$": "US$ dollar USD",
        "¢": "cent", "€": "euro EUR", "£": "GBP", "penny": "pence", "¥": "yen JPY",
        "₹": "rupee INR Rs Rs.",
    }.items()
    for other in others.split()
}  # fmt: skip
# Words that name a second unit as well: a pound weighs something, or buys something.
ALSO = {"pound": "£", "cent": "eurocent"}

# 1.234,50 and 1.234.567; 1 000 000 and 1 000,50; 3,5 and 0,333, but not in [1,2,3] or (3,4).
_COMMA = r"(?:0,\d+|\d+,(?:\d{1,2}|\d{4,}))(?!\d|[,.]\d)"
_CONTINENTAL = rf"""
    \d{{1,3}}(?:\.\d{{3}})+,\d+(?!\d|[,.]\d) | \d{{1,3}}(?:\.\d{{3}}){{2,}}(?![.,]?\d)
    | (?<!\d[ ])\d{{1,3}}(?:[ \u2009\u202f\u00a0]\d{{3}}){{1,5}}(?:[,.]\d+)?(?![ ,.]?\d)
    | (?<![,(\[{{]){_COMMA} | (?<=[(\[{{]){_COMMA}(?!\\?[)\]}}])"""
_DIGITS = r"\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)|\d+(?:['_\u2009\u202f\u00a0]\d{3})+(?!\d)|\d+"
_TERM = r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?"
_UNIT = r"[A-Za-z]+(?:\^?-?[123²³])?"
_NUMBER = re.compile(
    rf"""
    (?<![\w/^\\)])(?<!\d\.)                          # not inside a word, a date, a version
    (?P<sign>[-+])?(?:(?P<money>US\$|[$€£¥₹]|USD|EUR|GBP|JPY|INR|Rs\.?)\s?)?(?P<sign2>[-+](?=\d))?
    (?P<value>
      (?:(?P<mixed>\d+)\s?)?\\[cdt]?frac\{{\s*(?P<top>{_TERM})\s*\}}\{{\s*(?P<bottom>{_TERM})\s*\}}
    | (?:(?P<whole>\d+)[ ])?(?P<over>\d+)\s?/\s?(?P<under>\d+)(?!\d|/|\.\d)
    | (?:(?P<continental>{_CONTINENTAL})|(?P<digits>(?:{_DIGITS})(?:\.\d+)?|(?<!\.)\.\d+))
      (?:[eE](?P<e>[-+]?\d+)|\s?(?:[x*×]|\\times|\\cdot)\s?10\^\{{?(?P<ten>[-+]?\d+)\}}?
      |\^(?:(?P<power>[-+]?\d+)|\{{(?P<power2>[-+]?\d+)\}}))?
    )
    (?:\s?(?P<percent>\\?%|percent\b))?
    (?:[\s-]?(?P<scale>thousand|million|billion|trillion)\b)?
    (?:[\s-]?(?:(?P<unit>{_UNIT}(?:/{_UNIT})?)(?!\w)|(?P<symbol>[$€£¥₹¢])(?!\w|\.\d)))?
    """,
    re.VERBOSE,
)
_UNIT_PART = re.compile(r"([A-Za-z]+|[$€£¥₹¢]|US\$|Rs\.)\^?(-?)([123²³]?)")
_VULGAR = re.compile(r"(?:(?<!\d)(\d+)\s?)?([¼½¾⅐-⅞])")
_POWERS = {"": 1, "1": 1, "2": 2, "²": 2, "3": 3, "³": 3}

_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2013\u2212\ufe63\uff0d"), "-")
# Words, Markdown and LaTeX as the plain characters that they stand for.
_WORDS = [
    (re.compile(r"(?<=\d)\*\*(?=\d)"), "^"),
    (re.compile(r"\*\*|~"), " "),
    (re.compile(r"(?<=\d)(hr?|min|ft|lbs?)(?=\d)"), r"\1 "),
    (re.compile(r"(?<![\d)\]}%]\s)\b(?:[Mm]inus|[Nn]egative)\s+(?=[\d$€£¥₹.\\])"), "-"),
    (re.compile(r"([=≈] ?[-+]) (?=[\d.\\])"), r"\1"),
]
_TEXT = r"\\(?:(?:text|math)(?:rm|bf|it)?|underline)"
_LATEX = [
    (re.compile(r"\$\$|\\[;: ]|\\quad\b"), " "),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,!]|\\(?:left|right|displaystyle)(?![a-z])"), ""),
    (re.compile(r"(?<![\\\w])\$(?=\S)((?:\\.|[^$\\\n]){1,200}?)(?<!\s)\$(?!\d)"), r"\1"),  # $5$
    (re.compile(r"\\\$"), "$"),
    (re.compile(r"\^\s?\{?\\circ\}?|\\degree\b"), "°"),
    (re.compile(r"\\approx\b"), "≈"),
    (re.compile(rf"(?<=[\d}}])\s{{0,3}}{_TEXT}\{{\s*(?=[A-Za-z])([^{{}}]*)\}}"), r" \1"),
    (re.compile(rf"{_TEXT}\{{([^{{}}]*)\}}"), r"\1"),
    (re.compile(r"(?<=[A-Za-z])\^\{(-?\d)\}"), r"^\1"),
    (re.compile(r"frac\s?(?:\{([^{}]*)\}|(\d))\s?(?:\{([^{}]*)\}|(\d))"), r"frac{\1\2}{\3\4}"),
]
# Beside a number these make it a part of a formula: 2\pi, \sqrt{3}, \frac{\pi}{4}, 10^n.
_FUNCTION = r"(?:sqrt|log|ln|exp|sin|cos|tan)"
_FORMULA_BEFORE = re.compile(
    rf"(?:\\{_FUNCTION}(?:_\{{?\w+\}}?|\[\w+\])?\s*[{{(]?|\b{_FUNCTION}\(|√\(?"
    r"|frac\{(?:[^$]{0,60}\}\{)?)[-+\s]*$"
)
_FORMULA_AFTER = re.compile(
    rf"\s*(?:\\cdot|\\times|[*·])?\s*(?:\\?(?:pi|sqrt)\b|\\{_FUNCTION}\b|[π√])|\^(?!\d)"
)
# All that may stand beside the one quantity in a box: "x =" or "Total:" before, words after.
_BOX_BEFORE = re.compile(
    r"(?:(?:[^=≈,;<>()]|\([^()]*\))*[=≈]|[A-Za-z][A-Za-z ]*(?::|\bis\b))*"
    r"\s*(?:(?:[Aa]bout|[Aa]pproximately|[Aa]round|[Rr]oughly|[Ee]xactly)\s+)?"
)
_BOX_AFTER = re.compile(
    r"(?:[\s-]*(?:[^\W\d_α-ω]+[.']?|\\(?:mu|Omega)(?![a-z])|[°²³()]|(?<=[A-Za-z])(?:/|\^-?\d)))*[\s.]*"
)
_CONNECTIVE = re.compile(r"\b(?:or|and|plus|minus|times|over|to|factorial)\b")
_VARIABLE = re.compile(r"(?!(?:am|pm|st|nd|rd|th)\b)[A-Za-z]{1,2}(?![A-Za-z])|\s[a-z](?![A-Za-z])")
_JOINT = re.compile(r"\s*,?\s*(?:and\b|&)?\s*")
_PHRASE_END = re.compile(r"[ \t]*(?:$|[\n.,;:!?)\]}\"'|])")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with the units that its word may mean: none where it has none that is known."""

    value: Fraction
    units: tuple[Unit, ...]
    percent: bool


def numeric(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """Equal within a relative `meta: {"tolerance": …}`, by default a millionth."""
    reference = needed_reference("numeric", reference)
    wanted = final_number(reference)
    if wanted is None:
        raise BadScorer(f"scorer 'numeric': there is no number in the reference {reference!r}")
    tolerance = _tolerance(meta)
    answer = final_part(answer)
    found = final_number(answer)
    if found is None:
        return correct(False) if _boxed(answer) else NOTHING_FOUND
    return correct(_same(found, wanted, tolerance))


def final_number(text: str) -> Quantity | None:
    """The number that a text ends up with, None if it has none or its box holds something else."""
    if box := _boxed(text):
        return _only_number(box)
    for part in (_after_hashes(text), text):
        found = None if part is None else _last_number(_plain(part))
        if found is not None:
            return found[0]
    return None


def _boxed(text: str) -> str:
    """What stands in the last \\boxed{}, to its own closing brace; empty if there is none."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return ""
    depth = 0
    for end in range(start + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start + 7 : end].strip()
    return ""


def _after_hashes(text: str) -> str | None:
    _, found, rest = text.rpartition("####")
    return rest.strip().split("\n")[0] if found else None


def _plain(text: str) -> str:
    """The text with LaTeX's and typography's ways to write a number made plain."""
    text = text.translate(_DASHES)
    for pattern, plain in _WORDS if set("\\{$").isdisjoint(text) else _LATEX + _WORDS:
        text = pattern.sub(plain, text)
    return _VULGAR.sub(_spelt_out, text)


def _spelt_out(match: re.Match[str]) -> str:
    part = Fraction(unicodedata.numeric(match[2])).limit_denominator(100)
    return f"{match[1] or ''} {part}".strip()


def _only_number(box: str) -> Quantity | None:
    """The quantity that a box holds, None where it holds anything else as well."""
    text = _plain(box).strip()
    while match := re.fullmatch(r"\\?\{([^{},\\]*)\\?\}|\(([^(),]*)\)", text):
        text = (match[1] or match[2] or "").strip()
    text = re.sub(r"^([-+])\s+", r"\1", text)
    found = _last_number(text)
    if found is None:
        return None
    quantity, start, match = found
    before, after = text[:start], text[match.end() :]
    if not (_BOX_BEFORE.fullmatch(before) and _BOX_AFTER.fullmatch(after)):
        return None
    words = text[match.end("value") :]
    if _CONNECTIVE.search(before) or _CONNECTIVE.search(words):
        return None
    if match["unit"] and not quantity.units and _VARIABLE.match(words):
        return None
    return quantity


def _last_number(text: str) -> tuple[Quantity, int, re.Match[str]] | None:
    """The last number, where it starts and its match; None if it is only a part of a formula."""
    matches = list(_NUMBER.finditer(text))
    while matches:
        match = matches.pop()
        start, end = match.span()
        if (found := _quantity(match)) is None:
            continue
        before = text[max(0, start - 80) : start]
        if _FORMULA_BEFORE.search(before) or _FORMULA_AFTER.match(text, match.end("value")):
            return None
        # 1 hour and 30 minutes
        while matches and _JOINT.fullmatch(text, matches[-1].end(), start):
            whole = _together(_quantity(matches[-1]), found)
            if whole is None:
                break
            found, start = whole, matches.pop().start()
        return found, start, match
    return None


def _together(first: Quantity | None, second: Quantity) -> Quantity | None:
    """The sum of a quantity and the less than one of its units that follows it, else None."""
    for big, small in product(first.units if first else (), second.units):
        rest = second.value * small[1]
        if first and big[0] == small[0] and 0 <= rest < big[1] and small[1] < big[1]:
            more = first.value * big[1] / small[1]
            value = more - second.value if more < 0 else more + second.value
            return Quantity(value, (small,), percent=False)
    return None


def _quantity(match: re.Match[str]) -> Quantity | None:
    value = _magnitude(match)
    if value is None:
        return None
    if "-" in (match["sign"], match["sign2"]):
        value = -value
    return Quantity(value * SCALES.get(match["scale"], 1), _units(match), bool(match["percent"]))


def _magnitude(match: re.Match[str]) -> Fraction | None:
    """The number without its sign; None for one that no answer can mean, and that costs much."""
    if len(match[0]) > MAX_CHARS:
        return None
    top, bottom = match["top"] or match["over"], match["bottom"] or match["under"]
    if top is not None:
        over, under = (Fraction(term.replace(",", "")) for term in (top, bottom))
        return int(match["mixed"] or match["whole"] or 0) + over / under if under else None
    value = Fraction(_point(match["continental"]) or re.sub(r"[^\d.]", "", match["digits"]))
    ten = int(match["e"] or match["ten"] or 0)
    power = int(match["power"] or match["power2"] or 1)
    if abs(ten) > MAX_EXPONENT or abs(power) > MAX_POWER or (value == 0 and power <= 0):
        return None
    return Fraction(value * Fraction(10) ** ten) ** power


def _point(digits: str | None) -> str:
    """1.234,50 and 1 234,50 as 1234.50."""
    digits = "".join((digits or "").split())
    if "," in digits:
        return digits.replace(".", "").replace(",", ".")
    return digits.replace(".", "") if digits.count(".") > 1 else digits


def _same(found: Quantity, wanted: Quantity, tolerance: Fraction) -> bool:
    a, b = found.value, wanted.value
    if found.units and wanted.units:
        sizes = [(x[1], y[1]) for x, y in product(found.units, wanted.units) if x[0] == y[0]]
        if not sizes:
            return False
        a, b = a * sizes[0][0], b * sizes[0][1]
    if _near(a, b, tolerance):
        return True
    # 50 % is 0.5 as well as 50, where only one side writes the sign.
    if found.percent != wanted.percent:
        return _near(a / 100, b, tolerance) if found.percent else _near(a, b / 100, tolerance)
    return False


def _near(a: Fraction, b: Fraction, tolerance: Fraction) -> bool:
    return abs(a - b) <= tolerance * abs(b)


def _units(match: re.Match[str]) -> tuple[Unit, ...]:
    """What the currency or the word at a number may mean, such as `km`, `metres`, `m²`, `km/h`."""
    word = match["money"] or match["unit"] or match["symbol"] or ""
    if word == "in" and not _PHRASE_END.match(match.string, match.end()):
        return ()  # 7 in total
    if name := ALSO.get(word.removesuffix("s")):
        return UNITS[_name(word)], UNITS[name]
    kind, size = "", Fraction(1)
    for place, part in enumerate(word.split("/")):
        split = _UNIT_PART.fullmatch(part)
        known = UNITS.get(_name(split[1])) if split else None
        if split is None or known is None:
            return ()
        power = _POWERS[split[3]] * (-1 if bool(place) != bool(split[2]) else 1)
        kind, size = f"{kind} {known[0]}^{power}", size * known[1] ** power
    return ((kind.strip().removesuffix("^1"), size),)


def _name(word: str) -> str:
    """The unit that a word spells, in one or several."""
    name = word if word in UNITS or word in SPELLINGS else word.removesuffix("s")
    return SPELLINGS.get(name, name)


def _tolerance(meta: Mapping[str, Any]) -> Fraction:
    value = meta.get("tolerance", TOLERANCE)
    number = isinstance(value, int | float | Fraction) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise BadScorer(
            f"scorer 'numeric': `tolerance` must be a finite number >= 0, not {value!r}"
        )
    return Fraction(value)
