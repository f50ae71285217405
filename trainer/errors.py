"""What can go wrong in training. Each message names the value, the rule and the way out.

InputError
├── BadBase          the student's base cannot be found or used
└── TemplateError    the base's chat template cannot be trained through
TutelageError
├── NothingToTrain   no sample of the mix fits the student
├── Diverged         the loss is no longer a number
└── StudentExists    the student's folder holds another student
"""

from ledger.errors import InputError, TutelageError
from trainer.signals.hard import TemplateError

__all__ = ["BadBase", "Diverged", "NothingToTrain", "StudentExists", "TemplateError"]


class BadBase(InputError):
    """`student.base` names no model that can be loaded here."""


class NothingToTrain(TutelageError):
    """No sample, or too few, fits into the student's context."""


class Diverged(TutelageError):
    """The loss became NaN or infinite; the newest checkpoint is from before that."""


class StudentExists(TutelageError):
    """The folder for the student holds something else."""
