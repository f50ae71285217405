"""The engine: buys every answer once, within limits of time, money and patience."""

from router.engine.budget import NoBudget, UnknownPrice
from router.engine.buy import buy
from router.engine.config import GenerateConfig
from router.engine.progress import Failure, Progress, Purchase, TeacherProgress
from router.engine.requests import (
    BoughtAnswer,
    Request,
    answers,
    came_empty,
    sampling_of,
    unbought,
)

__all__ = [
    "BoughtAnswer",
    "Failure",
    "GenerateConfig",
    "NoBudget",
    "Progress",
    "Purchase",
    "Request",
    "TeacherProgress",
    "UnknownPrice",
    "answers",
    "buy",
    "came_empty",
    "sampling_of",
    "unbought",
]
