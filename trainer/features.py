"""Teachers' hidden states at the places of a training, for the signal `feature`.

    source = FeatureSource(data, examples, chat, teachers, layers=[-1], student_depth=4, block=16)
    for states in source.states_of(rows): ...  # by teacher: which trained tokens, their states

A teacher reads the sample as it was asked, through its own template and tokenizer; its states count at the
trained tokens that begin where one of its own tokens does. Whoever has the teacher hands over a function.
States are made for a block of batches at once, teacher by teacher, so that teachers that do not fit into
memory together change places seldom; blocks lie at fixed positions, so that a resumed training meets the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger.records import vocabulary_key
from trainer.data import TrainingData
from trainer.errors import NoSuchLayer
from trainer.signals.alignment import common, meetings, shared
from trainer.signals.hard import ChatFormat, Example, TemplateError
from trainer.signals.spelling import Spelling, UnknownSpelling

if TYPE_CHECKING:
    from torch import Tensor

TOKENS_AT_ONCE = 4096  # that a teacher reads together, padding included
NOBODY = (
    "student.signal holds `feature`, and no teacher gives its hidden states: those run in this process "
    "(`local`); take one, or train by `signal: [hard, logit]`."
)
BLOCK_BATCHES = 32  # of training, for teachers that take turns


@dataclass(frozen=True, slots=True)
class LayerPair:
    """Which of each model's hidden states are compared: 1 is what its first layer gives."""

    student: int
    teacher: int


@dataclass(frozen=True, slots=True)
class FeatureTeacher:
    """A teacher with its states at hand.

    `states` takes token ids (B, T), a mask (B, T) and layers, counted from 1, and gives the layers' states
    (B, T, width). `depth` is how many layers there are, `context` how many tokens it reads at most.
    """

    tokenizer: Any
    system: str | None
    context: int | None
    depth: int
    width: int
    states: "Callable[[Tensor, Tensor, Sequence[int]], list[Tensor]]"


@dataclass(frozen=True, slots=True)
class FeatureTeachers:
    """The teachers that give states; `together`: all of them fit into memory beside the student."""

    by_name: Mapping[str, FeatureTeacher]
    together: bool


@dataclass(frozen=True, slots=True)
class States:
    """What one teacher says of a batch: at n of its trained tokens, the states of each pair of layers."""

    teacher: int  # in the order of the source's `names`
    tokens_n: "Tensor"  # numbers of trained tokens of the batch
    by_pair: "list[Tensor]"  # (n, width) each


@dataclass(frozen=True, slots=True)
class _Met:
    """A sample as its teacher reads it, and where both begin a token together."""

    teacher: int
    ids: list[int]
    tokens: list[int]  # of the student's trained ones
    places: list[int]  # of the teacher's states, one for each


class FeatureSource:
    """The states of a training's samples, in the order of its batches."""

    def __init__(
        self,
        data: TrainingData,
        examples: Mapping[str, Mapping[str, Example]],
        chat: ChatFormat,
        teachers: FeatureTeachers,
        layers: Sequence[int | list[int]],
        student_depth: int,
        block: int,
    ) -> None:
        """`examples` are the mix's, by teacher and sample; `block` positions' states are made at once. Raises
        NoSuchLayer.
        """
        self.data = data
        self.names = sorted(teachers.by_name.keys() & examples.keys())
        self.teachers = [teachers.by_name[name] for name in self.names]
        self.pairs: list[list[LayerPair]] = [
            layer_pairs(layers, student_depth, teacher.depth, name)
            for name, teacher in zip(self.names, self.teachers, strict=True)
        ]
        self.block = block
        self.reasons: dict[str, str] = {}  # why a teacher gives no states
        self._lengths = (data.offsets[1:] - data.offsets[:-1] - data.starts).tolist()
        self._met: dict[int, _Met] = {}
        self._cursor = 0
        self._made: tuple[int, dict[int, list[Tensor]]] = (-1, {})  # of a block, by sample
        rows = {key: row for row, key in enumerate(data.keys)}
        for number, name in enumerate(self.names):
            self._meet(number, {rows[key]: each for key, each in examples[name].items()}, chat)

    @property
    def covered(self) -> int:
        """How many trained tokens of the distinct samples have states."""
        return sum(len(met.tokens) for met in self._met.values())

    def begin(self, position: int) -> None:
        """Says at which position of the order the next batch begins."""
        self._cursor = position

    def states_of(self, rows: Sequence[int]) -> list[States]:
        """What each teacher in the next batch says of its trained tokens."""
        import torch

        number = self._cursor // self.block
        if self._made[0] != number:
            start = number * self.block
            block = self.data.order[start : start + self.block].tolist()
            self._made = (number, self._make(sorted(set(block))))
        self._cursor += len(rows)
        # Several processes share the order's batches among them.
        if missing := [row for row in rows if row in self._met and row not in self._made[1]]:
            self._made[1].update(self._make(missing))
        tokens: dict[int, list[int]] = {}
        states: dict[int, list[list[Tensor]]] = {}
        before = 0
        for row in rows:
            if row in self._met:
                met = self._met[row]
                tokens.setdefault(met.teacher, []).extend(before + token for token in met.tokens)
                states.setdefault(met.teacher, []).append(self._made[1][row])
            before += self._lengths[row]
        return [
            States(
                teacher,
                torch.tensor(tokens[teacher]),
                [torch.cat(layer) for layer in zip(*states[teacher], strict=True)],
            )
            for teacher in sorted(tokens)
        ]

    def _meet(self, number: int, examples: Mapping[int, Example], chat: ChatFormat) -> None:
        teacher = self.teachers[number]
        try:
            its = ChatFormat(teacher.tokenizer, chat.day)
            asked = [example.behind(teacher.system) for example in examples.values()]
            taught = dict(zip(examples, its.encode(asked), strict=True))
            together = self._matcher(chat.tokenizer, teacher.tokenizer)
        except (TemplateError, UnknownSpelling) as error:
            self.reasons[self.names[number]] = str(error)
            return
        for row, encoded in taught.items():
            ids = encoded.ids[: teacher.context]
            pairs = [
                (own, encoded.start + theirs - 1)
                for own, theirs in together(self._answer(row), encoded.ids[encoded.start :])
                if encoded.start + theirs - 1 < len(ids)
            ]
            if pairs:
                self._met[row] = _Met(number, ids, *map(list, zip(*pairs, strict=True)))

    def _matcher(
        self, student: Any, teacher: Any
    ) -> Callable[[list[int], list[int]], list[tuple[int, int]]]:
        """Which trained tokens of the student's begin where which of the teacher's do."""
        if vocabulary_key(student.get_vocab()) == vocabulary_key(teacher.get_vocab()):
            return _same_until_they_part
        own, its = Spelling(student), Spelling(teacher)
        return lambda learnt, taught: meetings(its.spell(taught), own.spell(learnt))

    def _answer(self, row: int) -> list[int]:
        start, stop = self.data.offsets[row], self.data.offsets[row + 1]
        found: list[int] = self.data.ids[start + self.data.starts[row] : stop].tolist()
        return found

    def _make(self, rows: Sequence[int]) -> "dict[int, list[Tensor]]":
        """By sample, the states of each pair of layers at its places."""
        made = {}
        for number, teacher in enumerate(self.teachers):
            own = [row for row in rows if row in self._met and self._met[row].teacher == number]
            layers = [pair.teacher for pair in self.pairs[number]]
            for batch in self._batches(own):
                found = teacher.states(*_padded([self._met[row].ids for row in batch]), layers)
                for i, row in enumerate(batch):
                    places = self._met[row].places
                    made[row] = [layer_B_T_E[i, places].clone().cpu() for layer_B_T_E in found]
        return made

    def _batches(self, rows: Sequence[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        for row in sorted(rows, key=lambda row: (len(self._met[row].ids), row)):
            if batch and (len(batch) + 1) * len(self._met[row].ids) > TOKENS_AT_ONCE:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch


def _same_until_they_part(learnt: list[int], taught: list[int]) -> list[tuple[int, int]]:
    """Of equal tokenizers: the tokens that both share, and the first that differs, whose state is still one."""
    pairs = shared(learnt, taught)
    front = common(learnt, taught)
    differs = front < min(len(learnt), len(taught)) and (
        not pairs[front:] or pairs[front][0] > front
    )
    return [*pairs[:front], *([(front, front)] if differs else []), *pairs[front:]]


def _padded(rows: Sequence[Sequence[int]]) -> "tuple[Tensor, Tensor]":
    import torch

    width = max(map(len, rows))
    ids_B_T = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    mask_B_T = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids_B_T, mask_B_T


def layer_pairs(
    layers: Sequence[int | list[int]], student_depth: int, teacher_depth: int, teacher: str
) -> list[LayerPair]:
    """The pairs that the recipe names, counted from 1. Raises NoSuchLayer."""
    pairs = [pair if isinstance(pair, list) else [pair, pair] for pair in layers]
    return [
        LayerPair(
            _layer(own, student_depth, "the student"),
            _layer(its, teacher_depth, f"teacher `{teacher}`"),
        )
        for own, its in pairs
    ]


def _layer(number: int, depth: int, whose: str) -> int:
    layer = number if number > 0 else depth + 1 + number
    if not 1 <= layer <= depth:
        raise NoSuchLayer(
            f"student.feature.layers names layer {number}, and {whose} has {depth} layers: take 1 to "
            f"{depth}, or -1 to -{depth} from the end, or a pair [student, teacher]."
        )
    return layer
