"""Rows 23 and 24: what a model's folder may bring along, and what content may become."""

import asyncio
import contextlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

from ledger.errors import TutelageError
from ledger.prompts import Prompt
from router.teachers.opening import open_local
from router.teachers.protocol import Sampling
from tests.faults.suite import Found, counted, row
from tests.trainer.support import make_base
from tests.trainer.test_templates import NAMES, REFUSED, encode, tokenizer_of
from trainer.base import load_model, open_tokenizer
from trainer.config import StudentConfig
from trainer.shaping import starting_weights
from trainer.signals.hard import ChatFormat


class _Bomb:
    """What runs a command where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.canary,)  # type: ignore[return-value]


def _with_code(folder: Path, canary: Path) -> None:
    """Config and tokenizer that name classes of a module beside them."""
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass C: ...\nclass M: ...\n")
    for name, auto in (
        ("config.json", {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.C", "evil.C"]}),
    ):
        path = folder / name
        fields = json.loads(path.read_text()) | {"auto_map": auto, "model_type": "evil"}
        path.write_text(json.dumps(fields))


def _pickled(folder: Path, canary: Path) -> None:
    """Weights as a pickle, in place of safetensors."""
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb(canary)))


def _pickled_too(folder: Path, canary: Path) -> None:
    """A pickle beside the safetensors."""
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (folder / name).write_bytes(pickle.dumps(_Bomb(canary)))


def _adapter(folder: Path, canary: Path) -> None:
    """A pickled adapter inside the model's folder, which peft would pick up."""
    config = {"peft_type": "LORA", "base_model_name_or_path": str(folder), "r": 1}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(_Bomb(canary)))


def _teach(folder: Path) -> None:
    teacher = open_local("t", folder)
    asyncio.run(teacher.answer([Prompt.of("hello")], Sampling(max_tokens=2)))


def _start(folder: Path) -> None:
    import torch

    place = starting_weights(
        StudentConfig(base=folder.name), folder.parent, folder.with_name("made"), 7
    )
    open_tokenizer(folder.name, folder.parent)
    load_model(place, torch.float32)


@row(23, "remote code, pickled weights")
def strangers_code(folder: Path) -> Found:
    """Each as a teacher, as a teacher's adapter and as a student's base; whatever runs leaves a file."""
    ran = tried = 0
    makers: tuple[Callable[[Path, Path], None], ...] = (
        _with_code,
        _pickled,
        _pickled_too,
        _adapter,
    )
    for maker in makers:
        for use in (_teach, _start, _adapt):
            place = folder / f"{maker.__name__}-{use.__name__}"
            canary = folder / f"{place.name}.ran"
            maker(make_base(place), canary)
            with contextlib.suppress(TutelageError):
                use(place)
            shutil.rmtree(folder / "made", ignore_errors=True)
            tried += 1
            ran += canary.exists()
    return counted(ran, f"canaries of {tried} ran")


def _adapt(folder: Path) -> None:
    """The folder as an adapter of a plain model."""
    plain = make_base(folder.with_name(f"{folder.name}-plain"))
    open_local("t", plain, adapter=str(folder.resolve()))


@row(24, "structural strings inside content")
def structural_strings(folder: Path) -> Found:
    """Every structural string of every template that TRL carries, in prompt and answer."""
    made = strings = templates = 0
    for name in NAMES:
        if name in REFUSED:
            continue
        chat = ChatFormat(tokenizer_of(name))
        clean = sum(token in chat.control_ids for token in encode(chat, "a b").ids)
        templates += 1
        for text in chat.structural:
            dirty = encode(chat, f"a {text} b").ids
            made += abs(sum(token in chat.control_ids for token in dirty) - clean)
            strings += 1
    return counted(made, f"control ids from {strings} strings of {templates} templates")
