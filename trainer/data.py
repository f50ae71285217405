"""A mix as the trainer needs it: each distinct sample's ids, and the order to train them in."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.keys import content_key
from ledger.mixes import SAMPLES, training_order
from ledger.records import Records, RecordsMismatch
from trainer.config import TaskWeights
from trainer.errors import NothingToTrain
from trainer.signals.hard import ChatFormat, Example

if TYPE_CHECKING:
    import numpy as np

ENCODE_AT_ONCE = 2048
MOST_SKIPPED = 0.1  # beyond this part of the positions, the mix's shares would be a fiction


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Ragged ids of N distinct samples, and P positions of the training that point into them."""

    keys: list[str]
    tasks: list[str]
    teachers: list[str]
    licences: list[str]
    weights: "np.ndarray"  # (N,) float32: of a sample's loss
    ids: "np.ndarray"  # (all tokens,) int32
    offsets: "np.ndarray"  # (N + 1,) int64
    starts: "np.ndarray"  # (N,) int32: where in a sample the trained tokens begin
    order: "np.ndarray"  # (P,) int32
    held: "np.ndarray"  # (H,) int32: samples that are measured and not trained
    skipped: dict[str, int]  # tokens of the samples that are too long, by key

    @classmethod
    def of_tokens(
        cls, ids: "np.ndarray", offsets: "np.ndarray", starts: "np.ndarray"
    ) -> "TrainingData":
        """Samples that are tokens already, of one task and one teacher, each trained once in its order."""
        import numpy as np

        count = len(starts)
        return cls(
            keys=[str(number) for number in range(count)],
            tasks=["task"] * count,
            teachers=["teacher"] * count,
            licences=["none"] * count,
            weights=np.ones(count, np.float32),
            ids=ids.astype(np.int32),
            offsets=offsets,
            starts=starts.astype(np.int32),
            order=np.arange(count, dtype=np.int32),
            held=np.zeros(0, np.int32),
            skipped={},
        )

    @property
    def groups(self) -> list[tuple[str, str]]:
        """The pairs of task and teacher that there are, in order."""
        return sorted(set(zip(self.tasks, self.teachers, strict=True)))

    @property
    def trained(self) -> int:
        """Trained tokens of the distinct samples."""
        return len(self.ids) - int(self.starts.sum())

    def until(self, position: int) -> "TrainingData":
        """The same, trained only so far."""
        return replace(self, order=self.order[:position])

    def times(self) -> dict[str, int]:
        """How often each sample is trained."""
        return {self.keys[row]: n for row, n in sorted(Counter(self.order.tolist()).items())}


def read_data(
    folder: Path, epochs: int, chat: ChatFormat, max_length: int, hold_out: float = 0.0
) -> TrainingData:
    """Reads and encodes a mix. Samples of more than `max_length` tokens are left out, and those of a part
    `hold_out` of the prompts are held out.

    Raises NothingToTrain where more than a tenth of the training would be too long, or where nothing is held
    out though it should be.
    """
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(folder / SAMPLES)
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
    held = np.array([_part_of(key) < hold_out for key in table["prompt_key"].to_pylist()])
    held &= lengths <= max_length
    if hold_out and not (held.any() and (~held[kept]).any()):
        raise NothingToTrain(
            f"`student.hold_out: {hold_out:g}` of {len(keys)} samples leaves none to measure, or none to "
            "train: give another part, or leave it out."
        )
    return TrainingData(
        keys=keys,
        tasks=table["task"].to_pylist(),
        teachers=table["teacher"].to_pylist(),
        licences=table["licence"].to_pylist(),
        weights=np.array(table["weight"], np.float32),
        ids=np.fromiter((i for e in encoded for i in e.ids), np.int32, int(lengths.sum())),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        starts=np.array([e.start for e in encoded], np.int32),
        order=kept[~held[kept]],
        held=np.flatnonzero(held).astype(np.int32),
        skipped={keys[row]: int(lengths[row]) for row in np.flatnonzero(lengths > max_length)},
    )


def examples_by_teacher(folder: Path) -> dict[str, dict[str, Example]]:
    """A mix's distinct samples, by teacher and key."""
    import pyarrow.parquet as pq

    columns = ["sample", "teacher", "prompt", "completion", "tools"]
    found: dict[str, dict[str, Example]] = {}
    for row in pq.read_table(folder / SAMPLES, columns=columns).to_pylist():
        found.setdefault(row["teacher"], {})[row["sample"]] = _example(row)
    return found


class Collator:
    """Pads samples on the right. Attention is causal: no token sees a pad, and no mask is due.

    A token that has a record is trained towards it by `alpha`, and by the rest of 1 towards its label, both
    times what the mix says of its sample and the recipe of its task. Where `packs`, short samples lie behind
    one another in a row.
    """

    def __init__(
        self,
        data: TrainingData,
        pad_id: int,
        *,
        with_mask: bool = False,
        packs: bool = False,
        records: Records | None = None,
        alpha: float = 0.0,
        weights: Mapping[str, TaskWeights] | None = None,
    ) -> None:
        import numpy as np

        self.data, self.pad_id, self.with_mask, self.packs = data, pad_id, with_mask, packs
        self.records, self.alpha = records, alpha
        numbers = {group: i for i, group in enumerate(data.groups)}
        pairs = zip(data.tasks, data.teachers, strict=True)
        self._groups = np.array([numbers[pair] for pair in pairs], np.int64)
        own = [(weights or {}).get(task, TaskWeights()) for task in data.tasks]
        by_task = np.array([(w.hard, w.logit, w.feature) for w in own], np.float32)
        self._weights = by_task * data.weights[:, None]

    def __call__(self, rows: Sequence[int]) -> dict[str, Any]:
        """`input_ids` (B, T); of the N trained tokens `places`, where in the flattened batch the states are
        that foretell them, the fields of `Targets`, and the group and the weight of `feature`; their number is
        `trained`, and `rows` names the samples. `position_ids` (B, T) where samples share rows.
        """
        import numpy as np
        import torch

        data = self.data
        spans = [(data.offsets[row], data.offsets[row + 1]) for row in rows]
        lengths = [int(stop - start) for start, stop in spans]
        lines, width = self._lines(lengths)
        ids = np.full((max(line for line, _ in lines) + 1, width), self.pad_id, np.int64)
        mask, positions = np.zeros_like(ids), np.zeros_like(ids)
        places, labels = [], []
        for row, (start, stop), (line, at), n in zip(rows, spans, lines, lengths, strict=True):
            ids[line, at : at + n] = data.ids[start:stop]
            mask[line, at : at + n] = 1
            positions[line, at : at + n] = np.arange(n)
            answer = data.starts[row]
            places.append(np.arange(answer, n) + (line * width + at - 1))
            labels.append(data.ids[start + answer : stop])
        trained = [len(each) for each in labels]
        batch = {
            "input_ids": torch.from_numpy(ids),
            "places": torch.from_numpy(np.concatenate(places)),
            "labels_N": torch.from_numpy(np.concatenate(labels).astype(np.int64)),
            **self._records_of(rows, trained),
            "groups_N": torch.from_numpy(np.repeat(self._groups[list(rows)], trained)),
            "feature_weights_N": torch.from_numpy(np.repeat(self._weights[list(rows), 2], trained)),
            "trained": sum(trained),
            "rows": list(rows),
        }
        if len(ids) < len(rows):
            batch["position_ids"] = torch.from_numpy(positions)
        return {**batch, "attention_mask": torch.from_numpy(mask)} if self.with_mask else batch

    def _lines(self, lengths: Sequence[int]) -> tuple[list[tuple[int, int]], int]:
        """For each sample its line and where in it the sample begins; and how long the lines are.

        Longest first, each into the first line with room (first-fit decreasing).
        """
        width = max(lengths)
        if not self.packs:
            return [(line, 0) for line in range(len(lengths))], width
        filled: list[int] = []
        lines = [(0, 0)] * len(lengths)
        for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            room = (n for n, used in enumerate(filled) if used + lengths[i] <= width)
            line = next(room, len(filled))
            if line == len(filled):
                filled.append(0)
            lines[i] = (line, filled[line])
            filled[line] += lengths[i]
        return lines, width

    def _records_of(self, rows: Sequence[int], lengths: Sequence[int]) -> dict[str, Any]:
        """The records of the rows' trained tokens, and the weights; K is 0 where none of them has one."""
        import numpy as np
        import torch

        trained = sum(lengths)
        known = [self.records is not None and self.data.keys[row] in self.records for row in rows]
        ids_N_K, p_N_K = np.zeros((trained, 0), np.int64), np.zeros((trained, 0), np.float32)
        if self.records is not None and any(known):
            named = [
                self.data.keys[row] for row, is_known in zip(rows, known, strict=True) if is_known
            ]
            has_one = np.repeat(known, lengths)
            k = self.records.head.format.k
            ids_N_K, p_N_K = np.zeros((trained, k), np.int64), np.zeros((trained, k), np.float32)
            ids_N_K[has_one], p_N_K[has_one] = self.records.decode(named)
        kd_N = self.alpha * (p_N_K.sum(axis=1) > 0).astype(np.float32)
        hard_N, logit_N = np.repeat(self._weights[list(rows), :2], lengths, axis=0).T
        return {
            "ce_weights_N": torch.from_numpy((1 - kd_N) * hard_N),
            "kd_weights_N": torch.from_numpy(kd_N * logit_N),
            "ids_N_K": torch.from_numpy(ids_N_K),
            "probabilities_N_K": torch.from_numpy(p_N_K),
        }


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


def require_aligned(data: TrainingData, records: Records) -> int:
    """How many of the samples have records. Raises RecordsMismatch where those are not one a trained token."""
    found = 0
    for row, key in enumerate(data.keys):
        if key not in records:
            continue
        found += 1
        trained = int(data.offsets[row + 1] - data.offsets[row]) - int(data.starts[row])
        if records.tokens(key) != trained:
            raise RecordsMismatch(
                f"sample {key} has {records.tokens(key)} records for {trained} trained tokens: they were "
                "captured through another tokenizer or chat template; delete the file of records, and "
                "`tutelage run` captures them again."
            )
    return found


def _part_of(prompt_key: str) -> float:
    """Where a prompt lies between 0 and 1, evenly spread: all its samples are held out, or none."""
    return int(content_key(prompt_key)[:12], 16) / 16**12


def _example(row: dict[str, Any]) -> Example:
    return Example(row["prompt"], row["completion"][0]["content"], row["tools"])


def _check_enough(positions: int, kept: int, longest: int, max_length: int) -> None:
    if positions - kept > MOST_SKIPPED * positions:
        raise NothingToTrain(
            f"{positions - kept} of {positions} positions of the mix are longer than the student's "
            f"{max_length} tokens (the longest has {longest}): raise `student.max_length`, or let "
            "the mixer leave them out (`mix.drop: [too_long]` with `mix.max_tokens`)."
        )
