"""The source tree as these tests read it: files that git would carry, modules, and what they import."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("ledger", "router", "mixer", "trainer", "evals", "tutelage")
# What a clone never holds; asked only where there is no git.
IGNORED = {".venv", ".cache", "runs", "build", "__pycache__", ".git", ".mypy_cache", ".ruff_cache"}
IGNORED |= {".pytest_cache", ".hypothesis", "tutelage.egg-info"}


def files(*suffixes: str) -> list[Path]:
    """Every file that is committed, or would be by `git add .`, with one of the suffixes (or any)."""
    return [path for path in _all_files() if not suffixes or path.suffix in suffixes]


@cache
def _all_files() -> tuple[Path, ...]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        found = [p for p in ROOT.rglob("*") if not IGNORED & set(p.relative_to(ROOT).parts)]
    return tuple(sorted(path for path in found if path.is_file()))


@dataclass(frozen=True)
class Module:
    """One Python file with its dotted name."""

    name: str
    path: Path
    is_package: bool

    @property
    def where(self) -> str:
        return str(self.path.relative_to(ROOT))

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text("utf-8"), filename=self.where)


def modules(*tops: str) -> list[Module]:
    """The modules below the top-level folders `tops`."""
    found = []
    for path in files(".py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] in tops and len(parts) > 1:
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            found.append(Module(name, path, is_package))
    return found


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything imported, inside functions too.

    `from a import b` gives `a.b`, since b may be a module; constant `import_module("a.b")` counts.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _is_import_call(node.func) and node.args:
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield node.lineno, argument.value


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *(node.module or "").split(".")]).rstrip(".")


def is_below(name: str, room: str) -> bool:
    """Whether a dotted name is `room` or inside it."""
    return name == room or name.startswith(f"{room}.")
