"""Distributions over one tokenizer's tokens, as those over another's."""

import itertools

import numpy as np
import pytest

from tests.trainer.support import character_tokenizer
from tests.trainer.test_templates import tokenizer_of
from tests.trainer.tokenizers_of_three import (
    TEXTS,
    byte_tokenizer,
    merged_tokenizer,
    piece_tokenizer,
)
from trainer.signals.alignment import Alignment, Foretold, meetings, shared
from trainer.signals.hard import ChatFormat, Example
from trainer.signals.spelling import Piece, Spelling, UnknownSpelling

MAKERS = {"bytes": byte_tokenizer, "merged": merged_tokenizer, "pieces": piece_tokenizer}
PAIRS = [pair for pair in itertools.product(MAKERS, MAKERS) if pair[0] != pair[1]]
K = 24


class Side:
    """A tokenizer with its answers, and a made-up model's distributions over them."""

    def __init__(self, name: str) -> None:
        self.tokenizer = MAKERS[name]()
        self.chat = ChatFormat(self.tokenizer)
        self.spelling = Spelling(self.tokenizer)
        examples = [Example([{"role": "user", "content": "?"}], text) for text in TEXTS]
        self.answers = [e.ids[e.start :] for e in self.chat.encode(examples)]
        self.ends = {str(self.spelling.pieces[number]) for number in self.chat.end_ids}

    def distributions(self, ids: list[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and probabilities (T, 4 K): the answer's own token likeliest, and what `kept` leaves."""
        draw = np.random.default_rng(seed)
        count = len(self.spelling.pieces)
        logits = draw.normal(size=(len(ids), count)) * 2
        logits[np.arange(len(ids)), ids] = logits.max(axis=1) + 1
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        top = np.argsort(-p, axis=1, kind="stable")[:, : 4 * K]
        return top, np.take_along_axis(p, top, axis=1)

    def foretold(self, ids: list[int], seed: int) -> Foretold:
        top, p = self.distributions(ids, seed)
        pieces = self.spelling.pieces
        options = [
            [(pieces[number], float(q)) for number, q in zip(*row, strict=True)]
            for row in zip(top.tolist(), p.tolist(), strict=True)
        ]
        return Foretold(self.spelling.spell(ids), options)


@pytest.fixture(scope="module")
def sides() -> dict[str, Side]:
    return {name: Side(name) for name in MAKERS}


def aligned(teacher: Side, student: Side) -> Alignment:
    alignment = Alignment(student.spelling, student.chat.end_ids[0], teacher.ends)
    for taught, learnt in zip(teacher.answers, student.answers, strict=True):
        alignment.learn(teacher.spelling.spell(taught), learnt)
    return alignment


@pytest.mark.parametrize("name", MAKERS)
def test_pieces_of_an_answer_spell_its_text(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    for text, ids in zip(TEXTS, side.answers, strict=True):
        *body, end = side.spelling.spell(ids)
        assert end == "<|im_end|>"
        assert b"".join(piece for piece in body if isinstance(piece, bytes)).decode() == text


@pytest.mark.parametrize("name", MAKERS)
def test_between_equal_tokenizers_nothing_changes(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    alignment = aligned(side, side)
    for seed, ids in enumerate(side.answers):
        top, p = side.distributions(ids, seed)
        found, probabilities = alignment.project(side.foretold(ids, seed), ids, K)
        assert (found == top[:, :K]).all()
        assert (probabilities == p[:, :K].astype(np.float32)).all()


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_other_tokenizers_answers_are_covered(
    sides: dict[str, Side], teacher: str, student: str
) -> None:
    """No position holds more than 1 in all or names a token twice, and few have nothing."""
    taught, learnt = sides[teacher], sides[student]
    alignment = aligned(taught, learnt)
    covered = total = 0
    for seed, (asked, ids) in enumerate(zip(taught.answers, learnt.answers, strict=True)):
        found, p = alignment.project(taught.foretold(asked, seed), ids, K)
        assert p.sum(axis=1).max() <= 1 + 1e-6
        assert p.min() >= 0
        for row, q in zip(found, p, strict=True):
            named = row[q > 0]
            assert len(set(named.tolist())) == len(named)
        covered += int((p[:, 0] > 0).sum())
        total += len(ids)
        assert found[-1, 0] == learnt.chat.end_ids[0]
        assert p[-1, 0] > 0
    assert covered > 0.9 * total


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_where_boundaries_meet_the_next_token_has_the_product_of_its_parts(
    sides: dict[str, Side], teacher: str, student: str
) -> None:
    """An independent walk over both answers' bytes; other tokens may add to it, none takes away."""
    taught, learnt = sides[teacher], sides[student]
    alignment = aligned(taught, learnt)
    met = 0
    for seed, (asked, ids) in enumerate(zip(taught.answers, learnt.answers, strict=True)):
        foretold = taught.foretold(asked, seed)
        found, p = alignment.project(foretold, ids, K)
        chances = [
            dict(o)[piece] for o, piece in zip(foretold.options, foretold.pieces, strict=True)
        ]
        theirs, own = ends_of(taught, asked), ends_of(learnt, ids)
        for i in range(1, len(own)):
            if own[i - 1] in theirs and own[i] in theirs:
                first, last = theirs.index(own[i - 1]) + 1, theirs.index(own[i])
                product = float(np.prod(chances[first : last + 1]))
                chance = p[i][found[i] == ids[i]].sum() if product > p[i].min() else product
                assert chance >= product * (1 - 1e-5)
                met += 1
    assert met > 10


def ends_of(side: Side, ids: list[int]) -> list[int]:
    """Where in the text each token ends."""
    return np.cumsum([len(piece) for piece in side.spelling.spell(ids[:-1])]).tolist()


def test_a_longer_token_has_the_product_and_the_rest_of_its_part_is_tail() -> None:
    """A teacher of letters, a student of words: c·a·t is one token, and `c` alone is none of its."""
    student, teacher = merged_tokenizer(300, ("cat cat cow",)), byte_tokenizer()
    spelling, letters = Spelling(student), Spelling(teacher)
    ids = student("cat", add_special_tokens=False)["input_ids"]
    assert spelling.spell(ids) == [b"cat"]
    alignment = Alignment(spelling, 2, {"<|im_end|>"})
    pieces = letters.spell(teacher("cat", add_special_tokens=False)["input_ids"])
    for _ in range(99):
        alignment.learn(pieces, ids)
    options = [[(b"c", 0.8), (b"x", 0.1)], [(b"a", 0.5), (b"o", 0.5)], [(b"t", 0.9), (b"r", 0.05)]]
    found, p = alignment.project(Foretold(pieces, options), ids, 4)
    told = {spelling.pieces[number]: q for number, q in zip(found[0], p[0], strict=True) if q}
    assert told == {b"cat": pytest.approx(0.8 * 0.5 * 0.9), b"x": pytest.approx(0.1)}


def test_within_a_teachers_token_what_goes_on_from_its_bytes_is_taken_out_of_one() -> None:
    """A teacher of words, a student of letters; the teacher tells 0.9 in all."""
    teacher, student = merged_tokenizer(300, ("cat cat cow",)), byte_tokenizer()
    letters = Spelling(student)
    alignment = Alignment(letters, 2, {"<|im_end|>"})
    pieces = Spelling(teacher).spell(teacher("cat", add_special_tokens=False)["input_ids"])
    ids = student("cat", add_special_tokens=False)["input_ids"]
    alignment.learn(pieces, ids)
    options = [[(b"cat", 0.6), (b"car", 0.2), (b"dog", 0.1)]]
    found, p = alignment.project(Foretold(pieces, options), ids, 3)
    told = [
        {letters.pieces[number]: round(float(q), 6) for number, q in zip(*row, strict=True) if q}
        for row in zip(found, p, strict=True)
    ]
    assert told[0] == {b"c": 0.8, b"d": 0.1}
    assert told[1] == {b"a": 0.9}
    assert told[2] == {b"t": 0.675, b"r": 0.225}


def test_what_the_teacher_mostly_kept_to_itself_is_undefined() -> None:
    teacher, student = merged_tokenizer(300, ("cat cat cow",)), byte_tokenizer()
    alignment = Alignment(Spelling(student), 2, {"<|im_end|>"})
    pieces = Spelling(teacher).spell(teacher("cat", add_special_tokens=False)["input_ids"])
    ids = student("cat", add_special_tokens=False)["input_ids"]
    _, p = alignment.project(Foretold(pieces, [[(b"dog", 0.6), (b"cat", 0.1)]]), ids, 3)
    assert (p > 0).any(axis=1).tolist() == [True, False, False]


def test_texts_that_part_have_distributions_up_to_there() -> None:
    spelling = Spelling(byte_tokenizer())
    alignment = Alignment(spelling, 2, {"<|im_end|>"})
    one: list[Piece] = [b"a", b"b", b"c", "<|im_end|>"]
    other: list[Piece] = [b"a", b"b", b"d", "<|im_end|>"]
    ids = numbers(spelling, other)
    foretold = Foretold(one, [[(piece, 0.9)] for piece in one])
    _, p = alignment.project(foretold, ids, 2)
    assert (p > 0).any(axis=1).tolist() == [True, True, False, False]


def test_positions_beyond_what_was_foretold_have_none() -> None:
    spelling = Spelling(byte_tokenizer())
    alignment = Alignment(spelling, 2, {"<|im_end|>"})
    pieces: list[Piece] = [b"a", b"b", "<|im_end|>"]
    ids = numbers(spelling, pieces)
    _, p = alignment.project(Foretold(pieces, [[(b"a", 1.0)]]), ids, 2)
    assert (p > 0).any(axis=1).tolist() == [True, False, False]


def numbers(spelling: Spelling, pieces: list[Piece]) -> list[int]:
    found = [spelling.first(piece) for piece in pieces]
    return [number for number in found if number is not None]


@pytest.mark.parametrize("blank", ["teacher", "student"])
def test_a_blank_that_one_tokenizer_writes_before_the_text_is_no_difference(blank: str) -> None:
    """SentencePiece's answer begins with a blank where it follows a control token."""
    tokenizers = {
        "teacher": byte_tokenizer(),
        "student": byte_tokenizer(),
        blank: piece_tokenizer(),
    }
    spellings = {who: Spelling(tokenizer) for who, tokenizer in tokenizers.items()}
    rows = {
        who: t("weather", add_special_tokens=False)["input_ids"] for who, t in tokenizers.items()
    }
    pieces = spellings["teacher"].spell(rows["teacher"])
    assert b"".join(map(bytes, spellings[blank].spell(rows[blank]))) == b" weather"  # type: ignore[arg-type]
    alignment = Alignment(spellings["student"], 2, {"<|im_end|>"})
    alignment.learn(pieces, rows["student"])
    foretold = Foretold(pieces, [[(piece, 0.9)] for piece in pieces])
    found, p = alignment.project(foretold, rows["student"], 2)
    assert found[:, 0].tolist() == rows["student"]
    assert p[:, 0].min() >= 0.9 ** len(pieces) * (1 - 1e-6)


@pytest.mark.parametrize(
    ("teacher", "student", "known"),
    [
        (["a", "b"], ["\n", "\n", "a", "b"], [False, False, True, True, True]),
        (["the", "b"], ["\n", " the", "b"], [False, True, True, True]),
        (["a", "b"], ["a", "b", "\n"], [True, True, False, True]),
        ([" a", "b", " "], ["a", "b"], [True, True, True]),
        ([" ", "\n", "a", " "], ["\n", "a"], [True, True, True]),
        ([" ", "a"], ["\n", "a"], [False, True, True]),
        (["a", "b"], ["b"], [True, True]),
        (["a", "b"], ["the", "b"], [False, True, True]),
        (["a", "b"], ["a"], [True, False]),
    ],
)
def test_blanks_around_an_answer_that_one_template_leaves_out_part_nothing(
    teacher: list[str], student: list[str], known: list[bool]
) -> None:
    spelling, end = Spelling(merged_tokenizer()), "<|im_end|>"
    pieces: list[Piece] = [*(text.encode() for text in teacher), end]
    written: list[Piece] = [*(text.encode() for text in student), end]
    ids = [spelling.pieces.index(piece) for piece in written]
    alignment = Alignment(spelling, ids[-1], {end})
    alignment.learn(pieces, ids)
    found, p = alignment.project(Foretold(pieces, [[(piece, 0.9)] for piece in pieces]), ids, 2)
    assert (p[:, 0] > 0).tolist() == known
    assert found[known, 0].tolist() == np.array(ids)[known].tolist()


@pytest.mark.parametrize("template", ["qwen3", "qwen3_5_think", "gptoss"])
def test_answers_meet_whatever_a_template_writes_before_them(template: str) -> None:
    one, other = tokenizer_of(template), character_tokenizer()
    trained = [ChatFormat(tokenizer).trained("yes it is") for tokenizer in (one, other)]
    thinking, plain = (
        Spelling(tokenizer).spell(ids) for tokenizer, ids in zip((one, other), trained, strict=True)
    )
    assert len(meetings(thinking, plain)) == len(plain) == len("yes it is") + 1
    pairs = meetings(plain, thinking)
    assert [plain[its] for _, its in pairs] == [*plain[:-1], plain[-1]]
    assert [number for number, _ in pairs] == list(range(len(thinking) - len(plain), len(thinking)))


def test_reasoning_is_one_text_whether_its_marks_are_tokens_or_spelled() -> None:
    thinking, plain = tokenizer_of("qwen3"), character_tokenizer()
    answer = "<think>\nhm\n</think>\n\nyes"
    taught, learnt = (ChatFormat(each).trained(answer) for each in (thinking, plain))
    spelling, student = Spelling(thinking), Spelling(plain)
    pieces = spelling.spell(taught)
    assert pieces[0] == "<think>"
    alignment = Alignment(student, learnt[-1], {"<|im_end|>"})
    alignment.learn(pieces, learnt)
    found, p = alignment.project(Foretold(pieces, [[(piece, 0.9)] for piece in pieces]), learnt, 2)
    assert found[:, 0].tolist() == learnt
    assert p[:, 0].min() > 0.4  # a letter within `<think>` is as likely as the whole


def test_equal_tokens_meet_from_both_ends() -> None:
    assert shared([1, 2, 3], [1, 2, 3]) == [(0, 0), (1, 1), (2, 2)]
    assert shared([7, 8], [1, 2, 7, 8]) == [(0, 2), (1, 3)]
    assert shared([1, 5, 3], [1, 6, 6, 3]) == [(0, 0), (2, 3)]
    assert shared([1, 1], [1, 1, 1]) == [(0, 0), (1, 1)]
    assert shared([], [1]) == []


@pytest.mark.parametrize("name", MAKERS)
def test_runs_of_blanks_that_are_added_tokens_are_text(name: str) -> None:
    tokenizer = MAKERS[name]()
    blanks = "\u2581\u2581" if name == "pieces" else "  "
    tokenizer.add_tokens([blanks])
    spelling = Spelling(tokenizer)
    assert spelling.pieces[tokenizer.convert_tokens_to_ids(blanks)] == b"  "
    ids = tokenizer("a  b", add_special_tokens=False)["input_ids"]
    assert all(isinstance(piece, bytes) for piece in spelling.spell(ids))


def test_wordpiece_is_refused() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    model = models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), chat_template="")
    with pytest.raises(UnknownSpelling, match="WordPiece"):
        Spelling(tokenizer)
