"""What can go wrong with a teacher.

TeacherError
├── TeacherUnavailable   it cannot be opened: no such folder, no safetensors, an unset key
└── CallError            one call gave no usable answer: it is repeated, or its requests end
"""

from ledger.errors import TutelageError
from router.teachers.allowance import Allowance

# Classes of errors that say that a teacher is asked more than it can do.
LOAD = frozenset({"rate_limited", "unavailable", "deadline"})


class TeacherError(TutelageError):
    """Base of every error that a teacher raises."""


class TeacherUnavailable(TeacherError):
    """The teacher cannot be used until something outside is put right."""

    exit_code = 2


class CallError(TeacherError):
    """One call that gave no usable answer.

    `transient`: trying again may help. `fatal`: no call to this teacher can succeed before someone
    changes something (a key, a URL), so the rest need not be tried. `state` is how a request ends
    with it: `failed` (no answer came) or `invalid` (an answer came that cannot be used).
    `charged_usd` is what the provider bills for the call, None where that cannot be known.
    `allowance` is what its headers leave to be sent.
    """

    def __init__(
        self,
        error_class: str,
        message: str,
        *,
        transient: bool = False,
        fatal: bool = False,
        state: str = "failed",
        retry_after_s: float | None = None,
        charged_usd: float | None = 0.0,
        allowance: Allowance | None = None,
    ) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.transient = transient
        self.fatal = fatal
        self.state = state
        self.retry_after_s = retry_after_s
        self.charged_usd = charged_usd
        self.allowance = allowance

    @property
    def load(self) -> bool:
        """Whether the teacher is asked more than it can do."""
        return self.error_class in LOAD
