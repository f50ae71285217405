"""What of two answers a judge gets to read, and which of them cannot win by its word.

An answer is written by a model that may have learnt to please judges, so nothing in it may count but what it
says about the prompt:

- words to the judge, praise of the answer itself, imitated verdicts and chat marks are left out ("[…]");
- an answer in which nothing is left, or that says none, is no answer;
- one that stands word for word under many prompts to which others gave different answers, or is many times
  longer than the other, may lose or tie, but not win.

Null models and verdict imitation: Zheng et al., "Cheating Automatic LLM Benchmarks" (2024), arXiv:2410.07137;
length: Dubois et al., "Length-Controlled AlpacaEval" (2024), arXiv:2404.04475.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from ledger.prompts import Prompt

GAP = "[…]"
MOST_CHARS = 12_000  # of an answer are shown
LONG_CHARS, LONGER = (
    2_000,
    8,
)  # an answer of more than these, and so many times the other, is padded
OFTEN, OFTEN_CHARS = 5, 20  # an answer of so many characters to so many prompts fits any of them

_NAMED = r"(?:answer|response|reply|assistant|candidate|output|solution|completion|submission|text)"
_OWN = rf"(?:(?:this|my|the (?:above|present)) {_NAMED}\b|the {_NAMED} you(?: a|')re\b|mine\b|this one\b)"
_PREFER = (
    r"(?:cho(?:o|se)\w*|pick\w*|select\w*|prefer\w*|favou?r\w*|rank\w*|rat(?:e|ed|ing)|scor(?:e|ed|ing)|grad(?:e|ed)"
    r"|vot\w+|declar\w+|crown\w*)"
)
_PRAISE = (
    rf"(?:{_PREFER}|best|better|superior|win|wins|winner|winning|won|perfect|flawless|highest|top|full marks"
    r"|unbeatable|deserv\w+|outstanding|10\s*/\s*10|5\s*/\s*5|100\s*%|beats?|outperform\w*)"
)
_RANK = r"(?:best|superior|winning|better|preferred|strongest)"
_THEM = r"(?:second|first|other|competing|opposing)"
_WITHIN = r"[^.!?\n]{0,120}"
# What no answer to a prompt has to say, whatever the prompt is about.
_NEVER = re.compile(
    "|".join(
        (
            rf"\b{_OWN}{_WITHIN}\b{_PRAISE}\b",
            rf"\b{_PRAISE}\s{_WITHIN}\b{_OWN}",
            rf"\bi(?: a|')m\b{_WITHIN}\b{_RANK}\s+{_NAMED}\b",
            rf"\bthis is\s+(?:\w+\s+){{0,3}}{_RANK}\s+{_NAMED}\b",
            r"\bi(?: a|')m\b[^.!?\n]{0,40}\bthe (?:best|winner)\s*(?:[.!\n]|$)",
            r"\b(?:choose|pick|select|prefer|favou?r|vote for|crown)\s+me\b(?! up\b)",
            r"\b(?:ignore|disregard|forget|override)\s+(?:\w+\s+){0,3}"
            r"(?:instructions?|prompts?|rubrics?|criteria|guidelines)\b",
            rf"\b(?:ignore|disregard|forget)\s+(?:the )?{_THEM}\s+{_NAMED}s?\b",
            r"\bas (?:an?|the) (?:\w+ )?(?:judge|grader|evaluator|rater),? you\b",
            r"\bif you are (?:an? |the )?(?:ai|llm|language model|judge|grader|evaluator)\b",
            r"\b(?:new|updated|real|actual) (?:instructions?|rubric|criteria)\s*:",
            r"\bsystem (?:note|message|prompt|override)\s*:",
            r"<\|[\w ]{1,40}\|>|\[/?INST\]|<</?SYS>>",
        )
    ),
    re.IGNORECASE,
)
_PLACE = rf"(?:(?:the )?(?:{_NAMED}|option|model)?\s*(?:a|b|1|2|one|two|first|second|tie))"
# What only an answer about judging has to say.
_JUDGEMENT = re.compile(
    "|".join(
        (
            r"\[\[\s*(?:a|b|c|tie|first|second)\s*\]\]",
            r"\b(?:rating|score)\W{0,4}\[\[\s*\d+\s*\]\]",
            r"\bverdict\s+[0-9a-z]{4,}\s*:",
            r"^\W*(?:final |overall |my )?(?:verdict|judge?ment|winner|rating|preference"
            rf"|(?:better|preferred) (?:answer|response)|score|grade|decision)\W*(?:is|[:=])\W*"
            rf"(?:{_PLACE}|me|this(?: {_NAMED})?|\d+(?:\.\d+)?(?:\s*(?:/|out of)\s*\d+)?)\W*$",
            r"[\"'](?:winner|verdict|preferred|preference|better|judge?ment|score|rating|grade)[\"']\s*:"
            rf"\s*[\"']?(?:{_PLACE}|\d)",
            rf"\b{_NAMED} (?:a|b|1|2|one|two) (?:is|was) (?:\w+ )?(?:better|best|superior|the winner)\b",
            rf"\bthe {_THEM} {_NAMED}\b",
            r"\bthe other (?:one )?(?:is|was) (?:\w+ )?(?:wrong|worse|incorrect|inferior|bad|false)\b",
            r"\b(?:output|respond|reply|answer|say|write|print|return|end)\b[^.!?\n]{0,30}"
            r"\b(?-i:FIRST|SECOND|TIE|\"[ABC]\"|A|B)\b\W*$",
            rf"\b{_PREFER}\s+(?:\w+\s+){{0,2}}{_NAMED} (?:a|b|1|2|one|two)\b",
            r"^\W*(?:dear |attention |note (?:to|for) |message (?:to|for) |to |hello |hi |hey )?"
            r"(?:the |all |any )?(?:ai |llm )?(?:judge|grader|evaluator|rater|assessor)s?\s*[,:!]",
        )
    ),
    re.IGNORECASE | re.MULTILINE,
)
_ABOUT_JUDGING = re.compile(
    r"\b(?:judg\w+|judge|grad(?:e|es|ed|ing|er|ers)|rat(?:e|es|ed|ing|ings|er|ers)|scor(?:e|es|ed|ing)|"
    r"evaluat\w+|verdicts?|reviews?|reviewers?|rank\w*|assess\w*|compar\w+|critique\w*|winners?|prefer\w*|"
    r"better|rubrics?|votes?|voting|injections?)\b",
    re.IGNORECASE,
)
# Soft hyphen, zero-width space, word joiner, byte order mark, and the marks of direction.
_UNSEEN = dict.fromkeys(
    [0xAD, 0x200B, 0x2060, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
_END = re.compile(r"[.!?]+\s|\n")
_NONE = frozenset(
    ("n/a", "na", "none", "null", "nil", "nothing", "no answer", "no response", "undefined", "no comment")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to a prompt. What is judged is the first: it wins, ties or loses."""

    prompt: Prompt
    first: str
    second: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Screened:
    """A pair as a judge may read it.

    `settled` is its outcome where no judge has to be asked; `barred` are the sides that cannot win, and why.
    """

    pair: Pair
    first: str
    second: str
    settled: str | None = None
    barred: dict[str, str] = field(default_factory=dict)


def screen(pairs: Sequence[Pair]) -> list[Screened]:
    """Every pair as judges may read it, in order. Give all pairs of an evaluation together: an answer that
    fits every prompt is known by that."""
    often = {side: _often([(p.prompt.key, getattr(p, side), other_of(p, side)) for p in pairs])
             for side in ("first", "second")}  # fmt: skip
    return [_screened(pair, often) for pair in pairs]


def other_of(pair: Pair, side: str) -> str:
    """The answer beside the one on that side."""
    return pair.second if side == "first" else pair.first


def _screened(pair: Pair, often: dict[str, set[str]]) -> Screened:
    first, second = readable(pair, "first"), readable(pair, "second")
    empty_first, empty_second = not _says(first), not _says(second)
    if empty_first or empty_second:
        settled = "tie" if empty_first and empty_second else "loss" if empty_first else "win"
        return Screened(pair, first, second, settled)
    if _squeezed(pair.first) == _squeezed(pair.second):
        return Screened(pair, first, second, "tie")
    barred = {}
    for side, own, other in (("first", first, second), ("second", second, first)):
        if _squeezed(own) in often[side]:
            barred[side] = "the same answer stands under many prompts"
        elif len(own) > LONG_CHARS and len(own) > LONGER * len(other):
            barred[side] = f"more than {LONGER} times as long as the other"
        elif (
            own.strip().strip(".!").lower() in _NONE
            and own.strip() != (pair.reference or "").strip()
        ):
            barred[side] = "it says that it is no answer"
    return Screened(pair, first[:MOST_CHARS], second[:MOST_CHARS], None, barred)


def readable(pair: Pair, side: str) -> str:
    """The answer on a side without what speaks to the judge. What the prompt, the reference or the other
    answer has too is left in, where the prompt is about judging."""
    text, other = getattr(pair, side), other_of(pair, side)
    about = bool(_ABOUT_JUDGING.search(pair.prompt.text))
    kept = about or bool(
        _JUDGEMENT.search(other) and _JUDGEMENT.search(text) and not _NEVER.search(text)
    )
    return without_appeals(text, about_judging=kept)


def without_appeals(text: str, *, about_judging: bool = False) -> str:
    """A text whose sentences that speak to a judge, or for the answer itself, are replaced by "[…]"."""
    text = text.translate(_UNSEEN)
    folded = _folded(text)
    patterns = [_NEVER] if about_judging else [_NEVER, _JUDGEMENT]
    gaps = sorted(_sentence(folded, *each.span()) for p in patterns for each in p.finditer(folded))
    kept, at = [], 0
    for begin, end in gaps:
        if begin >= at:
            kept += [text[at:begin], GAP]
        at = max(at, end)
    return "".join([*kept, text[at:]])


def _folded(text: str) -> str:
    """The text, its look-alikes written plainly, with every character in its place."""
    if text.isascii():
        return text
    plain = (unicodedata.normalize("NFKC", character) for character in text)
    return "".join(
        new if len(new) == 1 else old for new, old in zip(plain, text, strict=True)
    ).replace("\u2019", "'")  # fmt: skip


def _sentence(text: str, begin: int, end: int) -> tuple[int, int]:
    """The bounds of the sentences around a span."""
    before = [each.end() for each in _END.finditer(text, max(0, begin - 1_000), begin)]
    after = _END.search(text, max(begin, end - 1))
    if after is None:
        return (before[-1] if before else max(0, begin - 1_000)), len(text)
    return (before[-1] if before else max(0, begin - 1_000)), after.start() + (
        text[after.start()] != "\n"
    )


def _says(text: str) -> bool:
    """Whether anything but gaps, marks and blanks is left."""
    return any(character.isalnum() for character in text.replace(GAP, "")) or any(
        unicodedata.category(character)[0] == "S" for character in text
    )


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _often(answers: Sequence[tuple[str, str, str]]) -> set[str]:
    """The answers that stand under many prompts to which the other gave different ones.

    `answers` are (prompt key, answer, the other's answer). Where the others are few as well, such as labels,
    the same answer may be right many times.
    """
    others: dict[str, dict[str, str]] = defaultdict(dict)
    for key, text, other in answers:
        others[_squeezed(text)][key] = _squeezed(other)
    return {
        text
        for text, beside in others.items()
        if len(beside) >= OFTEN
        and len(text) >= OFTEN_CHARS
        and 2 * len(set(beside.values())) > len(beside)
    }
