"""Vectors are unit vectors of the model's own, the same for the same list, at any precision."""

from pathlib import Path

import numpy as np
import pytest

from router.embedding import Embedder, map_2d
from router.embedding.embedder import processor_precision

TEXTS = ["What is 67 + 75?", "Spell this word backward: runrig", "", "Decrypt SXW " * 8, "a"]


def test_vectors_are_those_of_plain_sentence_transformers(embedder: Embedder) -> None:
    from sentence_transformers import SentenceTransformer

    vectors = embedder.encode(TEXTS)
    plain = SentenceTransformer(str(embedder.folder), device="cpu").encode(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors * plain).sum(axis=1).min() > 0.99999


def test_equal_texts_get_equal_bytes_and_empty_lists_work(embedder: Embedder) -> None:
    vectors = embedder.encode([*TEXTS, TEXTS[0], TEXTS[1]])
    assert vectors[0].tobytes() == vectors[5].tobytes()
    assert vectors[1].tobytes() == vectors[6].tobytes()
    assert embedder.encode([]).shape == (0, 384)


def test_same_list_gives_same_bytes_on_one_thread_and_on_two(embedder: Embedder) -> None:
    import torch

    texts = [f"{'word ' * (n % 7)}number {n}" for n in range(80)]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = embedder.encode(texts)
        torch.set_num_threads(2)
        two = embedder.encode(texts)
        assert torch.get_num_threads() == 2, "the caller's setting stays"
    finally:
        torch.set_num_threads(threads)
    assert one.tobytes() == two.tobytes()


def test_ten_megabytes_and_lone_surrogates_are_embedded(embedder: Embedder) -> None:
    vectors = embedder.encode(["long text " * 1_000_000, "broken \ud800 character"])
    assert np.isfinite(vectors).all()


def test_bfloat16_agrees_with_float32(embedder: Embedder) -> None:
    short = Embedder(embedder.model_id, embedder.revision, embedder.folder, "bfloat16")
    assert short.key != embedder.key
    cosines = (short.encode(TEXTS[:2]) * embedder.encode(TEXTS[:2])).sum(axis=1)
    assert cosines.min() > 0.999


def test_packed_weights_give_the_same_vectors(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encoded() -> np.ndarray:
        best = processor_precision()
        return Embedder(embedder.model_id, embedder.revision, embedder.folder, best).encode(TEXTS)

    packed = encoded()
    monkeypatch.setattr("router.embedding.embedder._pack", lambda model: None)
    assert (packed * encoded()).sum(axis=1).min() > 0.9999


@pytest.mark.gpu
def test_float16_on_a_gpu_agrees_with_float32(embedder: Embedder) -> None:
    plain = Embedder(embedder.model_id, embedder.revision, embedder.folder, "float32")
    quick = Embedder(embedder.model_id, embedder.revision, embedder.folder, "float16")
    texts = [f"{'word ' * (n % 90)}number {n}" for n in range(3000)]
    vectors = quick.encode(texts)
    assert (vectors * plain.encode(texts)).sum(axis=1).min() > 0.999
    assert vectors.tobytes() == quick.encode(texts).tobytes()


def test_precision_follows_the_processor(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    for fast in ("amx_bf16 amx_tile", "avx512_bf16"):
        cpuinfo.write_text(f"flags : fpu avx512f {fast}\n")
        assert processor_precision(cpuinfo) == "bfloat16"
    cpuinfo.write_text("flags : fpu avx2\n")
    assert processor_precision(cpuinfo) == "float32"
    assert processor_precision(tmp_path / "absent") == "float32"


def test_map_keeps_groups_apart_and_is_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(3, 16), 20, axis=0) + 0.05 * rng.normal(size=(60, 16))
    flat = map_2d(vectors.astype(np.float32))
    assert flat.shape == (60, 2)
    assert flat.tobytes() == map_2d(vectors.astype(np.float32)).tobytes()
    centres = flat.reshape(3, 20, 2).mean(axis=1)
    spread = flat.reshape(3, 20, 2).std(axis=1).max()
    assert min(np.linalg.norm(centres[i] - centres[j]) for i, j in [(0, 1), (0, 2), (1, 2)]) > (
        5 * spread
    )
    assert map_2d(np.zeros((0, 4), np.float32)).shape == (0, 2)
    assert map_2d(np.ones((1, 4), np.float32)).tolist() == [[0, 0]]
