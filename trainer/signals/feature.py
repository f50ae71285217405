"""The signal `feature`: a student's hidden states held against a teacher's at the same places of one text.

    projectors = Projectors(student_width, [teacher_width, ...], pairs=1, kind="linear", seed=7)
    losses_N = feature_loss(projectors(student_N_D, teacher, pair), teacher_N_E, "cosine")

A projector brings the student's states to a teacher's width (Romero et al. 2015, "FitNets", section 2.2);
there is one for each teacher and pair of layers. Where both widths are one, it begins as the identity.

Dimensions: N places, D the student's hidden size, E the teacher's.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def feature_loss(
    projected_N_E: Tensor, teacher_N_E: Tensor, loss: Literal["cosine", "mse"]
) -> Tensor:
    """The loss at each of N places, in float32."""
    student, teacher = projected_N_E.float(), teacher_N_E.float()
    if loss == "cosine":
        return 1 - F.cosine_similarity(student, teacher, dim=1)
    return (student - teacher).square().mean(dim=1)


def _projector(width: int, onto: int, kind: str) -> nn.Module:
    if kind == "mlp":
        return nn.Sequential(nn.Linear(width, onto), nn.GELU(), nn.Linear(onto, onto))
    linear = nn.Linear(width, onto)
    if width == onto:
        nn.init.eye_(linear.weight)
        nn.init.zeros_(linear.bias)
    return linear


class Projectors(nn.Module):
    """All projectors of one student, by teacher and pair of layers; called for one of them."""

    def __init__(
        self,
        student_width: int,
        teacher_widths: Sequence[int],
        pairs: int,
        kind: Literal["linear", "mlp"],
        seed: int,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.by_teacher = nn.ModuleList(
                nn.ModuleList(_projector(student_width, width, kind) for _ in range(pairs))
                for width in teacher_widths
            )

    def forward(self, states_N_D: Tensor, teacher: int, pair: int) -> Tensor:
        """The states at a teacher's width: (N, E)."""
        by_pair = self.by_teacher[teacher]
        assert isinstance(by_pair, nn.ModuleList)
        return by_pair[pair](states_N_D)
