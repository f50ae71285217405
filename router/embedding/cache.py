"""Embeds prompts through the ledger: what has a vector there is not embedded again.

Prompts are taken in windows, sorted by length in each and embedded in chunks that the order of prompts
alone decides, each chunk in one commit. So a run that was killed and goes on ends with the same bytes as
one that was not, and no more than a window's vectors need to be in memory.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger.prompts import Prompt
from ledger.store import Ledger
from router.embedding.embedder import Embedder

if TYPE_CHECKING:
    import numpy as np

WINDOW_PROMPTS = 8_192

CACHED = """
SELECT prompt.key, embedding.vector FROM embedding JOIN prompt ON embedding.prompt = prompt.id
WHERE embedding.model = ? AND prompt.key IN (SELECT unnest(CAST(? AS VARCHAR[])))
"""


@dataclass(frozen=True, slots=True)
class EmbeddingProgress:
    """Different prompts with a vector out of `total`; `reused` ones were in the ledger before."""

    done: int
    total: int
    reused: int
    elapsed_s: float


def embed(
    ledger: Ledger,
    prompts: Sequence[Prompt],
    embedder: Embedder,
    on_progress: Callable[[EmbeddingProgress], None] | None = None,
) -> "np.ndarray":
    """Unit vectors of the prompts' texts, float32 (N, D), in the order of `prompts`; see `embedded`."""
    import numpy as np

    different = len({prompt.key for prompt in prompts})
    windows = [v for _, v in embedded(ledger, prompts, embedder, different, on_progress)]
    return np.concatenate(windows) if windows else np.zeros((0, 0), np.float32)


def embedded(
    ledger: Ledger,
    prompts: Iterable[Prompt],
    embedder: Embedder,
    total: int,
    on_progress: Callable[[EmbeddingProgress], None] | None = None,
) -> "Iterator[tuple[list[Prompt], np.ndarray]]":
    """Windows of `prompts` in their order, each with its unit vectors, float32 (n, D).

    The ledger must be open for writing and hold the prompts' rows (waiting in the inbox will do).
    What it has no vector for is embedded and put, durable chunk by chunk; if nothing is missing, no
    model is loaded. `total` is what progress is told of: different prompts.
    """
    import numpy as np

    started, done, reused = time.monotonic(), 0, 0

    def report(more: int) -> None:
        if on_progress:
            on_progress(EmbeddingProgress(done + more, total, reused, time.monotonic() - started))

    ledger.fold()
    report(0)
    for window in _windows(prompts):
        vectors = cached_vectors(ledger, window, embedder)
        reused += len(vectors)
        whole = all(prompt.key in vectors for prompt in window)
        for chunk in () if whole else _chunks(window, embedder.sizes.chunk):
            missing = [prompt for prompt in chunk if prompt.key not in vectors]
            if missing:
                _embed_chunk(ledger, missing, embedder, vectors)
                report(len(vectors))
        done += len(vectors)
        if whole:
            report(0)
        else:
            ledger.fold()
        yield window, np.stack([vectors[prompt.key] for prompt in window])


def cached_vectors(
    ledger: Ledger, prompts: Sequence[Prompt], embedder: Embedder
) -> dict[str, "np.ndarray"]:
    """Prompt key -> vector, where it is folded; only reads the ledger, and loads no model."""
    import numpy as np

    keys = sorted({prompt.key for prompt in prompts})
    table = ledger.arrow(CACHED, [embedder.key, keys])
    flat = table["vector"].combine_chunks()
    if not len(flat):
        return {}
    matrix = np.asarray(flat.flatten(), dtype=np.float32).reshape(len(flat), -1)
    return dict(zip(table["key"].to_pylist(), matrix, strict=True))


def _windows(prompts: Iterable[Prompt]) -> Iterator[list[Prompt]]:
    rest = iter(prompts)
    while window := list(itertools.islice(rest, WINDOW_PROMPTS)):
        yield window


def _chunks(prompts: Sequence[Prompt], size: int) -> list[list[Prompt]]:
    """The different prompts by length and text, so that a chunk wastes little on padding, and
    prompts of equal text are together."""
    by_text: dict[str, dict[str, Prompt]] = {}
    for prompt in prompts:
        by_text.setdefault(prompt.text, {})[prompt.key] = prompt
    texts = sorted(by_text, key=lambda text: (len(text), text))
    return [
        [prompt for text in texts[start : start + size] for prompt in by_text[text].values()]
        for start in range(0, len(texts), size)
    ]


def _embed_chunk(
    ledger: Ledger, prompts: list[Prompt], embedder: Embedder, vectors: dict[str, "np.ndarray"]
) -> None:
    encoded = embedder.encode([prompt.text for prompt in prompts])
    rows: list[dict[str, Any]] = []
    for prompt, vector in zip(prompts, encoded, strict=True):
        data = vector.astype("<f4").tobytes()
        rows.append({"prompt": prompt.key, "model": embedder.key, "vector": data})
        vectors[prompt.key] = vector
    ledger.put("embedding", rows)
