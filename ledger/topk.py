"""Top-k records: what is kept of a teacher's distributions over the next token, in 3 K + 2 bytes a position.

For each position of an answer a record holds the ids of the K likeliest tokens, the square root of each
one's probability against the highest (one byte: most are small, and the root spends its steps there), and
the highest itself in half precision. What they leave of 1 is the tail, which is never shared out among
them: losses count it as one more outcome. A distribution of fewer than K tokens is filled up with
probabilities of 0.

    format = TopKFormat(k=32, vocabulary=49_152)
    data = format.encode(ids, probabilities)      # (T, K) both
    ids, probabilities = format.decode(data)
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.errors import LedgerDamaged, LedgerError

if TYPE_CHECKING:
    import numpy as np

STEPS = 255  # of a byte
SHORT = 1 << 16  # tokens that two bytes tell apart
ROUNDING = 1e-3  # by which probabilities in half precision may exceed 1 in all


class NoDistribution(LedgerError):
    """What a teacher gave for a position is no distribution over the vocabulary."""


@dataclass(frozen=True, slots=True)
class TopKFormat:
    """`k` tokens a position, of a vocabulary of so many; ids take two bytes, or four above 65,536."""

    k: int
    vocabulary: int

    def __post_init__(self) -> None:
        assert 0 < self.k <= self.vocabulary, f"top {self.k} of {self.vocabulary} tokens"

    @property
    def record(self) -> "np.dtype":
        """One position, as it lies on disk."""
        import numpy as np

        ids = "<u2" if self.vocabulary <= SHORT else "<u4"
        return np.dtype([("ids", ids, self.k), ("roots", "u1", self.k), ("highest", "<f2")])

    def encode(self, ids: "np.ndarray", probabilities: "np.ndarray") -> bytes:
        """The records of `T` positions: ids (T, k) and probabilities (T, k), k at most the format's.

        Raises NoDistribution where an id is outside the vocabulary or occurs twice with a probability,
        or where probabilities are no numbers from 0 to 1, or more than 1 in all.
        """
        import numpy as np

        p = np.asarray(probabilities, np.float64)
        self._check(ids, p)
        records = np.zeros(len(p), self.record)
        highest = p.max(axis=1, initial=0.0, keepdims=True).astype("<f2")
        against = p / np.maximum(highest.astype(np.float64), np.finfo("<f2").tiny)
        records["ids"][:, : p.shape[1]] = ids
        roots = np.rint(STEPS * np.sqrt(np.minimum(against, 1.0)))
        records["roots"][:, : p.shape[1]] = roots
        records["highest"] = highest[:, 0]
        return records.tobytes()

    def decode(self, data: bytes) -> "tuple[np.ndarray, np.ndarray]":
        """Ids (T, K) int64 and probabilities (T, K) float32, at most 1 in all at each position.

        Raises LedgerDamaged for bytes that are no whole records or name tokens outside the vocabulary.
        """
        import numpy as np

        record = self.record
        if len(data) % record.itemsize:
            raise LedgerDamaged(
                f"{len(data)} bytes are no whole top-{self.k} records of {record.itemsize} bytes: capture "
                "the sample again."
            )
        records = np.frombuffer(data, record)
        ids = records["ids"].astype(np.int64)
        if ids.size and ids.max() >= self.vocabulary:
            raise LedgerDamaged(
                f"a top-{self.k} record names token {ids.max()} of a vocabulary of {self.vocabulary}: "
                "capture the sample again."
            )
        roots = records["roots"].astype(np.float32) / np.float32(STEPS)
        p = roots * roots * records["highest"].astype(np.float32)[:, None]
        # Each is rounded by itself, so that all together may come out above 1.
        p /= np.maximum(p.sum(axis=1, keepdims=True), np.float32(1.0))
        return ids, p

    def _check(self, ids: "np.ndarray", p: "np.ndarray") -> None:
        import numpy as np

        assert ids.shape == p.shape, f"{ids.shape} ids for {p.shape} probabilities"
        assert p.shape[1] <= self.k, f"{p.shape[1]} tokens a position in a top-{self.k} format"
        total = p.sum(axis=1)
        wrong = ~np.isfinite(total) | (p < 0).any(axis=1) | (total > 1 + ROUNDING)
        if wrong.any():
            at = int(wrong.argmax())
            raise NoDistribution(
                f"the probabilities at position {at} are {p[at][:4]}… and {total[at]:g} in all: they lie "
                "between 0 and 1, and so does their sum."
            )
        seen = p > 0
        outside = seen & ((ids < 0) | (ids >= self.vocabulary))
        if outside.any():
            raise NoDistribution(
                f"token {ids[outside][0]} is outside the vocabulary of {self.vocabulary}: the teacher's "
                "tokenizer is not the one that it was asked with."
            )
        # Tokens without a probability count as different ones, below all ids.
        told = np.sort(np.where(seen, ids, -1 - np.arange(p.shape[1])), axis=1)
        twice = (told[:, 1:] == told[:, :-1]).any(axis=1)
        if twice.any():
            at = int(twice.argmax())
            raise NoDistribution(f"position {at} names a token twice: {ids[at][:8]}…")
