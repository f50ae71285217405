"""A sentence-transformers model that turns texts into unit vectors, on a GPU where there is one.

On processors, measured with all-MiniLM-L6-v2 on 2 busy cores: batches that each run on one thread, side by
side, take half the CPU of batches that share the threads (OpenMP waits by spinning), and the vectors do not
depend on how many cores there are.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.embedding.processor import processor_precision, quicken

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Sizes:
    """What goes together: texts and tokens of a batch at most, padding included, and texts of a commit."""

    texts: int
    tokens: int
    chunk: int


PROCESSOR = Sizes(texts=32, tokens=8_192, chunk=256)  # a chunk is some 3 s on two cores
GPU = Sizes(texts=1_024, tokens=131_072, chunk=8_192)
# A batch of so many texts ends where less of the next row than this would be text, the rest padding.
FEW_TEXTS, LEAST_FILLED = 8, 0.9
DEFAULT_LIMIT_TOKENS = 512
# A text is cut before it is tokenised, so that 10 MB cost no more than what the model reads.
CHARS_PER_TOKEN = 64


class Embedder:
    """`model_id` and `revision` are known at once; weights are loaded at the first `encode`.

    With `precision` float16 it runs on the GPU, else on the processor.
    """

    def __init__(
        self, model_id: str, revision: str, folder: Path, precision: str | None = None
    ) -> None:
        self.model_id = model_id
        self.revision = revision
        self.folder = folder
        self.precision = precision or best_precision()

    @property
    def key(self) -> str:
        """What the ledger caches vectors under: model, revision and the precision they came of."""
        return f"{self.model_id}@{self.revision}:{self.precision}"

    @property
    def sizes(self) -> Sizes:
        """How many texts go together."""
        return GPU if self._on_gpu else PROCESSOR

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return "_model" in self.__dict__

    def encode(self, texts: Sequence[str]) -> "np.ndarray":
        """Vectors of length 1, float32 (N, D). Equal texts are encoded once and get equal bytes.

        The same list gives the same bytes on the same machine, whatever the number of threads.
        """
        import numpy as np

        if not texts:
            return np.zeros((0, self._dimension), np.float32)
        limit = CHARS_PER_TOKEN * self._limit_tokens
        cut = [text[:limit].encode("utf-8", "replace").decode() for text in texts]
        distinct = list(dict.fromkeys(cut))
        row = {text: index for index, text in enumerate(distinct)}
        return self._encode_distinct(distinct)[[row[text] for text in cut]]

    def _encode_distinct(self, texts: list[str]) -> "np.ndarray":
        import numpy as np

        batches = self._batches(texts)
        prompt = self._model.prompts.get(self._model.default_prompt_name)
        features = [
            self._model.preprocess([texts[index] for index in batch], prompt=prompt)
            for batch in batches
        ]
        out = np.empty((len(texts), self._dimension), np.float32)
        for batch, vectors in zip(batches, self._forward(features), strict=True):
            out[batch] = vectors
        norms = np.linalg.norm(out, axis=1, keepdims=True)
        return out / np.maximum(norms, np.float32(1e-12))

    def _batches(self, texts: list[str]) -> list[list[int]]:
        """Indices of texts of about one length together, so that little of a batch is padding."""
        lengths = self._lengths(texts)
        batches: list[list[int]] = []
        longest = 0
        for index in sorted(range(len(texts)), key=lambda index: (-lengths[index], index)):
            # The first of a batch is its longest, and every row is padded to it.
            size = len(batches[-1]) if batches else self.sizes.texts
            padded = size >= FEW_TEXTS and lengths[index] < LEAST_FILLED * longest
            if size >= self.sizes.texts or (size + 1) * longest > self.sizes.tokens or padded:
                batches.append([])
                longest = lengths[index]
            batches[-1].append(index)
        return batches

    def _lengths(self, texts: list[str]) -> list[int]:
        """Tokens of each text after the cut; characters for a model without a usual tokenizer, and on a GPU,
        where to tokenise twice would take longer than what padding costs."""
        tokenizer = getattr(self._model, "tokenizer", None)
        if self._on_gpu or not callable(tokenizer):
            return [len(text) for text in texts]
        encoded = tokenizer(texts, truncation=True, max_length=self._limit_tokens)
        return [len(ids) for ids in encoded["input_ids"]]

    def _forward(self, features: list[Any]) -> list["np.ndarray"]:
        import torch

        if self._on_gpu:
            return self._forward_on_gpu(features)
        threads = torch.get_num_threads()
        try:
            # The setting is a thread's own, but threads that start later inherit the newest.
            with ThreadPoolExecutor(threads, "embed", torch.set_num_threads, (1,)) as pool:
                return list(pool.map(self._forward_one, features))
        finally:
            torch.set_num_threads(threads)

    def _forward_on_gpu(self, features: list[Any]) -> list["np.ndarray"]:
        """Nothing is waited for until all batches are on their way."""
        import torch

        def moved(batch: Any) -> Any:
            return {k: v.to("cuda") if hasattr(v, "to") else v for k, v in batch.items()}

        with torch.inference_mode():
            vectors = [
                self._model(moved(batch))["sentence_embedding"].float() for batch in features
            ]
            return [each.cpu().numpy() for each in vectors]

    def _forward_one(self, features: Any) -> "np.ndarray":
        import torch

        with torch.inference_mode():
            vectors: np.ndarray = self._model(features)["sentence_embedding"].float().numpy()
            return vectors

    @cached_property
    def _limit_tokens(self) -> int:
        return int(self._model.max_seq_length or DEFAULT_LIMIT_TOKENS)

    @cached_property
    def _dimension(self) -> int:
        return int(self._model.get_embedding_dimension())

    @cached_property
    def _model(self) -> Any:
        import torch

        model = _open_quietly(self.folder, "cuda" if self._on_gpu else "cpu").eval()
        if self.precision != "float32":
            model[0].to(getattr(torch, self.precision))
            model[0].register_forward_hook(_widen)
            if self.precision == processor_precision():
                quicken(model[0], PROCESSOR.tokens)
        return model

    @property
    def _on_gpu(self) -> bool:
        return self.precision == "float16"


def _open_quietly(folder: Path, device: str) -> Any:
    """Opens a model without the progress bar of transformers: the terminal is not ours."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return SentenceTransformer(
            str(folder), device=device, local_files_only=True, trust_remote_code=False
        )
    finally:
        if shown:
            logging.enable_progress_bar()


def _widen(_module: Any, _inputs: Any, features: dict[str, Any]) -> dict[str, Any]:
    """Pooling and what follows run in float32: that is cheap, and rounding there is not."""
    import torch

    narrow = (torch.bfloat16, torch.float16)
    return {
        name: value.float() if getattr(value, "dtype", None) in narrow else value
        for name, value in features.items()
    }


def best_precision() -> str:
    """`float16` on a GPU that torch can use, else what the processor does best.

    Vectors keep a cosine above 0.999 to those of float32 (`python -m benchmarks.embedding`).
    """
    if any(Path("/dev").glob("nvidia[0-9]*")):  # else torch need not be asked, which takes a second
        import torch

        if torch.cuda.is_available():
            return "float16"
    return processor_precision()
