"""The stages that buy, against a server on loopback: what they ask for, and what becomes of it."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.server import Call, FaultServer, Reply, content
from tests.tutelage.recipes import TEACHER, write_recipe
from tutelage import audit_sql, run_recipe

BASE = str(Path(__file__).parents[2] / "recipes" / "quickstart" / "base")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    """A teacher that answers each call in its own words; the working directory is a new one."""
    before = Path.cwd()
    os.chdir(tmp_path)
    with FaultServer(rule=in_own_words) as running:
        yield running
    os.chdir(before)


def in_own_words(call: Call) -> Reply:
    return content(f"{call.prompt}: answer {call.body.get('seed', 0)}")


def recipe(folder: Path, server: FaultServer, **changes: Any) -> Path:
    """Two tasks of 20 prompts, one teacher, a mix of 10."""
    teachers = {"one": {**TEACHER, "url": server.url}}
    student = {"base": BASE, "licence": "Apache-2.0"}
    return write_recipe(folder, **{"teachers": teachers, "student": student, **changes})


def test_each_prompt_gets_n_answers_and_no_more_are_bought_than_the_mix_takes(
    server: FaultServer, tmp_path: Path
) -> None:
    drawn = {"temperature": 0.7, "seed": 3, "n": 2}
    result = run_recipe(recipe(tmp_path, server, generate=drawn), until="mix")
    assert result["stages"]["generate"]["taken"] == {"blue": 5, "red": 5}
    rows = audit_sql(
        Path("runs/test"),
        "SELECT prompt, count(*), count(DISTINCT n) FROM request WHERE stage = 'generate' GROUP BY 1",
    )[1]
    assert Counter(count for _, count, _ in rows) == {
        2: 4,
        1: 2,
    }  # the fifth of a task is one's first
    assert result["stages"]["mix"]["distinct"] == 10
