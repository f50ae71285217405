"""Vectors are unit vectors of the model's own, the same for the same list, at any precision."""

from pathlib import Path

import numpy as np
import pytest

from router.embedding import Embedder, map_2d
from router.embedding.processor import SIXTEENS, processor_precision

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


def test_a_quickened_model_gives_the_same_vectors(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every number of tokens up to 40, in batches with padding and alone, bfloat16 taken for the best here."""
    import torch

    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bfloat16 on this processor")

    def opened() -> Embedder:
        return Embedder(embedder.model_id, embedder.revision, embedder.folder, "bfloat16")

    def attention(one: Embedder) -> str:
        return str(one._model[0].auto_model.config._attn_implementation)

    texts = [f"{'word ' * n}{n}" for n in range(40)]
    monkeypatch.setattr("router.embedding.embedder.processor_precision", lambda: "float32")
    plain = opened()
    assert attention(plain) == "sdpa"
    monkeypatch.setattr("router.embedding.embedder.processor_precision", lambda: "bfloat16")
    quick = opened()
    assert attention(quick) == SIXTEENS
    alone = np.concatenate([quick.encode([text]) for text in texts])
    for vectors in (alone, quick.encode(texts)):
        assert (vectors * plain.encode(texts)).sum(axis=1).min() > 0.9998


@pytest.mark.gpu
def test_float16_on_a_gpu_agrees_with_float32(embedder: Embedder) -> None:
    plain = Embedder(embedder.model_id, embedder.revision, embedder.folder, "float32")
    quick = Embedder(embedder.model_id, embedder.revision, embedder.folder, "float16")
    texts = [f"{'word ' * (n % 90)}number {n}" for n in range(3000)]
    vectors = quick.encode(texts)
    assert (vectors * plain.encode(texts)).sum(axis=1).min() > 0.999
    assert vectors.tobytes() == quick.encode(texts).tobytes()


@pytest.mark.parametrize(
    ("vendor", "flags", "precision"),
    [
        ("GenuineIntel", "avx512_bf16 amx_bf16 amx_tile", "bfloat16"),
        ("GenuineIntel", "avx512_bf16", "float32"),
        ("AuthenticAMD", "avx512_bf16", "bfloat16"),
        ("AuthenticAMD", "avx2", "float32"),
    ],
)
def test_precision_follows_the_processor(
    tmp_path: Path, vendor: str, flags: str, precision: str
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"vendor_id : {vendor}\nflags : fpu avx512f {flags}\n")
    assert processor_precision(cpuinfo) == precision


def test_precision_without_a_list_of_what_the_processor_has(tmp_path: Path) -> None:
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
