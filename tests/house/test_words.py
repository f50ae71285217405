"""What must not stand in the repository: machine paths, registries, dangerous switches, leftovers."""

import ast
import re
from functools import cache

import pytest

from tests.house.tree import ROOT, files, imports, modules

TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".jsonl", ".html", ".css", ".sh"}
TEXT |= {".j2", ".cfg", ".ini", ".in", ""}
# Each is written in two pieces, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a path of one machine": "|".join(
        ["/wor" + "k/", "/opt/whe" + "els", "/opt/py" + "pi", "/ro" + "ot/"]
    ),
    "a folder outside the repository": r"\.\./sha" + "red",
    "a package registry's host": "|".join(
        [
            r"pypi\.o" + "rg",
            "pythonhos" + r"ted\.org",
            r"npmjs\.o" + "rg",
            r"download\.pyto" + "rch",
        ]
    ),
    "a tracker's number": r"\b[Ii]ssue [3-7]" + r"\b",
    "a note to self": r"\b(TO" + "DO|FIX" + "ME|XX" + r"X|HA" + r"CK)\b",
    "remote code": "trust_remote_code" + r"\s*[=:]\s*True",
}
SOURCE = modules(
    "ledger", "router", "mixer", "trainer", "evals", "tutelage", "recipes", "benchmarks"
)
ROOMS = modules("ledger", "router", "mixer", "trainer", "evals")
# Children that speak to their parent through standard output.
SPEAKING = {"evals.speed_child"}


@cache
def texts() -> dict[str, str]:
    """Path -> content of every text file."""
    return {
        str(path.relative_to(ROOT)): path.read_text("utf-8", errors="replace")
        for path in files()
        if path.suffix in TEXT
    }


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = []
    for path, text in texts().items():
        if pattern.search(text):  # most files hold none of it
            lines = enumerate(text.splitlines(), 1)
            found += [f"{path}:{n}: {line[:90]}" for n, line in lines if pattern.search(line)]
    assert found == []


SANDBOX = "evals/scorers/sandbox.py"  # runs answers that are programs, where they do no harm


def test_no_module_unpickles_or_evaluates() -> None:
    found = []
    for module in SOURCE:
        found += [
            f"{module.where}:{line} imports {name}"
            for line, name in imports(module)
            if name.split(".")[0] in ("pickle", "cloudpickle", "dill", "joblib", "shelve")
        ]
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "exec"):
                found.append(f"{module.where}:{node.lineno} calls {ast.unparse(node.func)}")
            if isinstance(node, ast.keyword) and node.arg == "shell":
                found.append(f"{module.where}:{node.value.lineno} runs a shell")
    assert [each for each in found if not each.startswith(SANDBOX)] == []


def test_rooms_never_print() -> None:
    found = [
        f"{module.where}:{node.lineno}"
        for module in ROOMS
        if module.name not in SPEAKING
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "input")
    ]
    assert found == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        module.where
        for module in [*SOURCE, *modules("tests", "tools")]
        if module.path.read_text("utf-8").strip() and not ast.get_docstring(module.tree)
    ]
    assert silent == []


def test_no_file_is_too_big_for_a_clone() -> None:
    big = [str(p.relative_to(ROOT)) for p in files() if p.stat().st_size > 5_000_000]
    assert big == []
