"""The quickstart, small: its real teachers and base, few prompts, a short training."""

from pathlib import Path
from typing import Any

import yaml

RECIPES = Path(__file__).parents[2] / "recipes"
TASKS = ("caesar_cipher", "chain_sum", "spell_backward")


def small_fields(**changes: Any) -> dict[str, Any]:
    """The quickstart's recipe with less of everything; `changes` replace top-level keys."""
    fields: dict[str, Any] = yaml.safe_load((RECIPES / "quickstart.yaml").read_text())
    for source in fields["prompts"]:
        source["count"] = 120
        if "except" in source:
            source["except"] = str(RECIPES / source["except"])
    for teacher in fields["teachers"].values():
        teacher["local"] = str(RECIPES / teacher["local"])
        teacher["batch_size"] = 16
    fields["student"] |= {
        "base": str(RECIPES / "quickstart" / "base"),
        "epochs": 2,
        "batch_size": 8,
    }
    fields["student"]["checkpoint_every"] = 5
    fields |= {
        "run": "runs/small",
        "probes": {"hold_out": 30, "scorer": "reasoning_gym"},
        "mix": {"unit": "samples", "total": 90, "drop": ["empty", "truncated", "duplicate"]},
        "evaluate": {"hold_out": 12, "speed": {"prompts": 0}},
    }
    fields["tasks"]["examples"] = {"hold_out": 8}
    return {**fields, **changes}


def write_small(folder: Path, **changes: Any) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(small_fields(**changes), sort_keys=False))
    return path
