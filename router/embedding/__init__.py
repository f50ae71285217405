"""Embeddings of prompts, quick on a processor, and cached in the ledger by prompt and model."""

from router.embedding.cache import EmbeddingProgress, cached_vectors, embed, embedded
from router.embedding.embedder import Embedder
from router.embedding.locating import EmbedderUnavailable, load_embedder
from router.embedding.mapping import map_2d

__all__ = [
    "Embedder",
    "EmbedderUnavailable",
    "EmbeddingProgress",
    "cached_vectors",
    "embed",
    "embedded",
    "load_embedder",
    "map_2d",
]
