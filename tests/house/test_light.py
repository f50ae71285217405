"""Importing a room, or asking for help, loads no library of weight."""

import importlib.util
import resource
import subprocess
import sys

import pytest

from tests.house.tree import ROOMS, ROOT

HEAVY = [
    *["accelerate", "aiohttp", "datasets", "duckdb", "litellm", "matplotlib", "openai"],
    *["pandas", "peft", "pyarrow", "reasoning_gym", "scipy", "sentence_transformers", "sklearn"],
    *["statsmodels", "torch", "transformers", "trl"],
]
PACKAGES = [
    ".".join(init.parent.relative_to(ROOT).parts)
    for room in ROOMS
    for init in sorted((ROOT / room).rglob("__init__.py"))
]
CONFIGS = [
    ".".join(config.relative_to(ROOT).with_suffix("").parts)
    for room in ROOMS
    for config in sorted((ROOT / room).rglob("config.py"))
]
HELP_CPU_S = 0.5


def heavy_after(statement: str) -> list[str]:
    """Heavy libraries that a fresh interpreter holds after a statement."""
    code = f"import sys\n{statement}\nprint(*sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout.split()


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_is_light(package: str) -> None:
    assert heavy_after(f"import {package}") == []


def test_importing_every_recipe_section_is_light() -> None:
    assert heavy_after(f"import {', '.join(CONFIGS)}") == []


@pytest.mark.skipif(importlib.util.find_spec("tutelage.cli") is None, reason="no command yet")
def test_help_takes_half_a_second_of_cpu_at_most() -> None:
    spent = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "tutelage", "--help"]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < HELP_CPU_S
