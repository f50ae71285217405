"""Our recipes with their models at their places, and what is said of its students over seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import t as student_t

RECIPES = Path(__file__).parents[1] / "recipes"


def recipe_fields(name: str = "quickstart") -> dict[str, Any]:
    """The fields of one of our recipes on local models, to be changed and written anywhere."""
    fields: dict[str, Any] = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    for source in fields["prompts"]:
        if "except" in source:
            source["except"] = str(RECIPES / source["except"])
    for teacher in fields["teachers"].values():
        for key in {"local", "adapter"} & teacher.keys():
            teacher[key] = str(RECIPES / teacher[key])
    fields["student"]["base"] = str(RECIPES / fields["student"]["base"])
    return fields


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean with a 95 % t interval over seeds."""
    mean, half = float(np.mean(values)), 0.0
    if len(values) > 1:
        spread = float(np.std(values, ddof=1)) / len(values) ** 0.5
        half = float(student_t.ppf(0.975, len(values) - 1)) * spread
    return {"mean": round(mean, 4), "lo": round(mean - half, 4), "hi": round(mean + half, 4)}
