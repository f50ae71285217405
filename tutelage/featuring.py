"""The teachers' hidden states for the signal `feature`: joins local teachers to the trainer, which knows none.

    features = feature_teachers(workspace.teachers, student_bytes)

Where the teachers do not fit into memory together beside the student, each is loaded when its turn comes, and
the one before it let go.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import psutil

from router.teachers.local import LocalTeacher
from router.teachers.protocol import Teacher
from trainer.errors import FeaturesMissing
from trainer.features import NOBODY, FeatureTeacher, FeatureTeachers, layer_pairs

if TYPE_CHECKING:
    from torch import Tensor

ROOM = 0.8  # of the free memory
STUDENT_COPIES = (
    6  # weights, gradients, two averages of the optimiser, and as much again for activations
)


def feature_teachers(teachers: Mapping[str, Teacher], student_bytes: int) -> FeatureTeachers:
    """Those of the teachers that give hidden states. Weights are loaded when the first are asked for."""
    local = {name: each for name, each in teachers.items() if isinstance(each, LocalTeacher)}
    taken = sum(teacher.weights_bytes for teacher in local.values())
    together = taken + STUDENT_COPIES * student_bytes <= ROOM * _free_bytes()
    return FeatureTeachers(
        {name: _of(teacher, local, together) for name, teacher in local.items()}, together
    )


def refuse_missing_layers(
    features: FeatureTeachers, layers: Sequence[int | list[int]], student_depth: int
) -> None:
    """Raises FeaturesMissing or NoSuchLayer for states that nobody has."""
    if not features.by_name:
        raise FeaturesMissing(NOBODY)
    for name, teacher in features.by_name.items():
        layer_pairs(layers, student_depth, teacher.depth, name)


def _of(teacher: LocalTeacher, all_: Mapping[str, LocalTeacher], together: bool) -> FeatureTeacher:
    def states(ids_B_T: "Tensor", mask_B_T: "Tensor", layers: Sequence[int]) -> "list[Tensor]":
        if not together:
            for other in all_.values():
                if other is not teacher:
                    other.unload()
        return teacher.hidden_states(ids_B_T, mask_B_T, layers)

    depth, width = teacher.shape()
    return FeatureTeacher(
        teacher.tokenizer(), teacher.system, teacher.context, depth, width, states
    )


def _free_bytes() -> int:
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)
