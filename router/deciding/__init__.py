"""Deciding: which task a prompt is of, how strong each teacher is there, and who answers it."""

from router.deciding.classifier import UNSURE, Label, TaskClassifier, UnusableExamples, fit
from router.deciding.config import RouteConfig, TasksConfig
from router.deciding.explaining import Explanation, Neighbour, explain, nearest
from router.deciding.policy import UnroutableTask, decide
from router.deciding.routes import Route, put_routes, read_routes
from router.deciding.strength import Gain, Strength, estimate, paired_gain, strength

__all__ = [
    "UNSURE",
    "Explanation",
    "Gain",
    "Label",
    "Neighbour",
    "Route",
    "RouteConfig",
    "Strength",
    "TaskClassifier",
    "TasksConfig",
    "UnroutableTask",
    "UnusableExamples",
    "decide",
    "estimate",
    "explain",
    "fit",
    "nearest",
    "paired_gain",
    "put_routes",
    "read_routes",
    "strength",
]
