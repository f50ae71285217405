"""The training's log for TensorBoard, as TRL's and transformers' users know it.

The package that writes it is heavy to import and need not be installed: `tutelage[tensorboard]`.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import TensorBoardMissing

if TYPE_CHECKING:
    from transformers import TrainerCallback

WRITER = "tensorboardX"


def refuse_missing_package() -> None:
    """Raises TensorBoardMissing where what writes for TensorBoard cannot be imported."""
    try:
        importlib.import_module(WRITER)
    except ImportError as error:
        raise TensorBoardMissing(
            "student.tensorboard is true, and the package that writes for it is not installed: "
            "pip install 'tutelage[tensorboard]', or leave it out."
        ) from error


def tensorboard(folder: Path, step: int) -> "TrainerCallback":
    """What writes the log into `folder`, from after `step` on: what an earlier sitting wrote beyond it is
    hidden. Raises TensorBoardMissing.
    """
    refuse_missing_package()
    from tensorboardX import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    return TensorBoardCallback(SummaryWriter(str(folder), purge_step=step + 1 if step else None))
