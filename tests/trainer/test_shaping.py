"""Students of other sizes: layers of the base that are kept, shapes with weights of their own."""

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.trainer.support import make_base
from tests.trainer.training_child import run
from trainer.base import load_model
from trainer.config import SizeConfig, StudentConfig
from trainer.errors import BadBase
from trainer.shaping import refuse_student, refuse_targets, starting_weights


def start(folder: Path, out: Path, seed: int = 7, **fields: Any) -> str:
    return starting_weights(StudentConfig(base="base", **fields), folder, out, seed)


def weights(place: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_model(place, torch.float32).state_dict()
    return state


def test_a_base_as_it_is_stays_where_it_is(folder: Path, tmp_path: Path) -> None:
    assert start(folder, tmp_path / "made") == str(folder / "base")
    assert not (tmp_path / "made").exists()


def test_kept_layers_are_the_bases_own_the_first_and_the_last(tmp_path: Path) -> None:
    make_base(tmp_path / "deep", layers=5)
    config = StudentConfig(base="deep", layers=3)
    place = starting_weights(config, tmp_path, tmp_path / "made", 7)
    cut, whole = weights(place), weights(str(tmp_path / "deep"))
    for kept, number in enumerate((0, 2, 4)):
        name = "model.layers.{}.mlp.up_proj.weight"
        assert torch.equal(cut[name.format(kept)], whole[name.format(number)])
    assert "model.layers.3.mlp.up_proj.weight" not in cut
    assert torch.equal(cut["model.embed_tokens.weight"], whole["model.embed_tokens.weight"])


def test_a_shape_has_weights_drawn_by_the_seed(folder: Path, tmp_path: Path) -> None:
    shape = {"hidden_size": 24, "num_hidden_layers": 3}
    one, again, other = (
        weights(start(folder, tmp_path / name, seed, shape=shape))
        for name, seed in (("one", 7), ("again", 7), ("other", 8))
    )
    name = "model.layers.2.mlp.up_proj.weight"
    assert one[name].shape[1] == 24
    assert torch.equal(one[name], again[name])
    assert not torch.equal(one[name], other[name])


def test_a_base_without_weights_starts_from_drawn_ones_and_learns(
    folder: Path, new_ledger: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    bare = folder / "bare"
    if not bare.exists():
        shutil.copytree(folder / "base", bare, ignore=shutil.ignore_patterns("*.safetensors"))
    new_ledger("from-config")
    notes: list[str] = []
    student = run(folder, "from-config", notes, base="bare")
    assert "the student starts from weights drawn by the seed" in notes
    assert "weights drawn by the seed" in (student.path / "README.md").read_text()
    AutoModelForCausalLM.from_pretrained(student.path)
    assert not list(folder.glob("from-config.*"))


def test_a_cut_student_trains_resumes_and_answers(folder: Path, new_ledger: Any) -> None:
    new_ledger("cut-layers")
    student = run(folder, "cut-layers", layers=1)
    assert student.parameters < sum(each.numel() for each in weights(str(folder / "base")).values())
    assert len([n for n in weights(str(student.path)) if n.endswith("up_proj.weight")]) == 1


def test_pickled_weights_are_no_reason_to_draw_new_ones(folder: Path, tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(folder / "base", pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(BadBase, match=r"pytorch_model.bin, and only safetensors"):
        starting_weights(StudentConfig(base="pickled"), tmp_path, tmp_path / "made", 7)


def test_layers_of_a_base_without_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(
        folder / "base", tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors")
    )
    with pytest.raises(BadBase, match="has no weights"):
        starting_weights(StudentConfig(base="bare", layers=1), tmp_path, tmp_path / "made", 7)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"layers": 3}, "base has 2 layers: keep 1 to 2"),
        ({"shape": {"hidden": 8}}, "hidden: 8, which is no size.*hidden_size"),
        ({"shape": {"hidden_size": 15}}, "makes no model"),
        ({"shape": {"vocab_size": 9}}, "is no size"),
        ({"shape": {"num_hidden_layers": 0}}, "numbers from 1"),
    ],
)
def test_sizes_that_cannot_be_say_why(
    folder: Path, tmp_path: Path, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(BadBase, match=told):
        start(folder, tmp_path / "made", **fields)
    assert not (tmp_path / "made").exists()


def test_the_recipe_names_sizes_by_base_or_by_fields() -> None:
    student = StudentConfig.model_validate(
        {"base": "b", "epochs": 3, "layers": 4, "sizes": ["x/small", {"layers": 2, "epochs": 5}]}
    )
    assert [size.label for size in student.sizes] == ["small", "2-layers"]
    longer = student.of_size(SizeConfig(name="longer", epochs=9))
    assert (longer.layers, longer.epochs) == (4, 9)
    small, cut = (student.of_size(size) for size in student.sizes)
    assert (small.base, small.epochs, small.layers, small.sizes) == ("x/small", 3, None, [])
    assert (cut.base, cut.epochs, cut.layers) == ("b", 5, 2)


def test_without_a_base_the_first_size_is_the_student() -> None:
    student = StudentConfig.model_validate({"sizes": ["a", {"base": "b"}, "c"]})
    assert (student.base, [size.base for size in student.sizes]) == ("a", ["b", "c"])


@pytest.mark.parametrize(
    "fields",
    [
        {"layers": 1, "shape": {"hidden_size": 8}},
        {"layers": 1, "lora": {"keep": True}},
        {"sizes": ["b/x", "c/x"]},
        {"sizes": [{"name": "student", "base": "c"}]},
    ],
)
def test_sizes_that_contradict_themselves_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="give one of them|is taken|is not kept"):
        StudentConfig.model_validate({"base": "b", **fields})


def test_a_size_is_called_by_what_is_its_own() -> None:
    assert SizeConfig(shape={"hidden_size": 48, "num_hidden_layers": 2}).label == "48-2"
    assert SizeConfig(name="tiny", base="x/y").label == "tiny"


@pytest.mark.parametrize(
    "targets", [["layers.9.self_attn.q_proj"], ["q_proj", "prj"], ["lm_head"], ["proj"]]
)
def test_adapters_for_layers_that_are_not_there_are_refused_without_weights(
    folder: Path, targets: list[str]
) -> None:
    config = StudentConfig.model_validate({"base": "base", "lora": {"targets": targets}})
    with pytest.raises(BadBase, match=f"names '{targets[-1]}'.*there are .*q_proj"):
        refuse_student(config, folder)


@pytest.mark.parametrize("target", ["q_proj", "self_attn.q_proj", "layers.1.self_attn.q_proj"])
def test_adapters_are_named_as_peft_names_them(folder: Path, target: str) -> None:
    config = StudentConfig.model_validate({"base": "base", "lora": {"targets": [target]}})
    refuse_student(config, folder)
    with pytest.raises(BadBase, match="lora.targets") if "1" in target else nullcontext():
        refuse_student(config.model_copy(update={"layers": 1}), folder)


def test_the_layers_of_gpt2_can_have_adapters() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_positions=8, n_embd=8, n_layer=1, n_head=2))
    config = StudentConfig.model_validate({"base": "gpt2", "lora": {"targets": ["c_attn"]}})
    refuse_targets(config, model)
