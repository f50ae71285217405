"""Weights that are damaged, cut short or not all there are told by name, before a model is loaded."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ledger.prompts import Prompt
from ledger.weights import BrokenWeights, refuse_broken
from router.teachers.errors import CallError, TeacherUnavailable
from router.teachers.opening import open_local
from router.teachers.protocol import Sampling
from trainer.base import load_model
from trainer.config import StudentConfig
from trainer.shaping import refuse_student

BASE = Path(__file__).parents[2] / "recipes" / "quickstart" / "base"
WEIGHTS = "model.safetensors"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BASE, tmp_path / "base"))


def damage(base: Path, how: str) -> str:
    """Breaks a copy of the base; returns what is to be said of it."""
    path = base / WEIGHTS
    if how == "pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
        return "git lfs pull"
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-100])
        return "damaged or was cut short"
    if how == "empty":
        path.write_bytes(b"")
        return "damaged or was cut short"
    index = {"weight_map": {"a": WEIGHTS, "b": "model-00002.safetensors"}}
    (base / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    return r"lacks model-00002.safetensors.*1 of 2 files"


def test_whole_weights_pass(base: Path) -> None:
    refuse_broken(base)
    refuse_student(StudentConfig(base="base"), base.parent)


@pytest.mark.parametrize("how", ["pointer", "cut", "empty", "shard"])
def test_broken_weights_are_told_of_student_and_teacher(base: Path, how: str) -> None:
    told = damage(base, how)
    with pytest.raises(BrokenWeights, match=told):
        refuse_student(StudentConfig(base="base"), base.parent)
    with pytest.raises(TeacherUnavailable, match=told):
        open_local("ann", "base", base_dir=base.parent)


def test_a_model_without_some_tensors_is_refused_and_not_made_up(base: Path) -> None:
    tensors = load_file(base / WEIGHTS)
    lost = next(name for name in tensors if "mlp" in name)
    save_file(
        {name: each for name, each in tensors.items() if name != lost},
        base / WEIGHTS,
        {"format": "pt"},
    )
    with pytest.raises(BrokenWeights, match=lost):
        load_model(str(base), torch.float32)
    teacher = open_local("ann", "base", base_dir=base.parent)
    with pytest.raises(CallError, match=lost):
        asyncio.run(teacher.answer([Prompt.of("hello")], Sampling(max_tokens=2)))
