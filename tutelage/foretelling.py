"""Where the distributions come from that `capture` keeps: a teacher of any kind, over the student's tokens.

    source = source_of(teacher, examples, student, head, ledger)
    isinstance(source, str)                        # why there is none
    source.foretell(keys)                          # of each sample ids (S, K) and probabilities (S, K)

- A teacher in this process or behind vLLM is given its answer again and foretells every token of it:
  as it is where its vocabulary is the student's, else aligned by bytes (`trainer.signals.alignment`).
- Of any other teacher, what came with the answers counts (`generate: top_logprobs`), by its bytes as well.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ledger.records import RecordsHead, vocabulary_key
from ledger.store import Ledger
from router.teachers.errors import CallError
from router.teachers.protocol import Teacher
from router.teachers.waiting import result_of
from trainer.signals.alignment import Alignment, Foretold, shared
from trainer.signals.hard import ChatFormat, Encoded, Example, TemplateError
from trainer.signals.spelling import Piece, Spelling, UnknownSpelling

if TYPE_CHECKING:
    import numpy as np

    Found = list[tuple[np.ndarray, np.ndarray]]

READ_AT_ONCE = 128  # answers whose log-probabilities are in memory together
ROUNDED = 1.05  # what logarithms to three digits may come to in all
TOLD_PER_KEPT = 4  # tokens that an aligned teacher is asked for, for each that is kept


class Source(Protocol):
    """A teacher's distributions over its samples. `how` says whence they come."""

    how: str

    def foretell(self, keys: Sequence[str]) -> "Found":
        """Of each sample's S trained tokens ids (S, K) int64 and probabilities (S, K) float32; 0 where there
        are none.
        """
        ...


@runtime_checkable
class Foreteller(Protocol):
    """A teacher that foretells the tokens of a text that it is given."""

    system: str | None
    remote: bool

    def tokenizer(self) -> Any: ...

    async def top_k(
        self, rows: Sequence[tuple[Sequence[int], int]], k: int, vocabulary: int, temperature: float
    ) -> "Found": ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Learner:
    """What the student is: its chat format, and what its records are over."""

    chat: ChatFormat
    head: RecordsHead


def source_of(
    teacher: Teacher, examples: Mapping[str, Example], learner: Learner, ledger: Ledger
) -> Source | str:
    """Where a teacher's distributions over its samples come from, or why there are none."""
    if isinstance(teacher, Foreteller):
        if teacher.remote and learner.head.temperature != 1.0:
            return (
                "a server's distributions are those of temperature 1, and student.logit.temperature is "
                f"{learner.head.temperature:g}"
            )
        try:
            return _asked_again(teacher, examples, learner)
        except (CallError, TemplateError, UnknownSpelling) as error:
            return str(error)
    answers = _Answers(ledger)
    if not any(answers.of(keys) for keys in _chunks(list(examples))):
        return f"`{teacher.kind}` teachers give them with their answers alone: set `generate: top_logprobs`"
    if learner.head.temperature != 1.0:
        return "what came with its answers is of temperature 1"
    return _AsAnswered(examples, learner, answers)


def refuse_tight_server(teacher: Foreteller, head: RecordsHead) -> None:
    """Raises CallError where a server answers, and tells fewer tokens a place than it will be asked for."""
    try:
        vocabulary = teacher.tokenizer().get_vocab()
        k = _asked_for(head, len(vocabulary), same=_is_same(teacher, head))
        result_of(_asking(teacher, [([0, 0], 1)], k, len(vocabulary), 1.0))
    except CallError as error:
        if error.error_class == "no_logprobs":
            raise


def _asked_for(head: RecordsHead, vocabulary: int, *, same: bool) -> int:
    return head.format.k if same else min(TOLD_PER_KEPT * head.format.k, vocabulary)


def _is_same(teacher: Foreteller, head: RecordsHead) -> bool:
    return vocabulary_key(teacher.tokenizer().get_vocab()) == head.vocabulary_key


def _asked_again(
    teacher: Foreteller, examples: Mapping[str, Example], learner: Learner
) -> "_SameTokens | _OtherTokens":
    same = _is_same(teacher, learner.head)
    return (_SameTokens if same else _OtherTokens)(teacher, examples, learner)


class _SameTokens:
    """A teacher whose vocabulary is the student's."""

    how = "its own tokens"

    def __init__(
        self, teacher: Foreteller, examples: Mapping[str, Example], learner: Learner
    ) -> None:
        self.teacher, self.head = teacher, learner.head
        self.learnt = _encoded(learner.chat, examples)
        self.taught = _encoded(ChatFormat(teacher.tokenizer()), examples, teacher.system)

    def foretell(self, keys: Sequence[str]) -> "Found":
        rows, meet = [], []
        for key in keys:
            taught = self.taught[key]
            pairs = shared(_answer(self.learnt[key]), _answer(taught))
            meet.append(pairs)
            stop = taught.start + (pairs[-1][1] + 1 if pairs else 0)
            rows.append((taught.ids[:stop], taught.start))
        vocabulary = self.head.format.vocabulary
        k = _asked_for(self.head, vocabulary, same=True)
        told = result_of(_asking(self.teacher, rows, k, vocabulary, self.head.temperature))
        return [
            (_placed(ids, pairs, self.learnt[key]), _placed(probabilities, pairs, self.learnt[key]))
            for key, pairs, (ids, probabilities) in zip(keys, meet, told, strict=True)
        ]


class _OtherTokens:
    """A teacher with a tokenizer of its own."""

    how = "aligned from its tokenizer"

    def __init__(
        self, teacher: Foreteller, examples: Mapping[str, Example], learner: Learner
    ) -> None:
        self.teacher, self.head = teacher, learner.head
        chat = ChatFormat(teacher.tokenizer())
        self.spelling = Spelling(teacher.tokenizer())
        self.learnt = _encoded(learner.chat, examples)
        self.taught = _encoded(chat, examples, teacher.system)
        ends = [self.spelling.pieces[end] for end in chat.end_ids]
        self.alignment = _alignment(learner, [end for end in ends if isinstance(end, str)])
        for key, taught in self.taught.items():
            pieces = self.spelling.spell(_answer(taught))
            self.alignment.learn(pieces, _answer(self.learnt[key]))

    def foretell(self, keys: Sequence[str]) -> "Found":
        pieces = self.spelling.pieces
        rows = [(self.taught[key].ids, self.taught[key].start) for key in keys]
        k = _asked_for(self.head, len(pieces), same=False)
        told = result_of(_asking(self.teacher, rows, k, len(pieces), self.head.temperature))
        found = []
        for key, (ids, probabilities) in zip(keys, told, strict=True):
            options = [
                [(pieces[number], p) for number, p in zip(*row, strict=True)]
                for row in zip(ids.tolist(), probabilities.tolist(), strict=True)
            ]
            foretold = Foretold(self.spelling.spell(_answer(self.taught[key])), options)
            learnt = _answer(self.learnt[key])
            found.append(self.alignment.project(foretold, learnt, self.head.format.k))
        return found


class _AsAnswered:
    """A teacher that gave log-probabilities with its answers."""

    how = "as its answers came with"

    def __init__(
        self, examples: Mapping[str, Example], learner: Learner, answers: "_Answers"
    ) -> None:
        self.k, self.answers = learner.head.format.k, answers
        self.learnt = _encoded(learner.chat, examples)
        self.alignment = _alignment(learner, [])
        for keys in _chunks(list(examples)):
            for key, foretold in answers.of(keys).items():
                self.alignment.learn(foretold.pieces, _answer(self.learnt[key]))

    def foretell(self, keys: Sequence[str]) -> "Found":
        came, nothing = self.answers.of(keys), Foretold([], [])
        return [
            self.alignment.project(came.get(key, nothing), _answer(self.learnt[key]), self.k)
            for key in keys
        ]


class _Answers:
    """The log-probabilities that samples' answers came with, read a few at a time: one answer's take as much as
    a megabyte.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def of(self, keys: Sequence[str]) -> dict[str, Foretold]:
        """By sample; those without are left out."""
        rows = self._ledger.rows(
            "SELECT s.key, t.raw FROM sample s JOIN sample_text t ON t.sample = s.id "
            "WHERE t.raw IS NOT NULL AND s.key IN (SELECT unnest(?::VARCHAR[]))",
            [list(keys)],
        )
        found = {key: _foretold(json.loads(raw)) for key, raw in rows}
        return {key: foretold for key, foretold in found.items() if foretold.pieces}


def _chunks(keys: list[str]) -> Iterator[list[str]]:
    return (keys[start : start + READ_AT_ONCE] for start in range(0, len(keys), READ_AT_ONCE))


async def _asking(
    teacher: Foreteller,
    rows: Sequence[tuple[Sequence[int], int]],
    k: int,
    vocabulary: int,
    temperature: float,
) -> "Found":
    """One call in a loop of its own, whose connections end with it."""
    try:
        return await teacher.top_k(rows, k, vocabulary, temperature)
    finally:
        if teacher.remote:
            await teacher.close()


def _alignment(learner: Learner, teacher_ends: Sequence[str]) -> Alignment:
    return Alignment(Spelling(learner.chat.tokenizer), learner.chat.end_ids[0], teacher_ends)


def _encoded(
    chat: ChatFormat, examples: Mapping[str, Example], system: str | None = None
) -> dict[str, Encoded]:
    asked = [example.behind(system) for example in examples.values()]
    return dict(zip(examples, chat.encode(asked), strict=True))


def _answer(encoded: Encoded) -> list[int]:
    return encoded.ids[encoded.start :]


def _placed(
    rows_T_K: "np.ndarray", pairs: Sequence[tuple[int, int]], encoded: Encoded
) -> "np.ndarray":
    """The teacher's rows at the tokens that meet its own; rows of 0 for those that nothing was said of."""
    import numpy as np

    placed = np.zeros((len(_answer(encoded)), rows_T_K.shape[1]), rows_T_K.dtype)
    for own, its in pairs:
        placed[own] = rows_T_K[its]
    return placed


def _foretold(raw: Any) -> Foretold:
    """The log-probabilities of a chat completion, as OpenAI writes them."""
    try:
        content = raw["choices"][0]["logprobs"]["content"]
        pieces = [_bytes(entry) for entry in content]
        options = [
            _within_one([(_bytes(o), math.exp(o["logprob"])) for o in entry["top_logprobs"]])
            for entry in content
        ]
    except (KeyError, IndexError, TypeError, ValueError):
        return Foretold([], [])
    return Foretold(pieces, options)


def _within_one(options: "list[tuple[Piece, float]]") -> "list[tuple[Piece, float]]":
    """A server rounds logarithms, and in bfloat16 that may make more than 1 of all; nothing of what is no
    distribution at all.
    """
    total = sum(p for _, p in options)
    return [(piece, p / max(total, 1.0)) for piece, p in options] if total <= ROUNDED else []


def _bytes(entry: Mapping[str, Any]) -> Piece:
    given = entry.get("bytes")
    return bytes(given) if given is not None else str(entry["token"]).encode()
