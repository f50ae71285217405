"""Deciding: which task a prompt is of, how strong each teacher is there, and who answers it."""

from router.deciding.allocation import contested, next_round
from router.deciding.classifier import UNSURE, Label, TaskClassifier, UnusableExamples, fit
from router.deciding.config import RouteConfig, TasksConfig
from router.deciding.discovery import (
    Discovered,
    NothingToDiscover,
    Split,
    discover,
    from_descriptions,
)
from router.deciding.explaining import Explanation, NearProbe, explain, nearest
from router.deciding.exploring import drawn
from router.deciding.local import LocalModel, fit_local
from router.deciding.pareto import Choice, front
from router.deciding.policy import UnroutableTask, decide, strengths_of, utilities
from router.deciding.router import DamagedRouter, Probed, Router, fit_router
from router.deciding.routes import (
    PromptRoute,
    Route,
    put_routes,
    read_prompt_routes,
    read_routes,
)
from router.deciding.strata import strata_of
from router.deciding.strength import Gain, Strength, paired_gain, strength
from router.deciding.terms import names_of, terms_of

__all__ = [
    "UNSURE",
    "Choice",
    "front",
    "DamagedRouter",
    "Discovered",
    "NothingToDiscover",
    "Split",
    "discover",
    "from_descriptions",
    "names_of",
    "terms_of",
    "utilities",
    "Explanation",
    "Gain",
    "Label",
    "LocalModel",
    "NearProbe",
    "Probed",
    "PromptRoute",
    "Route",
    "RouteConfig",
    "Router",
    "Strength",
    "TaskClassifier",
    "TasksConfig",
    "UnroutableTask",
    "UnusableExamples",
    "contested",
    "decide",
    "drawn",
    "explain",
    "fit",
    "fit_local",
    "fit_router",
    "nearest",
    "next_round",
    "paired_gain",
    "put_routes",
    "read_prompt_routes",
    "read_routes",
    "strata_of",
    "strength",
    "strengths_of",
]
