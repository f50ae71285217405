"""A student's size: the base as it is, some of its layers, or a shape of its own with weights drawn anew.

    place = starting_weights(config, base_dir, folder, seed=7)    # the base's own place, or `folder`

What is made lies in `folder`, complete or absent; the same base, settings and seed make the same weights.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.weights import refuse_broken
from trainer import checkpoints
from trainer.base import LOCAL_AND_NO_CODE, find_base, load_model, quiet, text_config
from trainer.config import StudentConfig
from trainer.errors import BadBase, BaseMissing

if TYPE_CHECKING:
    from torch import nn


def starting_weights(config: StudentConfig, base_dir: Path, folder: Path, seed: int) -> str:
    """Where the weights are that the student starts from. Raises BadBase."""
    base = find_base(config.base, base_dir)
    if not is_shaped(config, base):
        return base
    if not folder.is_dir():
        staging = folder.with_name(f"{folder.name}.making")
        shutil.rmtree(staging, ignore_errors=True)
        with quiet():
            model = _draw(config, base, seed) if config.layers is None else _cut(config, base)
            model.save_pretrained(staging)
            _copy_tokenizer(base, staging)
        checkpoints.sync(staging)
        staging.rename(folder)
    return str(folder)


def is_shaped(config: StudentConfig, base: str) -> bool:
    """Whether the student starts from other weights than the base's: it has none, or is cut or reshaped.

    Raises BadBase for a base whose weights are pickled.
    """
    if config.layers is not None or config.shape is not None:
        return True
    if _has_weights(base):
        return False
    if pickled := sorted(path.name for path in Path(base).glob("*.bin")):
        raise BadBase(
            f"student.base {config.base!r} has its weights in {pickled[0]}, and only safetensors are loaded: "
            "convert them with `save_pretrained`."
        )
    return True


def refuse_student(config: StudentConfig, base_dir: Path) -> None:
    """Raises BaseMissing, BadBase or BrokenWeights where the student cannot be made: its base is not there,
    damaged or cut short, or `layers` or `shape` does not go with it. Loads no weights.
    """
    base = find_base(config.base, base_dir)
    if not Path(base).is_dir():
        raise BaseMissing(
            f"the hub's cache does not hold student.base {base}: fetch it with `hf download {base}`."
        )
    is_shaped(config, base)
    if config.layers is not None:
        _refuse_layers(config, base)
    if config.shape is not None:
        _shape_of(config, base)
    else:
        refuse_broken(Path(base))
    if config.lora is not None and config.lora.targets:
        refuse_targets(config, _skeleton(config, base))


def refuse_targets(config: StudentConfig, model: "nn.Module") -> None:
    """Raises BadBase where `student.lora.targets` names no layer of the model that can have an adapter.

    A target is a layer's name or the end of it from a dot on, as PEFT has it.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    linear = [
        name
        for name, each in model.named_modules()
        if isinstance(each, nn.Linear | Conv1D) and each is not head
    ]
    for target in (config.lora and config.lora.targets) or ():
        if not any(f".{name}".endswith(f".{target}") for name in linear):
            there = sorted({name.rpartition(".")[2] for name in linear})
            raise BadBase(
                f"student.lora.targets names {target!r}, and {config.base} has no linear layer of that name "
                f"that can have an adapter; there are {', '.join(there)}."
            )


def depth_of(config: StudentConfig, base_dir: Path) -> int:
    """How many layers the student will have."""
    own = config.layers or (config.shape or {}).get("num_hidden_layers")
    return own or int(text_config(find_base(config.base, base_dir)).num_hidden_layers)


def _refuse_layers(config: StudentConfig, base: str) -> None:
    depth = text_config(base).num_hidden_layers
    if not _has_weights(base):
        raise BadBase(
            f"student.layers keeps layers of {config.base}, which has no weights (*.safetensors): say its "
            "size by `student.shape`, or give a base with weights."
        )
    if not 1 <= (config.layers or 0) <= depth:
        raise BadBase(
            f"student.layers is {config.layers}, and {config.base} has {depth} layers: keep 1 to {depth}, or "
            "grow it by `student.shape: {num_hidden_layers: …}`, which draws new weights."
        )


def _has_weights(base: str) -> bool:
    return not Path(base).is_dir() or any(Path(base).glob("*.safetensors"))


def _shape_of(config: StudentConfig, base: str) -> Any:
    """The base's config with the numbers that are other ones."""
    from transformers import AutoConfig

    shape = AutoConfig.from_pretrained(base, **LOCAL_AND_NO_CODE)
    known = {name for name, old in shape.to_dict().items() if type(old) is int} - {"vocab_size"}
    for name, value in (config.shape or {}).items():
        if name not in known or value < 1:
            raise BadBase(
                f"student.shape has {name}: {value}, which is no size of {config.base}'s config.json to set; "
                f"numbers from 1 may be set for {', '.join(sorted(known))}."
            )
    try:
        _reshape(shape, config.shape or {})
        if hasattr(shape, "validate"):
            shape.validate()
    except Exception as error:  # every architecture checks its numbers in its own way
        told = str(error).strip().splitlines()[-1].strip()
        raise BadBase(f"student.shape {config.shape} makes no model: {told}") from error
    return shape


def _skeleton(config: StudentConfig, base: str) -> Any:
    """The student's modules, without weights."""
    import torch
    from transformers import AutoModelForCausalLM

    shape = _shape_of(config, base)
    if config.layers is not None:
        _reshape(shape, {"num_hidden_layers": config.layers})
    with quiet(), torch.device("meta"):
        return AutoModelForCausalLM.from_config(shape)


def _draw(config: StudentConfig, base: str, seed: int) -> Any:
    """A model of the base's kind, in the shape asked for, with weights drawn by the seed."""
    import torch
    from transformers import AutoModelForCausalLM

    shape = _shape_of(config, base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return AutoModelForCausalLM.from_config(shape, dtype=torch.float32)
        except Exception as error:  # every architecture checks its numbers in its own way
            raise BadBase(f"student.shape {config.shape} makes no model: {error}") from error


def _reshape(shape: Any, numbers: Mapping[str, int]) -> None:
    """Sets numbers of a transformers config, and what follows from them."""
    for name, value in numbers.items():
        setattr(shape, name, value)
    if getattr(shape, "layer_types", None) is not None:
        shape.layer_types = (shape.layer_types * shape.num_hidden_layers)[: shape.num_hidden_layers]
    if "head_dim" not in numbers and getattr(shape, "head_dim", None):
        shape.head_dim = shape.hidden_size // shape.num_attention_heads


def origin(config: StudentConfig, base: str) -> str | None:
    """What the student starts from, in words, where that is not the base as it is."""
    if config.layers is not None:
        return f"{config.layers} of the base's layers"
    return "weights drawn by the seed" if is_shaped(config, base) else None


def _cut(config: StudentConfig, base: str) -> Any:
    """The base with some of its layers: evenly spaced, the first and the last among them."""
    import torch
    from torch import nn

    depth, kept = text_config(base).num_hidden_layers, config.layers
    assert kept is not None
    _refuse_layers(config, base)
    numbers = [round(i * (depth - 1) / max(kept - 1, 1)) for i in range(kept)]
    model = load_model(base, torch.float32)
    inner = next(
        (part for part in model.base_model.modules() if _layers_of(part, depth) is not None), None
    )
    if inner is None:
        raise BadBase(
            f"{config.base} has no list of {depth} layers to take some from: leave `student.layers` out."
        )
    name, layers = _layers_of(inner, depth)  # type: ignore[misc]
    setattr(inner, name, nn.ModuleList(layers[number] for number in numbers))
    shape = model.config.get_text_config()
    shape.num_hidden_layers = kept
    for name, each in list(vars(shape).items()):  # such as `layer_types`
        if isinstance(each, list) and len(each) == depth:
            setattr(shape, name, [each[number] for number in numbers])
    return model


def _layers_of(module: "nn.Module", depth: int) -> "tuple[str, nn.ModuleList] | None":
    """A module's list of all the layers, and what it is called."""
    from torch import nn

    for name, part in module.named_children():
        if isinstance(part, nn.ModuleList) and len(part) == depth:
            return name, part
    return None


def _copy_tokenizer(base: str, folder: Path) -> None:
    """The base's tokenizer and template, as they are."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, **LOCAL_AND_NO_CODE)
    tokenizer.save_pretrained(folder)
    generation = Path(base) / "generation_config.json"
    if generation.is_file():
        shutil.copyfile(generation, folder / generation.name)
