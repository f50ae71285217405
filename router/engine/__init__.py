"""The engine: buys every answer once, within limits of time, money and patience."""

from router.engine.budget import NoBudget, UnknownPrice
from router.engine.buy import buy, call_off
from router.engine.config import GenerateConfig
from router.engine.forecast import Forecast, forecast, together
from router.engine.parcels import AtProvider, BatchesOpen, at_providers
from router.engine.progress import Failure, Progress, Purchase, TeacherProgress
from router.engine.requests import (
    BoughtAnswer,
    Request,
    answers,
    came_to_nothing,
    sampling_of,
    unbought,
)

__all__ = [
    "AtProvider",
    "BatchesOpen",
    "BoughtAnswer",
    "Failure",
    "Forecast",
    "GenerateConfig",
    "NoBudget",
    "Progress",
    "Purchase",
    "Request",
    "TeacherProgress",
    "UnknownPrice",
    "answers",
    "at_providers",
    "buy",
    "call_off",
    "came_to_nothing",
    "forecast",
    "sampling_of",
    "together",
    "unbought",
]
