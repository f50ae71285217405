"""What has a vector in the ledger is not embedded again, and comes back byte for byte."""

from pathlib import Path

import numpy as np
import pytest

from ledger.prompts import Prompt
from ledger.store import Ledger
from router.embedding import Embedder, EmbeddingProgress, cached_vectors, embed
from router.embedding.embedder import Sizes

PROMPTS = [Prompt.of(f"{'please ' * (n % 5)}add {n} and {n * n}") for n in range(40)]


def idle_twin(embedder: Embedder) -> Embedder:
    return Embedder(embedder.model_id, embedder.revision, embedder.folder, embedder.precision)


def with_prompts(ledger: Ledger) -> None:
    for prompt in PROMPTS:
        ledger.put_all(prompt.rows("test"))


def test_second_pass_embeds_nothing_and_loads_no_model(tmp_path: Path, embedder: Embedder) -> None:
    seen: list[EmbeddingProgress] = []
    with (ledger := Ledger(tmp_path)).writing("test"):
        with_prompts(ledger)
        first = embed(ledger, [*PROMPTS, PROMPTS[3]], embedder, seen.append)
        idle = idle_twin(embedder)
        again = embed(ledger, PROMPTS[::-1], idle, seen.append)
    assert first.dtype == again.dtype == np.float32
    assert first[40].tobytes() == first[3].tobytes()
    assert first[:40].tobytes() == again[::-1].tobytes()
    assert not idle.loaded
    assert [(p.done, p.total, p.reused) for p in seen] == [
        (0, 40, 0),
        (40, 40, 0),
        (0, 40, 0),
        (40, 40, 40),
    ]


def test_another_precision_is_another_model(tmp_path: Path, embedder: Embedder) -> None:
    other = Embedder(embedder.model_id, embedder.revision, embedder.folder, "other")
    with (ledger := Ledger(tmp_path)).writing("test"):
        with_prompts(ledger)
        vectors = embed(ledger, PROMPTS[:2], embedder)
    read = cached_vectors(ledger, PROMPTS, embedder)
    assert {key: vector.tobytes() for key, vector in read.items()} == {
        prompt.key: vector.tobytes() for prompt, vector in zip(PROMPTS, vectors, strict=False)
    }
    assert cached_vectors(ledger, PROMPTS, other) == {}


def test_interrupted_run_goes_on_to_the_same_bytes(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Embedder, "sizes", Sizes(texts=32, tokens=8_192, chunk=8))

    def interrupt(progress: EmbeddingProgress) -> None:
        if progress.done >= 16:
            raise KeyboardInterrupt

    with (whole := Ledger(tmp_path / "whole")).writing("test"):
        with_prompts(whole)
        expected = embed(whole, PROMPTS, embedder)
    with (broken := Ledger(tmp_path / "broken")).writing("test"):
        with_prompts(broken)
        with pytest.raises(KeyboardInterrupt):
            embed(broken, PROMPTS, embedder, interrupt)
    with broken.writing("test"):
        seen: list[EmbeddingProgress] = []
        resumed = embed(broken, PROMPTS, embedder, seen.append)
    assert seen[1].reused == 16
    assert resumed.tobytes() == expected.tobytes()


def test_prompts_of_equal_text_share_a_vector(tmp_path: Path, embedder: Embedder) -> None:
    plain = Prompt.of("What is 3 + 4?")
    told = Prompt(({"role": "system", "content": "Be brief."}, *plain.messages))
    with (ledger := Ledger(tmp_path)).writing("test"):
        ledger.put_all([*plain.rows("test"), *told.rows("test")])
        vectors = embed(ledger, [plain, told], embedder)
        assert embed(ledger, [], embedder).shape[0] == 0
    assert plain.key != told.key
    assert vectors[0].tobytes() == vectors[1].tobytes()
