r"""Scorer `choice`: the letter that an answer chooses equals the reference's.

Looked for in turn: the whole answer is a letter or one choice's text; the last \boxed{}; the last
"the answer is B" (or "is Paris"); a line that is only a letter; a leading "B." or "(B)"; the only
"B is correct"; a text that comes first ("Paris, because"); the only "option B"; the only letter in
brackets; the only capital that stands alone; the only choice whose text occurs. "Not B" is no choice,
"B is wrong" is one only where nothing else is, and the C in a choice "Vitamin C" is no letter. An
answer that chooses two has nothing to grade.
`meta: {"choices": [...]}` gives the texts and how many letters there are; else they are A to J.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
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

_MARKUP = re.compile(r"\\(?:text|math)(?:bf|rm|it|sf)?(?=\{)|\\[()\[\]]|[*`$]|\b_+|_+\b")
_QUOTES = str.maketrans("‘’“”\u00a0", "''\"\" ")
_ALONE = re.compile(r"[\s(\[{\"']*([A-Za-z])[\s)\]}\"'.:]*")
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")

# A letter is none inside a word or a name: B's, C++, B-12, D.C.
_START, _END = r"(?<![\w'+-])(?<![A-Z]\.)", r"(?!\w|'\w|[+#]|-\w|\.[A-Z]\.)"
# "A" before a small word is an article, and "I" a person.
_NO_ARTICLE = r"(?!(?:A\s+(?!(?:is|as|and|or|because|since)\b)|I\s+)[a-z])"
_OPEN, _CLOSE = r"""[\s(\[{"']*""", r"""[\s)\]}"']*"""
_ONE = rf"[(\[]?{_START}[A-Z]{_END}[)\]]?"
_ASIDE = r"\s*(?:\([^()\n]{1,80}\)\s*)?"  # option B (Paris) is
_LETTER = re.compile(rf"{_OPEN}(?:(?i:the)\s+{_OPEN})?(?P<letter>[A-Za-z]){_END}")
_CHOICE = re.compile(rf"{_NO_ARTICLE}[A-Z]|[a-z](?=\s*(?:[)\]}}.,;:\"']|$|(?:because|since)\b))")
_ARTICLE = re.compile(r"^(?:the|an?)\s+(?=\S)")
_SKIPPED = re.compile(_OPEN)
_AND = re.compile(
    rf"{_CLOSE}(?:(?P<comma>[,;])(?:\s*(?:and|or)\b)?|\b(?:and|or)\b|[/&+])"
    r"(?:\s*(?:also|maybe|perhaps|possibly)\b)?\s*",
    re.I,
)
_PHRASE = re.compile(r"[)\]}\"']*[ \t]*(?:[.,:;\n]|$|(?:because|since|as)\b)")
_CLAUSE = re.compile(rf"{_CLOSE}(?:is|are|was|were|has|have|does|do|would|cannot|being)\b")

_NOT = r"""(?i:(?:\b(?:not|cannot|neither|nor|never|rather\s+than|instead\s+of)|n't)
    (?:\s+(?:be|been|have|the|option|choice|letter|answer|choose|pick|select
        |think|believe|that|it|it's|is)){0,6}\s+)"""
_NEGATED = re.compile(
    rf"""
    {_NOT}["']?{_ONE}(?:(?:,\s+{_ONE}){{0,9}},?\s+n?or\s+{_ONE})?
    | {_ONE}{_ASIDE}(?i:(?:is|are|was)(?:n't|\s+not)|can(?:no|')t\s+be)
      (?i:\s+(?:the|an?))?(?i:\s+\w+ly)?\s+(?i:correct|right|best|answer|choice|option)\b
    """,
    re.VERBOSE,
)
_REJECTED = re.compile(
    rf"""
    (?: (?i:\b(?:options|choices|answers)\s+){_ONE}(?:,?\s+(?:(?:and|or)\s+)?{_ONE}){{0,9}}
    |   {_ONE}(?:\s+(?:and|or)\s+{_ONE})? )
    {_ASIDE}
    (?i:(?:is|are|was|were|would\s+be|seems?)\s+(?:(?:an?|the)\s+)?(?:\w+\s+)??
        (?:not|wrong|incorrect|false|distractors?|too|invalid|untrue)\b
    |   (?:is|are|does|do|was|ca|wo)n't\b | cannot\b | do(?:es)?\s+not\b)
    """,
    re.VERBOSE,
)
_LINK = r"(?:is|are|was|be|has|to|would|should|must|will|here|therefore)"
_STRONG = re.compile(
    rf"""
    (?: (?<![/\w])(?P<noun>answer|choice|option|solution|(?:right|best)\s+one|(?<!is[ ])(?<!are[ ])correct)
        (?:\s+(?:option|choice|answer|letter|one|here)\b){{0,3}}
        (?:\s+(?:to|for)\s[^.!?:\n]{{1,60}}?(?=\s+is\b|:))?
        (?:["']?\s*(?:[:=>→–—]|-(?!\d))+ | (?<=answer)\s*\n | (?:,?\s+{_LINK}\b){{1,5}})
    |   \b(?:I|we)(?:'d|'ll)?(?:\s+\w+){{0,2}}\s+(?:choose|chose|pick|picked|select|go\s+with|say)\b
    |   \b(?P<it>it(?:\s+is|'s|\s+must\s+be|\s+has\s+to\s+be)\b)
    # B is the answer
    |   (?P<before>(?-i:{_ONE})){_ASIDE}is\s+(?:the|my)\s+(?!(?:\w+\s+)?(?:wrong|incorrect)\b)
        (?:\w+\s+){{0,2}}(?:answer|choice|option|one)\b
    )
    (?P<filler>
        (?: \s*\0+[,;]?\s+(?:but|rather)\b             # not A but B, with "not A" blanked
        |   ,?\s+(?:thus|hence|most|likely|\w+ly|that|option|choice|letter|answer|correct|best|one
            |the(?=\s+(?:option|choice|letter|answer|correct|best|one)\b)|{_LINK})\b,?
        ){{0,8}}
        \s*(?:[:=]\s*)?(?:(?:option|choice|letter|answer)\s+)?
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Where this stands before a marker, what follows it is somebody's error.
_DOUBTED = re.compile(
    r"(?:\b(?:if|other|remaining|wrong|incorrect|false)|(?:n't|\bnot)\s+(?:think|believe)"
    r"|\b(?:might|may|could)(?:\s+\w+)?\s+(?:think|assume|believe|guess))"
    r"(?:\s+(?:that|the|an?|correct|best|right)){0,5}\s*$",
    re.IGNORECASE,
)
_LONE = re.compile(r"^[ \t]*[(\[{\"']?([A-Z])[)\]}\"']?[.:]?[ \t]*$", re.M)
_LEADING = re.compile(
    r"^[ \t]*(?:\(([A-Za-z])\)|\[([A-Za-z])\]|([A-Z])\s?[).:]|([a-z])\))(?=\s|$)", re.M
)
_CORRECT = re.compile(
    rf"{_START}([A-Z]){_END}{_CLOSE}{_ASIDE}"
    r"(?i:is\s+(?:\w+ly\s+)?(?:the\s+)?(?:correct|right|best|true|accurate)\b)"
)
_WEAK = re.compile(
    r"\b(?:options?|choices?|answers?|letter|select|choose|pick|go(?:ing)?\s+with)\s", re.I
)
_BRACKETED = re.compile(r"[(\[]([A-Z])[)\]]")
_CAPITAL = re.compile(rf"{_START}{_NO_ARTICLE}(?!I\b)([A-Z]){_END}")


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
    text, texts = _unmarked(answer), [_unmarked(words) for words in texts]
    if whole := _of_reference(text, letters, texts):
        return whole
    for found in _Reader(text, letters, texts).found():
        if found:
            return found.pop() if len(found) == 1 else None
    return None


class _Reader:
    """Finds the choices that a text names, by their letters or by their own texts."""

    def __init__(self, text: str, letters: str, texts: Sequence[str]) -> None:
        self.text, self.letters, self.texts = text, letters, tuple(texts)
        # Letters are looked for in `plain`, where "not B" and texts like "Vitamin C" are blanked.
        lettered = tuple(
            words for words in texts if len(_fold(words)) > 1 and re.search(r"\b[A-Za-z]\b", words)
        )
        self.plain = _blank(_NEGATED, _blank(_naming(lettered), text) if lettered else text)

    def found(self) -> Iterator[set[str]]:
        """The letters that each way of choosing gives, the surest way first."""
        yield self._boxed()
        for plain in (_blank(_REJECTED, self.plain), self.plain):
            yield self._last_strong(plain)
            yield self._all(_LONE, plain)
            yield self._leading(plain)
            if len(found := self._all(_CORRECT, plain)) == 1:
                yield found
            yield self._first_text()
            marked = (self._letters_at(plain, m.end(), prose=True) for m in _WEAK.finditer(plain))
            if len(found := set().union(*marked)) == 1:
                yield found
            yield self._all(_BRACKETED, plain)
            yield self._all(_CAPITAL, plain)
        yield set().union(*map(self._named, _naming(self.texts).finditer(self.text)))

    def _boxed(self) -> set[str]:
        """What the last box holds, with the boxes that a comma or "and" joins to it."""
        found: set[str] = set()
        end = 0
        for box in _BOXED.finditer(self.text):
            if not _AND.fullmatch(self.text, end, box.start()):
                found = set()
            whole = _of_reference(box[1], self.letters, self.texts)
            found |= {whole} if whole else self._letters_at(box[1], 0)
            end = box.end()
        return found

    def _last_strong(self, plain: str) -> set[str]:
        last: set[str] = set()
        for match in _STRONG.finditer(plain):
            if _DOUBTED.search(plain[max(0, match.start() - 60) : match.start()]):
                continue
            if match["before"]:
                found = self._letters_at(match["before"], 0)
            else:
                # "Solution: A train leaves" and "Answer\n\nA train leaves" choose nothing.
                prose = "\n" in match[0] or (match["noun"] or "").lower() == "solution"
                found = self._letters_at(plain, match.end(), prose=prose)
            if not found and not match["it"]:
                found = self._texts_at(match.start("filler")) or self._texts_at(match.end())
            last = found or last
        return last

    def _letters_at(self, plain: str, place: int, *, prose: bool = False) -> set[str]:
        """The letter that stands there, with those that a comma or "and" joins to it."""
        found: list[str] = []
        links: list[re.Match[str]] = []
        while match := _LETTER.match(plain, place):
            letter = match["letter"].upper()
            loose = not (prose or found or letter == "I") and match["letter"] == letter
            if letter not in self.letters or not (
                loose or _CHOICE.match(plain, match.start("letter"))
            ):
                break
            found.append(letter)
            if links and links[0]["comma"] and _CLAUSE.match(plain, match.end()):
                return {found[0]}  # the answer is B, C is too small
            if not (link := _AND.match(plain, match.end())):
                break
            links.append(link)
            place = link.end()
        return set(found)

    def _texts_at(self, place: int) -> set[str]:
        """The choice whose text stands there, with those that a comma or "and" joins to it."""
        found: set[str] = set()
        naming = _naming(self.texts)
        while skipped := _SKIPPED.match(self.text, place):
            if not (match := naming.match(self.text, skipped.end())):
                break
            found |= self._named(match)
            if not (link := _AND.match(self.text, match.end())):
                break
            place = link.end()
        return found

    def _first_text(self) -> set[str]:
        """The choice whose text is the answer's first phrase: "Rome, because ..."."""
        skipped = _SKIPPED.match(self.text)
        first = skipped and _naming(self.texts).match(self.text, skipped.end())
        return self._texts_at(0) if first and _PHRASE.match(self.text, first.end()) else set()

    def _named(self, match: re.Match[str]) -> set[str]:
        """The choices whose text was met, where no "not" stands before it."""
        if match["no"]:
            return set()
        folds = (_fold, lambda text: _ARTICLE.sub("", _fold(text)))
        for fold in folds:  # "the cat" is the choice "a cat", unless there is "the cat" too
            words = fold(match["words"])
            pairs = zip(self.letters, self.texts, strict=False)
            if found := {letter for letter, text in pairs if fold(text) == words}:
                return found
        return set()

    def _leading(self, plain: str) -> set[str]:
        """The letters that begin a line; of an answer that begins with B, then explains A, only B."""
        matches = list(_LEADING.finditer(plain))
        letters = ["".join(match.groups("")).upper() for match in matches]
        if len(letters) > 1 and letters[0] > letters[1] and not plain[: matches[0].start()].strip():
            letters = letters[:1]
        elif len(letters) == 1 and (named := self._letters_at(plain, matches[0].start())):
            return named
        return self._in_letters(letters)

    def _all(self, pattern: re.Pattern[str], plain: str) -> set[str]:
        return self._in_letters(pattern.findall(plain))

    def _in_letters(self, found: Sequence[str]) -> set[str]:
        """What was found, nothing if it holds no choice at all."""
        return set(found) if set(found) & set(self.letters) else set()


def _of_reference(text: str, letters: str, texts: Sequence[str]) -> str | None:
    """The letter that a whole text stands for: `B`, `(b)`, `B. Paris` or just `Paris`."""
    match = _ALONE.fullmatch(text)
    if match and match[1].upper() in letters:
        return match[1].upper()
    for letter, words in zip(letters, texts, strict=False):
        plain = _fold(re.sub(rf"^\s*\(?{letter}[).:]\s+", "", text))
        if plain and plain == _fold(words):
            return letter
    return None


def _texts(meta: Mapping[str, Any]) -> list[str]:
    choices = meta.get("choices", [])
    if not isinstance(choices, list) or len(choices) > len(ascii_uppercase):
        raise BadScorer(
            f"scorer 'choice': `meta: choices` must be a list of texts, not {choices!r}"
        )
    return [str(words) for words in choices]


@lru_cache(maxsize=1024)
def _naming(texts: tuple[str, ...]) -> re.Pattern[str]:
    """Matches the longest of the texts that stands at a place, with or without its article."""
    bare = sorted({_ARTICLE.sub("", _fold(text)) for text in texts} - {""}, key=len, reverse=True)
    words = "|".join(r"\s+".join(map(re.escape, text.split())) for text in bare) or r"\b\B"
    return re.compile(
        rf"(?P<no>{_NOT}(?:(?:the|an?)\s+)?)?(?<!\w)(?<!\d[.,])(?!(?<=-)\d)"
        rf"(?P<words>(?:(?:the|an?)\s+)?(?:{words}))(?!\w|[.,]\d)",
        re.IGNORECASE | re.VERBOSE,
    )


def _blank(pattern: re.Pattern[str], text: str) -> str:
    """The text with what matches blanked: as long as before, so that places stay the same."""
    return pattern.sub(lambda match: "\0" * len(match[0]), text)


def _unmarked(text: str) -> str:
    return _MARKUP.sub("", text.translate(_QUOTES))


def _fold(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" \"'").rstrip(" .\"'")
