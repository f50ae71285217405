"""Teachers: models that answer prompts, behind one protocol."""

from router.teachers.config import Price, TeacherConfig
from router.teachers.errors import CallError, TeacherError, TeacherUnavailable
from router.teachers.opening import open_local, open_teacher
from router.teachers.protocol import Answer, Sampling, Teacher, register

__all__ = [
    "Answer",
    "CallError",
    "Price",
    "Sampling",
    "Teacher",
    "TeacherConfig",
    "TeacherError",
    "TeacherUnavailable",
    "open_local",
    "open_teacher",
    "register",
]
