"""The documents keep up with the code: each command, recipe key, target and link."""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import typer

from ledger.schema import TABLES, Table
from tests.house.tree import ROOT, files
from tutelage.cli import app
from tutelage.recipe import Recipe
from tutelage.reference import render, undescribed

PAGES = ("concepts", "recipe", "buying", "ledger", "benchmarks")
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def commands() -> Iterator[tuple[str, Any]]:
    """(name as typed, command) of every command."""

    def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):  # a group
            for child in command.commands.values():
                yield from walk(child, f"{name} {child.name}".strip())
        else:
            yield name, command

    yield from walk(typer.main.get_command(app), "")


@cache
def text_of_docs() -> str:
    return "\n".join(path.read_text("utf-8") for path in files(".md"))


def test_the_recipe_reference_is_what_the_models_say() -> None:
    page = (ROOT / "docs" / "recipe.md").read_text("utf-8")
    assert page == render(Recipe), "docs/recipe.md is out of date: run `make docs`"


def test_every_recipe_key_is_described() -> None:
    assert undescribed(Recipe) == []


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_command_has_help_with_an_example_and_stands_in_the_documents(
    name: str, command: Any
) -> None:
    assert command.help
    assert f"tutelage {name}" in (command.epilog or "") + command.help
    assert f"tutelage {name}" in text_of_docs()


@pytest.mark.parametrize("page", PAGES)
def test_the_four_pages_exist(page: str) -> None:
    assert (ROOT / "docs" / f"{page}.md").read_text("utf-8").startswith("# ")


def test_links_between_files_lead_somewhere() -> None:
    broken = []
    for page in files(".md"):
        for match in LINK.finditer(page.read_text("utf-8")):
            target = next(filter(None, match.groups())).split("#")[0]
            if target and "://" not in target and not target.startswith("mailto:"):
                place = (page.parent / target).resolve()
                if not place.exists() and not target.startswith("runs/"):
                    broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []


def test_every_target_of_make_is_listed_and_known_to_make() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = {line.split(":")[0] for line in text.splitlines() if re.match(r"[a-z0-9-]+:", line)}
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r"^  make (\S+)", listed.stdout, re.MULTILINE)) == targets
    phony = text.split(".PHONY:")[1].split("\n")[0].split()
    assert set(phony) == targets
    assert {"quickstart", "test", "test-all", "lint", "bench", "quickstart-assets"} <= targets
    for target in targets:
        subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=True)


def test_the_readme_shows_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "make quickstart" in readme
    assert "make test" in readme


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_every_table_of_the_ledger_is_documented_with_its_columns(table: Table) -> None:
    text = (ROOT / "docs" / "ledger.md").read_text().partition("## Tables")[2]
    lines = [line for line in text.splitlines() if line.startswith(f"| `{table.name}` |")]
    assert len(lines) == 1
    words = re.sub(r"\([^)]*\)|`[^`]*` \|", "", lines[0]).strip("| ").split(", ")
    assert [word.strip() for word in words] == [column.name for column in table.columns]
