"""A training in a process of its own, to be killed.

`python -m tests.trainer.training_child FOLDER NAME KIND`
"""

import sys
from pathlib import Path

import torch

from ledger.store import Ledger
from tests.trainer.signals import given
from trainer.config import StudentConfig
from trainer.features import FeatureTeachers
from trainer.run import StudentRun, train

CONFIG = {
    "base": "base",
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 3e-3,
    "checkpoint_every": 5,
}


def run(
    folder: Path,
    name: str,
    notes: list[str] | None = None,
    records: Path | None = None,
    features: FeatureTeachers | None = None,
    **changes: object,
) -> StudentRun:
    """Trains `folder/base` on `folder/mix` into `folder/NAME`, with a ledger of its own."""
    torch.set_num_threads(1)
    ledger = Ledger(folder / f"{name}-ledger")
    heard = notes if notes is not None else []
    with ledger.writing("test"):
        return train(
            StudentConfig.model_validate({**CONFIG, **changes}),
            folder / "mix",
            folder / name,
            base_dir=folder,
            seed=7,
            ledger=ledger,
            run="test",
            key="5" * 32,
            teachers={"ann": "Apache-2.0", "bob": "MIT | <b>"},
            records=records,
            features=features,
            on_progress=lambda progress: heard.append(progress.note) if progress.note else None,
        )


def run_kind(folder: Path, name: str, kind: str, notes: list[str] | None = None) -> StudentRun:
    """The same by one of KINDS, with what it takes: `folder` holds the records."""
    return run(folder, name, notes, **given(folder, kind))


if __name__ == "__main__":
    run_kind(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
