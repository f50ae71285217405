"""Whether a model's weights are whole, by the headers of their files alone: nothing is loaded.

refuse_broken(folder)        # raises BrokenWeights
"""

import json
from collections.abc import Collection
from pathlib import Path

from ledger.errors import InputError

INDEX = "model.safetensors.index.json"
POINTER = b"version https://git-lfs"  # how a file begins that Git LFS has not fetched
NAMED = 3  # tensors that a message names


class BrokenWeights(InputError):
    """A model's safetensors are damaged, cut short, or not all there."""


def refuse_broken(folder: Path) -> None:
    """Raises BrokenWeights where a safetensors file of the folder cannot be read, or one is missing."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    for path in files:
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise BrokenWeights(
                    f"{path} is a pointer of Git LFS and not the weights: fetch them with `git lfs pull`."
                )
        try:
            with safe_open(path, "np"):
                pass
        except (OSError, SafetensorError) as error:
            raise BrokenWeights(
                f"{path} is damaged or was cut short ({error}): copy or download it again."
            ) from error
    index = folder / INDEX
    if index.is_file():
        try:
            named = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise BrokenWeights(f"{index} is damaged: copy or download it again.") from error
        if lost := sorted(named - {path.name for path in files}):
            raise BrokenWeights(
                f"{folder} lacks {lost[0]}, which {INDEX} names ({len(lost)} of {len(named)} files are "
                "missing): copy or download it again."
            )


def refuse_missing(tensors: Collection[str], folder: str) -> None:
    """Raises BrokenWeights where a model was loaded without some tensors, which would be random numbers."""
    if not tensors:
        return
    some = ", ".join(sorted(tensors)[:NAMED])
    more = f" and {len(tensors) - NAMED:,} more" if len(tensors) > NAMED else ""
    raise BrokenWeights(
        f"the weights in {folder} lack {some}{more}, which its config.json asks for: they would be random. "
        "Copy or download the model again, or correct config.json."
    )
