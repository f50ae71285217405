"""The command line: help with an example for every command, clear errors, documented exit codes."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ledger.store import Ledger
from tests.tutelage.recipes import TEACHER, write_recipe
from tutelage.cli import app

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart"
FEW = {"retries": 0, "max_tokens": 5}


def run(*words: str, cwd: Path, code: int = 0) -> str:
    """Runs the command in a process of its own; returns what it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "tutelage", *words], cwd=cwd, capture_output=True, text=True
    )
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout if code == 0 else ended.stderr


def commands() -> Iterator[tuple[str, Any]]:
    def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for word, child in command.commands.items():
                yield from walk(child, f"{name} {word}".strip())
        else:
            yield name, command

    yield from walk(typer.main.get_command(app), "")


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_command_has_help_with_an_example(name: str, command: Any) -> None:
    assert command.help
    assert (command.epilog or "").startswith(f"Example: tutelage {name}")
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{name}: {parameter.name}"


def test_every_command_is_documented_in_the_readme() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    missing = [name for name, _ in commands() if f"tutelage {name}" not in readme]
    assert not missing


def test_help_is_there_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, tutelage.cli\n"
        "heavy = {'torch', 'transformers', 'trl', 'sklearn', 'litellm', 'duckdb', 'pyarrow', 'scipy',"
        " 'numpy', 'rich.progress'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_init_check_and_plan_work_unedited(tmp_path: Path) -> None:
    assert "wrote my.yaml" in run("init", "my.yaml", cwd=tmp_path)
    assert "is sound" in run("check", "my.yaml", cwd=tmp_path)
    planned = run("plan", "my.yaml", cwd=tmp_path)
    assert "2 teachers x 20 probes" in planned
    assert "Nothing was spent" in planned
    assert not (tmp_path / "runs").exists()
    assert "nothing was written" in run("init", "my.yaml", cwd=tmp_path, code=2)


def test_plan_as_json_counts_calls_tokens_and_usd(tmp_path: Path) -> None:
    priced = {**TEACHER, "price": {"input_usd_per_million": 1.0, "output_usd_per_million": 2.0}}
    write_recipe(tmp_path, teachers={"one": TEACHER, "two": priced}, generate={"max_tokens": 100})
    plan = json.loads(run("plan", "recipe.yaml", "--json", cwd=tmp_path))
    probe = next(stage for stage in plan["stages"] if stage["name"] == "probe")
    assert probe["calls"] == 8
    assert 4 * 100 * 2e-6 < probe["forecast"]["worst"] < 8 * 150 * 2e-6
    assert plan["recipe"]["generate"]["retries"] == 4
    (tmp_path / "full.yaml").write_text(json.dumps(plan["recipe"]))
    run("check", "full.yaml", cwd=tmp_path)  # what plan prints is itself a recipe


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("check", "absent.yaml"), 2, "tutelage init"),
        (("run", "absent.yaml"), 2, "no such file"),
        (("run", "recipe.yaml", "--until", "lunch"), 2, "the stages are classify"),
        (("status", "recipe.yaml"), 2, "has not begun"),
        (("status", "nowhere"), 2, "neither a recipe file nor the folder of a run"),
        (("report", "recipe.yaml"), 2, "has not begun"),
        (("ask", "recipe.yaml", "hi"), 2, "has not begun"),
        (("route", "recipe.yaml", "hi"), 2, "has not begun"),
        (("mix", "preview", "recipe.yaml"), 2, "has not come through"),
        (("audit", "sql", "recipe.yaml", "SELECT 1"), 2, "has not begun"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_errors_say_the_way_out_and_exit_as_documented(
    tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    write_recipe(tmp_path)
    assert said in run(*words, cwd=tmp_path, code=code)


def test_a_package_of_the_same_name_is_named_at_start_up(tmp_path: Path) -> None:
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "__init__.py").write_text("")
    said = run("check", "recipe.yaml", cwd=tmp_path, code=1)
    assert "another package has that name" in said
    assert str(tmp_path / "evals") in said


def test_a_second_run_on_the_same_ledger_is_told_who_holds_it(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    with Ledger(tmp_path / "runs" / "ledger").writing("the first run"):
        said = run("run", "recipe.yaml", "--until", "classify", cwd=tmp_path, code=3)
    assert "is held by process" in said
    assert "the first run" in said


def test_a_run_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_recipe(tmp_path, run="blocked/run")
    (tmp_path / "blocked").write_text("a file where a folder should be")
    said = run("run", "recipe.yaml", "--until", "classify", cwd=tmp_path, code=2)
    assert "blocked/run cannot be written" in said


@pytest.fixture
def locked_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write into; root is stopped by the immutable flag."""
    folder = tmp_path / "locked"
    folder.mkdir()
    flagged = os.geteuid() == 0
    if flagged and subprocess.run(["chattr", "+i", folder], capture_output=True).returncode:
        pytest.skip("root writes everywhere on this file system: it has no immutable flag")
    if not flagged:
        folder.chmod(0o500)
    yield folder
    if flagged:
        subprocess.run(["chattr", "-i", folder], check=True)
    folder.chmod(0o700)


def test_a_run_folder_without_write_permission_is_named(
    tmp_path: Path, locked_folder: Path
) -> None:
    write_recipe(tmp_path, run="locked/run")
    said = run("run", "recipe.yaml", "--until", "classify", cwd=tmp_path, code=2)
    assert "locked/run cannot be written" in said
    assert "give another with --run" in said


def test_a_ledger_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    with Ledger(tmp_path / "runs" / "ledger").writing("an older Tutelage"):
        pass
    with sqlite3.connect(tmp_path / "runs" / "ledger" / "inbox.sqlite") as db:
        db.execute("PRAGMA user_version=99")
    said = run("run", "recipe.yaml", "--until", "classify", cwd=tmp_path, code=1)
    assert "schema version 99" in said


def test_a_broken_prompt_line_stops_before_anything_is_spent(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    with (tmp_path / "prompts.jsonl").open("a") as file:
        file.write("{broken\n")
    said = run("run", "recipe.yaml", cwd=tmp_path, code=2)
    assert "prompts.jsonl:45" in said
    assert not (tmp_path / "runs" / "ledger" / "ledger.duckdb").exists()


def test_a_teacher_that_is_down_or_lacks_its_key_stops_before_it_is_routed_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    up = {"local": str(QUICKSTART / "generalist"), "licence": "Apache-2.0"}
    write_recipe(tmp_path, teachers={"up": up, "down": TEACHER}, generate=FEW)
    said = run("run", "recipe.yaml", "--until", "route", cwd=tmp_path, code=1)
    assert "teacher down answered none of its prompts (connection_refused" in said
    keyed = {"litellm": "openai/gpt-4o-mini", "licence": "x", "api_key_env": "NOT_SET_ANYWHERE"}
    write_recipe(tmp_path, teachers={"one": keyed})
    assert "NOT_SET_ANYWHERE" in run("run", "recipe.yaml", cwd=tmp_path, code=2)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    write_recipe(tmp_path, teachers={"one": {"litellm": "openai/gpt-4o-mini", "licence": "x"}})
    assert "OPENAI_API_KEY" in run("run", "recipe.yaml", cwd=tmp_path, code=2)
    assert "OPENAI_API_KEY" in run("check", "recipe.yaml", cwd=tmp_path)


def test_check_and_plan_reach_for_no_model_hub(tmp_path: Path) -> None:
    """A hub id that is not in the cache is said; not even an unreachable hub is asked."""
    write_recipe(tmp_path, student={"base": "nobody/nothing"})
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    for word in ("check", "plan"):
        ended = subprocess.run(
            [sys.executable, "-m", "tutelage", word, "recipe.yaml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**environment, "HF_ENDPOINT": "http://127.0.0.1:8", "HF_HOME": str(tmp_path)},
        )
        assert ended.returncode == 0, ended.stderr
        assert "127.0.0.1:8" not in ended.stdout + ended.stderr
    assert "hf download nobody/nothing" in run("check", "recipe.yaml", cwd=tmp_path)


def test_shares_beyond_the_prompts_are_said_by_check_and_plan(tmp_path: Path) -> None:
    write_recipe(
        tmp_path, mix={"unit": "samples", "total": 16, "shares": {"red": 0.9, "blue": 0.1}}
    )
    for word in ("check", "plan"):
        said = run(word, "recipe.yaml", cwd=tmp_path)
        assert "red needs 14 different answers at least, and 13 prompts are there" in " ".join(
            said.split()
        )


def test_an_unknown_task_is_named_with_its_line(tmp_path: Path) -> None:
    write_recipe(tmp_path, mix={"unit": "samples", "total": 9, "shares": {"redd": 1}})
    assert "recipe.yaml:24: mix: shares name task 'redd'" in run(
        "check", "recipe.yaml", cwd=tmp_path, code=2
    )
    fixed = {"policy": "fixed", "to": {"greem": "one"}}
    write_recipe(tmp_path, route=fixed)
    said = run("check", "recipe.yaml", cwd=tmp_path, code=2)
    assert "recipe.yaml:31: route.to.greem: there is no task 'greem' to route" in said


def test_a_local_teacher_that_does_not_exist_is_named(tmp_path: Path) -> None:
    write_recipe(tmp_path, teachers={"one": {"local": "no/such/folder", "licence": "x"}})
    assert "no/such/folder" in run("run", "recipe.yaml", cwd=tmp_path, code=2)
    assert not (tmp_path / "runs").exists()


def test_a_base_that_does_not_exist_is_named_before_anything_is_spent(tmp_path: Path) -> None:
    write_recipe(tmp_path, student={"base": "./no-base"})
    assert "student.base './no-base'" in run("run", "recipe.yaml", cwd=tmp_path, code=2)
    assert not (tmp_path / "runs").exists()


def test_check_names_an_embedder_and_a_base_that_are_not_there(tmp_path: Path) -> None:
    tasks = {"embedding": "package:nix", "examples": {"hold_out": 5}}
    write_recipe(tmp_path, tasks=tasks, student={"base": "./no-base"})
    said = run("check", "recipe.yaml", cwd=tmp_path)
    assert "no embedder package 'nix'" in said
    assert "student.base './no-base'" in said


def test_a_mix_that_the_prompts_cannot_fill_is_refused_by_check(tmp_path: Path) -> None:
    write_recipe(tmp_path, mix={"unit": "samples", "total": 5000})
    assert "there are 26 prompts to train on" in run("check", "recipe.yaml", cwd=tmp_path, code=2)


def test_shares_that_no_mix_can_meet_are_refused_by_check(tmp_path: Path) -> None:
    shares = {"red": {"share": 0.5, "max_samples": 2}, "blue": 0.5}
    write_recipe(tmp_path, mix={"unit": "samples", "total": 10, "shares": shares})
    assert "max_samples" in run("check", "recipe.yaml", cwd=tmp_path, code=2)
