"""Checkpoints that are complete or absent, whenever the process dies.

One is written under a hidden name, its marker (a hash of every file) last; it is synced, and then
renamed. So a name `checkpoint-N` is a promise, and `newest` checks it before anyone builds on it.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ledger.keys import file_hash

MARKER = "complete.json"
STAGING = ".writing"


@contextlib.contextmanager
def writing(folder: Path, step: int) -> Iterator[Path]:
    """Gives a folder to make `checkpoint-STEP` in; afterwards it is in `folder`, or nothing is.

    One older checkpoint is kept beside it, and no more than two take up space at any time.
    """
    for old in _by_step(folder)[:-1]:
        shutil.rmtree(old)
    staging = folder / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    yield staging
    made = staging / f"checkpoint-{step}"
    seal(made)
    shutil.rmtree(folder / made.name, ignore_errors=True)
    made.rename(folder / made.name)
    sync(folder)


def newest(folder: Path, on_note: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole; broken ones are removed and named to `on_note`."""
    shutil.rmtree(folder / STAGING, ignore_errors=True)
    for path in reversed(_by_step(folder)):
        if is_whole(path):
            return path
        shutil.rmtree(path)
        on_note(f"{path.name} was damaged and is dropped; training goes on from before it")
    return None


def seal(folder: Path) -> None:
    """Syncs every file and writes the marker that names their hashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        sync(path)
    marker = folder / MARKER
    marker.write_text(json.dumps({str(f.relative_to(folder)): file_hash(f) for f in files}))
    sync(marker)
    sync(folder)


def is_whole(folder: Path) -> bool:
    """Whether the marker is there and every file is the one it names."""
    try:
        hashes = json.loads((folder / MARKER).read_text())
        return all(file_hash(folder / name) == digest for name, digest in hashes.items())
    except (OSError, ValueError, AttributeError):
        return False


def sync(path: Path) -> None:
    """Forces a file's bytes, or a folder's names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def step_of(checkpoint: Path) -> int:
    """After which step it was taken."""
    return int(checkpoint.name.rpartition("-")[2])


def _by_step(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()]
    return sorted(found, key=step_of)
