"""What can go wrong in training. Each message names the value, the rule and the way out.

InputError
├── BadBase             the student's base cannot be used
│   └── BaseMissing     it is not on this machine
├── FeaturesMissing     no teacher gives the hidden states that the signal asks for
├── NotMeasured         no step can be timed, or none ends
├── NoSuchLayer         the recipe names a layer that a model does not have
├── TensorBoardMissing  what writes for TensorBoard is not installed
└── TemplateError       the base's chat template cannot be trained through
TutelageError
├── NothingToTrain      no sample of the mix fits the student
├── Diverged            the loss is no number, or stays far above its beginning
├── OutOfMemory         a step does not fit into the memory
└── StudentExists       the student's folder holds another student
"""

from ledger.errors import InputError, TutelageError
from trainer.signals.hard import TemplateError

__all__ = [
    "BadBase",
    "BaseMissing",
    "Diverged",
    "FeaturesMissing",
    "NoSuchLayer",
    "NotMeasured",
    "NothingToTrain",
    "OutOfMemory",
    "StudentExists",
    "TemplateError",
    "TensorBoardMissing",
]


class BadBase(InputError):
    """`student.base` names no model that can be loaded here."""


class BaseMissing(BadBase):
    """`student.base` names a model that is not on this machine, or not yet."""


class FeaturesMissing(InputError):
    """The student is to learn from hidden states, and no teacher gives any, or none at the student's tokens."""


class NotMeasured(InputError):
    """No step of the student's training can be timed: what it is made of does not go, or takes too long."""


class NoSuchLayer(InputError):
    """`student.feature.layers` names a layer beyond a model's last."""


class TensorBoardMissing(InputError):
    """`student.tensorboard` is set, and nothing that writes for it is installed."""


class NothingToTrain(TutelageError):
    """No sample, or too few, fits into the student's context."""


class Diverged(TutelageError):
    """The loss or a weight is no number any more, or the cross-entropy grew and stayed beyond use."""


class OutOfMemory(TutelageError):
    """A step of the training does not fit into the machine's, or its GPU's, memory."""


class StudentExists(TutelageError):
    """The folder for the student holds something else."""
