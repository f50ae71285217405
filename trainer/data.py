"""A mix as the trainer needs it: each distinct sample's ids, and the order to train them in."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.mixes import SAMPLES, training_order
from trainer.errors import NothingToTrain
from trainer.signals.hard import ChatFormat, Example

if TYPE_CHECKING:
    import numpy as np

IGNORED = -100  # the label of a token that is not trained
ENCODE_AT_ONCE = 2048
MOST_SKIPPED = 0.1  # beyond this part of the positions, the mix's shares would be a fiction


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Ragged ids of N distinct samples, and P positions of the training that point into them."""

    keys: list[str]
    teachers: list[str]
    licences: list[str]
    ids: "np.ndarray"  # (all tokens,) int32
    offsets: "np.ndarray"  # (N + 1,) int64
    starts: "np.ndarray"  # (N,) int32: where in a sample the trained tokens begin
    order: "np.ndarray"  # (P,) int32
    skipped: tuple[str, ...]  # keys of samples that are too long

    def times(self) -> dict[str, int]:
        """How often each sample is trained."""
        return {self.keys[row]: n for row, n in sorted(Counter(self.order.tolist()).items())}


def read_data(folder: Path, epochs: int, chat: ChatFormat, max_length: int) -> TrainingData:
    """Reads and encodes a mix. Samples of more than `max_length` tokens are left out.

    Raises NothingToTrain where that would be more than a tenth of the training.
    """
    import numpy as np
    import pyarrow.parquet as pq

    columns = ["sample", "teacher", "licence", "prompt", "completion", "tools"]
    table = pq.read_table(folder / SAMPLES, columns=columns)
    if table.num_rows == 0:
        raise NothingToTrain("the mix holds no sample: check `mix.total`, its shares and filters.")
    encoded = []
    for batch in table.to_batches(max_chunksize=ENCODE_AT_ONCE):
        encoded += chat.encode([_example(row) for row in batch.to_pylist()])
    lengths = np.array([len(e.ids) for e in encoded], np.int64)
    order = training_order(folder, epochs)
    kept = order[lengths[order] <= max_length]
    _check_enough(len(order), len(kept), int(lengths.max()), max_length)
    keys = table["sample"].to_pylist()
    return TrainingData(
        keys=keys,
        teachers=table["teacher"].to_pylist(),
        licences=table["licence"].to_pylist(),
        ids=np.fromiter((i for e in encoded for i in e.ids), np.int32, int(lengths.sum())),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        starts=np.array([e.start for e in encoded], np.int32),
        order=kept,
        skipped=tuple(keys[row] for row in np.flatnonzero(lengths > max_length)),
    )


class Collator:
    """Pads samples on the right. Attention is causal: no token sees a pad, and no mask is due."""

    def __init__(self, data: TrainingData, pad_id: int, *, with_mask: bool) -> None:
        self.data, self.pad_id, self.with_mask = data, pad_id, with_mask

    def __call__(self, rows: Sequence[int]) -> dict[str, Any]:
        """`input_ids`, `labels` (B, T); `trained` tokens; `keep`: last positions they need."""
        import numpy as np
        import torch

        data = self.data
        spans = [(data.offsets[row], data.offsets[row + 1]) for row in rows]
        width = max(stop - start for start, stop in spans)
        ids = np.full((len(rows), width), self.pad_id, np.int64)
        labels = np.full((len(rows), width), IGNORED, np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for i, (row, (start, stop)) in enumerate(zip(rows, spans, strict=True)):
            ids[i, : stop - start] = data.ids[start:stop]
            mask[i, : stop - start] = 1
            answer = data.starts[row]
            labels[i, answer : stop - start] = data.ids[start + answer : stop]
        batch = {
            "input_ids": torch.from_numpy(ids),
            "labels": torch.from_numpy(labels),
            "trained": int((labels[:, 1:] != IGNORED).sum()),
            "keep": int(width - min(data.starts[row] for row in rows)) + 1,
        }
        return {**batch, "attention_mask": torch.from_numpy(mask)} if self.with_mask else batch


class Rows:
    """A data set whose items are their own numbers; the collator holds what they stand for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> int:
        return row


class CurriculumSampler:
    """The order of the training: position by position, as the mix has it. Never shuffled again."""

    def __init__(self, order: "np.ndarray") -> None:
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Any:
        return iter(self.order.tolist())


def _example(row: dict[str, Any]) -> Example:
    return Example(row["prompt"], row["completion"][0]["content"], row["tools"])


def _check_enough(positions: int, kept: int, longest: int, max_length: int) -> None:
    if positions - kept > MOST_SKIPPED * positions:
        raise NothingToTrain(
            f"{positions - kept} of {positions} positions of the mix are longer than the student's "
            f"{max_length} tokens (the longest has {longest}): raise `student.max_length`, or let "
            "the mixer leave them out (`mix.drop: [too_long]` with `mix.max_tokens`)."
        )
