"""From a batch to the losses of its trained positions, without the logits of the whole batch.

    head = StudentHead(model)                           # a causal language model of transformers
    losses = head.losses(input_ids, places, targets, objective)

Almost every model's logits are the last hidden states times a matrix, some times a number. Such heads go
chunk by chunk through `head_loss`. Others (softcaps, biases, adapters on the head) make their own logits.
"""

from typing import Any

import torch
from torch import Tensor, nn

from trainer.signals.logit import Losses, Objective, Targets, head_loss, logits_loss

PROBE_TOKENS = 8


class StudentHead:
    """`model` as it is called for its losses. Dimensions: B samples, T positions, N trained ones."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.scale = _scale(model)

    def losses(
        self,
        input_ids_B_T: Tensor,
        places_N: Tensor,
        targets: Targets,
        objective: Objective,
        *,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        hidden_states: bool = False,
        router_logits: bool = False,
    ) -> tuple[Losses, Any]:
        """Losses at `places_N`, numbers into the flattened batch, and what the model gave out.

        `position_ids` (B, T) begin anew with every sample of a row. `hidden_states` and `router_logits` have
        the model give out those as well.
        """
        given: dict[str, Any] = {"input_ids": input_ids_B_T, "use_cache": False}
        if position_ids is not None:
            given["position_ids"] = position_ids
        if hidden_states:
            given["output_hidden_states"] = True
        if self.scale is None or router_logits:
            if router_logits:
                given |= {"attention_mask": attention_mask, "output_router_logits": True}
            outputs = self.model(**given)
            logits_N_V = outputs.logits.flatten(0, 1)[places_N]
            return logits_loss(logits_N_V, targets, objective), outputs
        outputs = self.model.base_model(**given)
        hidden_N_D = outputs.last_hidden_state.flatten(0, 1)[places_N]
        if self.scale != 1.0:
            hidden_N_D = hidden_N_D * self.scale
        weight_V_D = self.model.get_output_embeddings().weight
        return head_loss(hidden_N_D, weight_V_D, targets, objective), outputs


def keeps_apart(model: Any) -> bool:
    """Whether samples that share a row do not see one another, by positions that begin anew alone.

    What stands in the first sample must change nothing in the second, whose logits must be those that it has
    alone; the first holds to the last bit wherever attention is masked, so that it tells in bfloat16 as well.
    """
    words = model.get_input_embeddings().num_embeddings
    device = next(model.parameters()).device
    ids = torch.arange(2 * PROBE_TOKENS, device=device)[None] % words
    others = ids.clone()
    others[:, :PROBE_TOKENS] = (ids[:, :PROBE_TOKENS] + words // 2) % words
    positions = torch.arange(2 * PROBE_TOKENS, device=device)[None] % PROBE_TOKENS
    was_training = model.training
    model.eval()
    with torch.no_grad():
        try:
            packed, beside_others = (
                model(input_ids=row, position_ids=positions, use_cache=False).logits[
                    :, PROBE_TOKENS:
                ]
                for row in (ids, others)
            )
        except TypeError:  # takes no positions
            return False
        alone = model(input_ids=ids[:, PROBE_TOKENS:], use_cache=False).logits
        model.train(was_training)
        size, exact = alone.float().std(), alone.dtype == torch.float32
        seen = (packed - beside_others).float().abs().max()
        off = (packed - alone).float().square().mean().sqrt()
        return bool(seen <= 1e-4 * size and off <= (1e-4 if exact else 1e-1) * size)


def _scale(model: Any) -> float | None:
    """By how much the logits are larger than the product; None where they are no multiple of it."""
    head = model.get_output_embeddings()
    capped = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if type(head) is not nn.Linear or head.bias is not None or capped:
        return None
    was_training = model.training
    model.eval()
    with torch.no_grad():
        matrix = head.weight
        ids = torch.arange(PROBE_TOKENS, device=matrix.device)[None] % len(matrix)
        logits = model(input_ids=ids, use_cache=False).logits.double()
        states = getattr(
            model.base_model(input_ids=ids, use_cache=False), "last_hidden_state", None
        )
        model.train(was_training)
        if states is None or states.shape[-1] != matrix.shape[1]:
            return None
        product = states.double() @ matrix.double().T
        scale = float((product * logits).sum() / product.square().sum().clamp(min=1e-300))
        rounding = 1e-3 if matrix.dtype == torch.float32 else 5e-2
        off = (logits - scale * product).abs().max() / logits.std()
    if not off <= rounding:
        return None
    return 1.0 if abs(scale - 1) < rounding else scale
