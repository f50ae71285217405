"""A teacher's distributions over its own tokens, as distributions over a student's, by the bytes of the answer.

    alignment = Alignment(Spelling(student_tokenizer), end=2, teacher_ends={"<|im_end|>"})
    for pieces, ids in answers:                    # of one text, in the teacher's pieces and the student's ids
        alignment.learn(pieces, ids)
    ids_S_K, probabilities_S_K = alignment.project(foretold, ids, k=32)

A student's token begins where a teacher's does, or within one.

- Where both begin, each token that the teacher foretells counts for the student's token with which its text
  begins. Where the student's next token is longer than the teacher's, its probability is the product of the
  teacher's over its parts (the chain rule); what else the part could have become joins the tail.
- Templates write answers in other surroundings (a think block, blanks): what meets is what both texts begin
  with and what both end with. A control token within the answer counts as the text of its name.
- Within a teacher's token, only the foretold tokens that go on from the bytes already written count, and
  their probabilities are taken anew out of 1. What the teacher kept to itself is taken to be spread like
  what it told. Where it told less than it kept, the position has no distribution.

A foretold token's text can become a longer token of the student's. How often it stays is counted over the
teacher's own answers (`learn`); the rest of its probability joins the tail. So no position holds more than 1
in all, and between equal tokenizers every probability stays as it is.

Dimensions: S trained tokens of the student, T of the teacher, K tokens of a record.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, takewhile
from typing import TYPE_CHECKING

from trainer.signals.spelling import Piece, Spelling, is_byte

if TYPE_CHECKING:
    import numpy as np

BLANK = b" "

Options = Sequence[tuple[Piece, float]]


@dataclass(frozen=True, slots=True)
class Foretold:
    """An answer in a teacher's T pieces, and what it foretold at the first of them: likeliest first."""

    pieces: Sequence[Piece]
    options: Sequence[Options]


class Alignment:
    """From one teacher's pieces to one student's tokens. `end` is the token with which the student stops."""

    def __init__(self, student: Spelling, end: int, teacher_ends: Collection[str]) -> None:
        self.student, self.end, self.teacher_ends = student, end, frozenset(teacher_ends)
        self._met: Counter[bytes] = Counter()
        self._stayed: Counter[bytes] = Counter()

    def learn(self, pieces: Sequence[Piece], ids: Sequence[int]) -> None:
        """Counts at one answer which of the teacher's pieces stay tokens of the student's."""
        answer = _SideBySide(pieces, self.student.spell(list(ids)))
        for place in answer.places:
            if place is not None and isinstance(place.rest, bytes):
                self._met[place.rest] += 1
                self._stayed[place.rest] += ids[place.token] == self._first(place.rest)

    def project(
        self, foretold: Foretold, ids: Sequence[int], k: int
    ) -> "tuple[np.ndarray, np.ndarray]":
        """Ids (S, K) int64 and probabilities (S, K) float32, highest first; 0 where nothing is defined."""
        import numpy as np

        ids_S_K, p_S_K = np.zeros((len(ids), k), np.int64), np.zeros((len(ids), k), np.float32)
        answer = _SideBySide(foretold.pieces, self.student.spell(list(ids)))
        options = answer.led([self._texts(row) for row in foretold.options])
        for place in answer.places:
            if place is None or place.piece >= len(options):
                continue
            found = self._distribution(answer, place, options, ids[place.token])
            best = sorted(found.items(), key=lambda item: -item[1])[:k]
            for column, (token, probability) in enumerate(best):
                ids_S_K[place.token, column] = token
                p_S_K[place.token, column] = probability
        return ids_S_K, p_S_K

    def _distribution(
        self, answer: "_SideBySide", place: "_Place", options: Sequence[Options], label: int
    ) -> dict[int, float]:
        """What the teacher foretold at a place, by the student's tokens; empty where it is undefined."""
        told, scale = _continuing(options[place.piece], place.prefix)
        found: dict[int, float] = {}
        for rest, probability in told:
            token: int | None
            if rest == place.rest:
                token, part = label, _chain(answer, place, options)
            elif isinstance(rest, bytes):
                token = self._first(rest)
                part = (self._stayed[rest] + 1) / (self._met[rest] + 1)
            else:
                token = self.end if rest in self.teacher_ends else self.student.first(rest)
                part = 1.0
            if token is not None and part:
                found[token] = found.get(token, 0.0) + probability * scale * part
        return found

    def _texts(self, options: Options) -> Options:
        return [
            (piece if piece in self.teacher_ends else _text(piece) or piece, probability)
            for piece, probability in options
        ]

    def _first(self, text: bytes) -> int | None:
        """The student's control token of this name, else its first token of the text."""
        control = self.student.first(text.decode(errors="replace"))
        return self.student.first(text) if control is None else control


def shared(learnt: Sequence[int], taught: Sequence[int]) -> list[tuple[int, int]]:
    """Of equal tokenizers, the tokens that both answers begin with and those that both end with, in order."""
    front = common(learnt, taught)
    back = min(common(learnt[::-1], taught[::-1]), len(learnt) - front, len(taught) - front)
    ends = [(len(learnt) - i, len(taught) - i) for i in range(back, 0, -1)]
    return [*((i, i) for i in range(front)), *ends]


def meetings(pieces: Sequence[Piece], student: Sequence[Piece]) -> list[tuple[int, int]]:
    """Which of an answer's tokens begin together: (student's number, teacher's number), in order."""
    places = _SideBySide(pieces, student).places
    return [(place.token, place.piece) for place in places if place and not place.prefix]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a student's token begins: in which of the teacher's pieces, and behind which of its bytes."""

    token: int
    piece: int
    prefix: bytes
    rest: Piece  # of the teacher's piece
    longer: bytes  # what the student's token goes on with after that piece


class _SideBySide:
    """One answer in both tokenizers' pieces. `places` are the student's tokens; None: nothing meets there."""

    def __init__(self, teacher: Sequence[Piece], student: Sequence[Piece]) -> None:
        self.taught, learnt = _body(teacher), _body(student)
        stops = [0, *accumulate(map(len, learnt))]
        skipped, cut, self.lead = _blanks(b"".join(self.taught), b"".join(learnt), stops)
        if self.taught:
            self.taught[0] = self.lead + self.taught[0]
        self.text, own = b"".join(self.taught), skipped + b"".join(learnt)[cut:]
        self.starts = [0, *accumulate(map(len, self.taught))]
        same = common(self.text, own)
        # A template may write a blank before its end token, or none of those that the answer ends with.
        last, its_last = len(own.rstrip()), len(self.text.rstrip())
        back = common(own[same:last][::-1], self.text[same:its_last][::-1])
        shift = len(skipped) - cut
        self.places: list[_Place | None] = []
        for token, (start, stop) in enumerate(pairwise(stops)):
            own_start, own_stop = start + shift, stop + shift
            if cut <= start < stop and own_stop <= same:
                self.places.append(self._place(token, own_start, own_stop))
            elif cut <= start < stop and last - back <= own_start < own_stop <= last:
                further = its_last - last
                self.places.append(self._place(token, own_start + further, own_stop + further))
            else:
                self.places.append(None)
        if len(student) > len(learnt):
            ends = back or max(last, its_last) <= same
            both = ends and len(teacher) > len(self.taught)
            self.places.append(self._end(len(learnt), teacher) if both else None)
            self.places += [None] * (len(student) - len(self.places))

    def _end(self, token: int, teacher: Sequence[Piece]) -> "_Place":
        piece = len(self.taught)
        return _Place(token, piece, b"", teacher[piece], b"")

    def led(self, options: Sequence[Options]) -> Sequence[Options]:
        """The teacher's options, behind the student's blank."""
        if not (self.lead and options):
            return options
        first = [(self.lead + o if isinstance(o, bytes) else o, p) for o, p in options[0]]
        return [first, *options[1:]]

    def _place(self, token: int, start: int, stop: int) -> _Place:
        piece = bisect_right(self.starts, start) - 1
        end = self.starts[piece + 1]
        text = self.text
        return _Place(
            token, piece, text[self.starts[piece] : start], text[start:end], text[end:stop]
        )


def _blanks(taught: bytes, learnt: bytes, stops: Sequence[int]) -> tuple[bytes, int, bytes]:
    """How two texts meet that begin in other blanks, as templates and SentencePiece write and leave them out.

    The blanks that the teacher alone writes; how many bytes of the student's, whose tokens end at `stops`, have
    no teacher; and what is put before all that the teacher says of its first token, since the student's token
    that begins in its own blanks goes on into the text.
    """
    theirs, ours = (text[: len(text) - len(text.lstrip())] for text in (taught, learnt))
    if theirs.endswith(ours):
        return theirs[: len(theirs) - len(ours)], 0, b""
    if not ours.endswith(theirs):
        return theirs, len(ours), b""
    more = len(ours) - len(theirs)
    # SentencePiece writes a blank before the first word that the text does not have: never left to chance.
    cut = 0 if ours == BLANK else max(stop for stop in stops if stop <= more)
    return b"", cut, ours[cut:more]


def _body(pieces: Sequence[Piece]) -> list[bytes]:
    """The pieces of text before the end token, control tokens within it by their names."""
    body: list[bytes] = []
    for piece in pieces[:-1] if pieces and isinstance(pieces[-1], str) else pieces:
        text = _text(piece)
        if text is None:
            break
        body.append(text)
    return body


def _text(piece: Piece) -> bytes | None:
    """The text of a piece or of a control token's name; None for a number or byte without a text."""
    if isinstance(piece, bytes):
        return piece
    return piece.encode() if piece and not is_byte(piece) else None


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many bytes or tokens both begin with."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return sum(1 for _ in same)


def _continuing(options: Options, prefix: bytes) -> tuple[list[tuple[Piece, float]], float]:
    """The options that begin with `prefix`, without it, and by what their probabilities are multiplied."""
    if not prefix:
        return list(options), 1.0
    told: list[tuple[Piece, float]] = [
        (piece[len(prefix) :], probability)
        for piece, probability in options
        if isinstance(piece, bytes) and piece.startswith(prefix)
    ]
    kept = max(0.0, 1.0 - sum(probability for _, probability in options))
    total = sum(probability for _, probability in told)
    return (told, (1.0 - kept) / total) if total > kept else ([], 1.0)


def _chain(answer: _SideBySide, place: _Place, options: Sequence[Options]) -> float:
    """The probability that the teacher goes on as the student's token does after the teacher's piece."""
    left, piece, probability = place.longer, place.piece + 1, 1.0
    while left:
        if piece >= len(options):
            return 0.0
        whole = answer.taught[piece]
        if len(whole) <= len(left):
            probability *= sum(p for option, p in options[piece] if option == whole)
        else:
            probability *= sum(
                p
                for option, p in options[piece]
                if isinstance(option, bytes) and option.startswith(left)
            )
        left, piece = left[len(whole) :], piece + 1
    return probability
