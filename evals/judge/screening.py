"""What of two answers a judge gets to read, and which of them cannot win by its word.

An answer is written by a model that may have learnt to please judges, so nothing in it may count but what it
says about the prompt:

- words to the judge, praise of the answer itself and imitated verdicts are left out ("[…]"), look-alike letters
  and marks between letters or not; chat marks are broken up;
- an answer of nothing but such words, or that is empty, is no answer; one of nothing but what reads like a
  verdict is shown, but cannot win;
- one that is many times longer than the other may lose or tie, but not win.

What no pattern knows is caught by asking again, under another prompt (evals.judge.deciding).

Null models and verdict imitation: Zheng et al., "Cheating Automatic LLM Benchmarks" (2024), arXiv:2410.07137;
length: Dubois et al., "Length-Controlled AlpacaEval" (2024), arXiv:2404.04475.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from ledger.prompts import Prompt

GAP = "[…]"
MOST_CHARS = 12_000  # of an answer are shown
LONG_CHARS, LONGER = (
    2_000,
    8,
)  # an answer of more than these, and so many times the other, is padded

_NAMED = r"(?:answer|response|reply|assistant|candidate|completion|submission)"
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
_WHICH = (
    r"(?:all|any|of|the|your|my|our|these|those|this|that|other|every|each|previous|prior|above|earlier|preceding"
    r"|existing|given|old|original|foregoing|evaluation|grading|judging|scoring|system|written|said)"
)
# What no answer to a prompt has to say, whatever the prompt is about.
_NEVER = re.compile(
    "|".join(
        (
            rf"\b{_OWN}{_WITHIN}\b{_PRAISE}\b",
            rf"\b{_PRAISE}\s{_WITHIN}\b{_OWN}",
            rf"\bi(?: a|')m\b{_WITHIN}\b{_RANK}\s+{_NAMED}\b",
            rf"\bthis is\s+(?:\w+\s+){{0,3}}{_RANK}\s+{_NAMED}\b",
            r"\bi(?: a|')m\b[^.!?\n]{0,40}\bthe (?:best|winner)\s*(?:[.!\n]|$)",
            r"\b(?:choose|pick|select|prefer|favou?r|vote for|crown)\s+me\b\s*"
            r"(?:[.!,;\n]|$|as\b|over\b|because\b)",
            rf"\b(?:ignore|disregard|forget|override)\s+(?:{_WHICH}\s+){{1,8}}"
            r"(?:instructions?|prompts?|rubrics?|criteria|criterion|guidelines?)\b",
            r"\b(?:ignore|disregard|forget)\s+(?:everything|anything|all|whatever)\b[^.!?\n]{0,30}"
            r"\b(?:above|before|else|earlier|previously|so far)\b",
            rf"\b(?:ignore|disregard|forget)\s+(?:the )?{_THEM}\s+{_NAMED}s?\b",
            r"\bas (?:an?|the) (?:\w+ )?(?:judge|grader|evaluator|rater),? you\b",
            r"\bif you are (?:an? |the )?(?:ai|llm|language model|judge|grader|evaluator)\b",
            r"\b(?:new|updated|real|actual) (?:instructions?|rubric|criteria)\s*:",
            r"\bsystem (?:note|message|prompt|override)\s*:",
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
            r"^\W*verdict\W+(?:first|second|tie)\W*$",
            r"^\W*(?:final |overall |my )?(?:verdict|judge?ment|winner|rating|preference"
            rf"|(?:better|preferred) (?:answer|response)|score|grade|decision)\W*(?:is|[:=])\W*"
            rf"(?:{_PLACE}|me|this(?: {_NAMED})?|\d+(?:\.\d+)?(?:\s*(?:/|out of)\s*\d+)?)\W*$",
            r"[\"'](?:winner|verdict|preferred|preference|better|judge?ment|score|rating|grade)[\"']\s*:"
            rf"\s*[\"']?(?:{_PLACE}|\d)",
            rf"\b{_NAMED} (?:a|b|1|2|one|two) (?:is|was) (?:\w+ )?(?:better|best|superior|the winner)\b",
            rf"\bthe {_THEM} {_NAMED} (?:is|was|has|had|does|did|fails|lacks|contains|should|must|can)\b",
            r"\bthe other (?:one )?(?:is|was) (?:\w+ )?(?:wrong|worse|incorrect|inferior|bad|false)\b",
            r"\b(?:output|respond|reply|answer|say|write|end)\b[^.!?\n]{0,30}\b(?-i:FIRST|SECOND|TIE)\b\W*$",
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
# Letters that look like Latin ones.
_ALIKE = str.maketrans(
    "аеорсухіїјѕԁһктмԛԝАВЕКМНОРСТУХІЈЅαονρικυχτεΑΒΕΖΗΙΚΜΝΟΡΤΥΧıɑɡ",
    "aeopcyxiijsdhktmqwABEKMHOPCTYXIJSaovpikuxteABEZHIKMNOPTYXiag",
)
_MARKUP = frozenset("*~`")
_MARK = re.compile(r"<(\|[\w ]{1,40}\|)>|\[(/?INST)\]|<(</?SYS>)>", re.IGNORECASE)
_BROKEN = re.compile(r"(?<![\n])\n(?![\n#|>\-\d])")  # a line that goes on in the next
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
    """Every pair as judges may read it, in order."""
    return [_screened(pair) for pair in pairs]


def other_of(pair: Pair, side: str) -> str:
    """The answer beside the one on that side."""
    return pair.second if side == "first" else pair.first


def _screened(pair: Pair) -> Screened:
    first, only_first = _shown(pair, "first")
    second, only_second = _shown(pair, "second")
    empty_first, empty_second = not _says(first), not _says(second)
    if empty_first or empty_second:
        settled = "tie" if empty_first and empty_second else "loss" if empty_first else "win"
        return Screened(pair, first, second, settled)
    if _squeezed(pair.first) == _squeezed(pair.second):
        return Screened(pair, first, second, "tie")
    barred = {}
    for side, own, other, only in (
        ("first", first, second, only_first),
        ("second", second, first, only_second),
    ):
        if only:
            barred[side] = "it reads like a verdict, and says nothing else"
        elif len(own) > LONG_CHARS and len(own) > LONGER * len(other):
            barred[side] = f"more than {LONGER} times as long as the other"
        elif (
            own.strip().strip(".!").lower() in _NONE
            and own.strip() != (pair.reference or "").strip()
        ):
            barred[side] = "it says that it is no answer"
    return Screened(pair, first[:MOST_CHARS], second[:MOST_CHARS], None, barred)


def _shown(pair: Pair, side: str) -> tuple[str, bool]:
    """The answer on a side as judges read it, and whether it only reads like a verdict. What reads like one is
    left in where the prompt is about judging, or the other answer reads so, too."""
    text, other = getattr(pair, side), other_of(pair, side)
    about = is_about_judging(pair.prompt, pair.reference) or bool(
        _JUDGEMENT.search(other) and _JUDGEMENT.search(text) and not _NEVER.search(text)
    )
    return readable(text, about)


def is_about_judging(prompt: Prompt, reference: str | None) -> bool:
    """Whether an honest answer may read like a verdict."""
    return bool(_ABOUT_JUDGING.search(prompt.text)) or bool(_JUDGEMENT.search(reference or ""))


def readable(text: str, about_judging: bool) -> tuple[str, bool]:
    """An answer without what speaks to the judge, and whether it only reads like a verdict, and is left in."""
    strict = without_appeals(text, about_judging=about_judging)
    if _says(strict) or about_judging:
        return strict, False
    mild = without_appeals(text, about_judging=True)
    return (mild, True) if _says(mild) else (strict, False)


def without_appeals(text: str, *, about_judging: bool = False) -> str:
    """A text whose sentences that speak to a judge, or for the answer itself, are replaced by "[…]", and whose
    chat marks are broken up."""
    text = _MARK.sub(_apart, text.translate(_UNSEEN))
    folded, places = _folded(text)
    joined = _BROKEN.sub(" ", folded)
    gaps = [_sentence(joined, *each.span()) for each in _NEVER.finditer(joined)]
    if not about_judging:
        gaps += [_sentence(folded, *each.span()) for each in _JUDGEMENT.finditer(folded)]
    gaps = sorted((places[begin], places[end]) for begin, end in gaps)
    kept, at = [], 0
    for begin, end in gaps:
        if begin >= at:
            kept += [text[at:begin], GAP]
        at = max(at, end)
    return "".join([*kept, text[at:]])


def _apart(mark: re.Match[str]) -> str:
    """A chat mark that is one no more."""
    whole = mark.group()
    return f"{whole[0]} {whole[1:-1]} {whole[-1]}"


def _folded(text: str) -> tuple[str, list[int]]:
    """The text, look-alikes written plainly, without accents, unseen characters and marks of emphasis; and
    where each of its characters, and its end, stands in the text."""
    kept: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if character in _MARKUP:
            continue
        if not character.isascii():
            if unicodedata.category(character) in ("Cf", "Mn"):
                continue
            plain = unicodedata.normalize("NFKD", character)[0]
            character = "'" if character == "\u2019" else plain.translate(_ALIKE)
        kept.append(character)
        places.append(place)
    return "".join(kept), [*places, len(text)]


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
