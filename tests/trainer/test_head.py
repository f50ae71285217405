"""The head's way round the logits gives the loss and gradients of the model's own logits."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from trainer.base import quiet
from trainer.head import StudentHead, keeps_apart
from trainer.signals.logit import Objective, Targets

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def model(kind: str) -> Any:
    """A random causal language model whose head is a product, times a number, softcapped, or with a bias."""
    import transformers as t

    torch.manual_seed(0)
    if kind == "product":
        return t.LlamaForCausalLM(t.LlamaConfig(**SHAPE))
    if kind == "times":
        return t.GraniteForCausalLM(t.GraniteConfig(**SHAPE, logits_scaling=4.0))
    if kind == "softcap":
        return t.Gemma2ForCausalLM(t.Gemma2Config(**SHAPE, final_logit_softcapping=0.5))
    return t.PhiForCausalLM(t.PhiConfig(**{k: v for k, v in SHAPE.items() if k != "head_dim"}))


@pytest.mark.parametrize(
    ("kind", "scale"), [("product", 1.0), ("times", 0.25), ("softcap", None), ("bias", None)]
)
def test_losses_and_gradients_are_those_of_the_models_logits(
    kind: str, scale: float | None
) -> None:
    net = model(kind)
    if kind == "bias":
        torch.nn.init.normal_(net.lm_head.bias)
    head = StudentHead(net)
    assert head.scale == (None if scale is None else pytest.approx(scale, rel=1e-5))
    ids = torch.randint(0, 50, (3, 9))
    places = torch.tensor([3, 4, 5, 12, 13, 26])
    labels = torch.randint(0, 50, (6,))
    none = torch.zeros(6, 0)
    targets = Targets(labels, torch.ones(6), torch.zeros(6), none.long(), none)
    own = functional.cross_entropy(
        net(input_ids=ids).logits.flatten(0, 1)[places], labels, reduction="sum"
    )
    wanted = torch.autograd.grad(own, list(net.parameters()))
    losses, _ = head.losses(ids, places, targets, Objective())
    found = torch.autograd.grad(losses.total, list(net.parameters()))
    torch.testing.assert_close(losses.total, own)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_an_adapter_on_the_head_is_no_product() -> None:
    from peft import LoraConfig, get_peft_model

    with quiet():
        wrapped = get_peft_model(model("product"), LoraConfig(target_modules=["lm_head"]))
    assert StudentHead(wrapped.get_base_model()).scale is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_samples_of_a_row_are_kept_apart_by_a_model_that_masks_them(dtype: torch.dtype) -> None:
    assert keeps_apart(model("product").to(dtype).eval())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_looks_across_the_samples_of_a_row_is_found_out(dtype: torch.dtype) -> None:
    """A whisper of the row's mean in every layer, as of a model with a state of its own."""
    net = model("product").to(dtype).eval()

    def leaks(_: Any, __: Any, output: Any) -> Any:
        return output + 0.01 * output.mean(dim=1, keepdim=True)

    for layer in net.model.layers:
        layer.register_forward_hook(leaks)
    assert not keeps_apart(net)
