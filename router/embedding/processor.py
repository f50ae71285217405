"""What makes a transformer quick on a processor: its best number format, packed weights, keys by sixteens."""

from functools import partial
from pathlib import Path
from typing import Any

LANES = 16  # numbers of float32 in the widest vectors of a processor
SIXTEENS = "sdpa_by_sixteens"


def processor_precision(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """`bfloat16` where the processor multiplies it faster than float32, else `float32`.

    Measured by `python -m benchmarks.embedding`: 2.7 times as fast as plain float32 with AMX, 2.4 with AMD's
    AVX-512. Intel's AVX-512 without AMX, as a hypervisor may leave it, takes twice as long as in float32.
    """
    try:
        words = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return "float32"
    quick = "amx_bf16" in words or words >= {"avx512_bf16", "AuthenticAMD"}
    return "bfloat16" if quick else "float32"


def quicken(transformer: Any, tokens: int) -> None:
    """Changes how the transformer of a sentence-transformers model computes, not what: weights are packed for
    batches of so many tokens, and attention goes by sixteens where the architecture lets it be chosen."""
    _pack(transformer, tokens)
    model: Any = getattr(transformer, "auto_model", None)
    if getattr(getattr(model, "config", None), "_attn_implementation", None) == "sdpa":
        _register()
        model.set_attn_implementation(SIXTEENS)


def _pack(model: Any, tokens: int) -> None:
    """Brings the weights of linear layers into the order that oneDNN multiplies by, once instead of in every
    call, as torch.compile does where there is a compiler. With AVX-512 the products keep their bits."""
    import torch

    ops = torch.ops.mkldnn
    with torch.inference_mode():
        for layer in model.modules():
            if type(layer) is torch.nn.Linear:
                packed = ops._reorder_linear_weight(layer.weight, tokens)
                layer.forward = partial(_multiply, ops._linear_pointwise, packed, layer.bias)


def _multiply(multiply: Any, packed: Any, bias: Any, inputs: Any) -> Any:
    return multiply(inputs, packed, bias, "none", [], "")


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(SIXTEENS, _attend)
    AttentionMaskInterface.register(SIXTEENS, sdpa_mask)


def _attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any
) -> tuple[Any, None]:
    """`sdpa` with keys (B, H, L, D) up to a multiple of 16, the new ones masked. torch's kernel takes the
    exponentials of what is left behind the last 16 one by one: 31 keys cost 2.5 times as much as 32."""
    import torch
    from torch.nn.functional import pad
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if attention_mask is None and getattr(module, "is_causal", True) is False:
        attention_mask = torch.ones(1, 1, query.shape[2], key.shape[2], dtype=torch.bool)
    more = -key.shape[2] % LANES
    masked = attention_mask is not None and attention_mask.dtype == torch.bool
    if more and masked and options.get("position_bias") is None:
        key, value = pad(key, (0, 0, 0, more)), pad(value, (0, 0, 0, more))
        attention_mask = pad(attention_mask, (0, more))
    attended: tuple[Any, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, **options
    )
    return attended
