"""Tutelage: many teachers, one student.

    from tutelage import run_recipe
    result = run_recipe("recipes/quickstart.yaml")

Every command of the command line is one of these functions. Names are imported when first used, so
that `import tutelage` stays light.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "init_recipe": "tutelage.starting",
    "load_recipe": "tutelage.recipe",
    "check_recipe": "tutelage.planning",
    "plan_recipe": "tutelage.planning",
    "run_recipe": "tutelage.pipeline",
    "run_status": "tutelage.status",
    "write_report": "tutelage.status",
    "list_failures": "tutelage.failing",
    "retry_recipe": "tutelage.failing",
    "list_batches": "tutelage.batching",
    "cancel_batches": "tutelage.batching",
    "preview_mix": "tutelage.previewing",
    "explain_route": "tutelage.asking",
    "ask": "tutelage.asking",
    "advise": "tutelage.advising",
    "compare_runs": "tutelage.comparing",
    "gate_run": "tutelage.comparing",
    "audit_sample": "tutelage.auditing",
    "audit_student": "tutelage.auditing",
    "audit_teacher": "tutelage.auditing",
    "audit_sql": "tutelage.auditing",
    "audit_verify": "tutelage.auditing",
    "diagnose": "tutelage.doctor",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tutelage' has no attribute {name!r}")
