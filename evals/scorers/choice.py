r"""Scorer `choice`: the letter that an answer chooses equals the reference's.

Looked for in turn: the whole answer is a letter or one choice's text; the last \boxed{}; the last
"the answer is B"; a leading "B." or "(B)"; the only letter in brackets; the only capital that
stands alone; the only choice whose text occurs. An answer that chooses two has nothing to grade.
`meta: {"choices": [...]}` gives the texts and how many letters there are; else they are A to J.
"""

import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from evals.scorers.base import (
    NOTHING_FOUND,
    BadScorer,
    Score,
    correct,
    final_part,
    needed_reference,
)

_MARKUP = re.compile(r"\\(?:text|textbf|mathrm|mathbf)(?=\{)|[*`$]")
_ALONE = re.compile(r"[\s(\[{\"']*([A-Za-z])[\s)\]}\"'.:]*")
_BOXED = re.compile(r"\\boxed\{+\s*\(?([A-Za-z])(?![A-Za-z])")
_MARKER = re.compile(
    r"""
    (?i:\b(?:answers?|choices?|options?|solution|correct|select|choose|pick|it\ is|it's|go\ with))
    (?i:\s+(?:is|are|one|option|choice|answer|here|would|should|must|be|letter|therefore|the))*
    \s*[:=-]?\s*(?i:(?:option|choice|letter)\s+)?
    (?P<open>[\s(\[{"']*)(?P<letter>[A-Za-z])(?![\w'])(?P<rest>.?.?.?)
    """,
    re.VERBOSE,
)
_SECOND = re.compile(r"[\s)\]]*(?:\bor\b|\band\b|/|&)\s*[(\[]?(?:option\s+)?[A-Z](?![\w'])")
_LEADING = re.compile(
    r"^\s*(?:\(([A-Za-z])\)|\[([A-Za-z])\]|([A-Z])\s?[).:]|([a-z])\))(?=\s|$)", re.M
)
_BRACKETED = re.compile(r"[(\[]([A-Z])[)\]]")
# "A" before a small word is an article, and "I" a person.
_CAPITAL = re.compile(r"(?<![\w'-])(?!A\s+[a-z]|I\b)([A-Z])(?![\w'-])")


def choice(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """Right or wrong; nothing to grade where no single choice is to be found."""
    texts = _texts(meta)
    letters = ascii_uppercase[: len(texts) or 10]
    reference = needed_reference("choice", reference)
    wanted = _of_reference(reference, letters, texts)
    if wanted is None:
        raise BadScorer(
            f"scorer 'choice': the reference {reference!r} is neither one of the letters "
            f"{letters[0]} to {letters[-1]} nor the text of one of `meta: choices`"
        )
    found = chosen(final_part(answer), letters, texts)
    return NOTHING_FOUND if found is None else correct(found == wanted)


def chosen(answer: str, letters: str, texts: Sequence[str] = ()) -> str | None:
    """The letter that an answer chooses, None if there is none or more than one."""
    text = _MARKUP.sub("", answer)
    if whole := _of_reference(text, letters, texts):
        return whole
    if (boxed := _BOXED.findall(text)) and boxed[-1].upper() in letters:
        return str(boxed[-1].upper())
    marked = [match for match in _MARKER.finditer(text) if _is_choice(match, letters)]
    if marked:
        hedged = _SECOND.match(text, marked[-1].end("letter"))
        return None if hedged else marked[-1]["letter"].upper()
    for pattern in (_LEADING, _BRACKETED, _CAPITAL):
        found = {"".join(match.groups("")).upper() for match in pattern.finditer(text)}
        if found & set(letters):
            return found.pop() if len(found) == 1 else None
    said = [letter for letter, words in zip(letters, texts, strict=False) if _says(text, words)]
    return said[0] if len(said) == 1 else None


def _is_choice(match: re.Match[str], letters: str) -> bool:
    """Whether a marker's letter is a choice and not a word: "a prime", "I think"."""
    letter, rest = match["letter"], match["rest"]
    if letter.upper() not in letters:
        return False
    if letter == "I":
        return re.match(r"\s+[a-z]", rest) is None
    if letter.islower():
        return match["open"].strip() != "" or re.match(r"\s*([)\].,;:}\"']|$)", rest) is not None
    return True


def _of_reference(text: str, letters: str, texts: Sequence[str]) -> str | None:
    """The letter that a whole text stands for: `B`, `(b)`, `B. Paris` or just `Paris`."""
    match = _ALONE.fullmatch(text)
    if match and match[1].upper() in letters:
        return match[1].upper()
    for letter, words in zip(letters, texts, strict=False):
        plain = _fold(re.sub(rf"^\s*\(?{letter}[).:]\s+", "", text))
        if plain == _fold(words):
            return letter
    return None


def _texts(meta: Mapping[str, Any]) -> list[str]:
    choices = meta.get("choices", [])
    if not isinstance(choices, list) or len(choices) > len(ascii_uppercase):
        raise BadScorer(
            f"scorer 'choice': `meta: choices` must be a list of texts, not {choices!r}"
        )
    return [str(words) for words in choices]


def _fold(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .\"'")


def _says(text: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(_fold(words))}(?!\w)", _fold(text)) is not None
