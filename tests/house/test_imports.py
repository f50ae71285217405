"""Which way imports run: each room may import what the table names, and nothing upwards or sideways."""

import sys

import pytest

from tests.house.tree import ROOMS, ROOT, Module, imports, is_below, modules

ALL = ("ledger", "router", "mixer", "trainer", "evals")
# room -> what it may import besides itself. Rooms inside rooms stand before the room around them.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "ledger": (),
    "router.embedding": ("ledger",),
    "router.teachers": ("ledger",),
    "router.engine": ("ledger", "router.teachers"),
    "router.deciding": ("ledger", "router.embedding"),
    "mixer": ("ledger",),
    "trainer.signals": ("ledger",),
    "trainer": ("ledger", "trainer.signals"),
    "evals": (
        "ledger",
        "router.embedding",
        "router.teachers",
        "router.engine",
        "trainer.signals",
    ),
    "tutelage": ALL,
}
CONFIG_MAY_IMPORT = ("pydantic", "ledger.section", "typing_extensions")
LEAVES = ("recipes", "benchmarks", "tests", "tools")
HOUSE = modules(*ROOMS)


def room_of(name: str) -> str | None:
    """The room that a module or import belongs to, the innermost one."""
    return next((room for room in MAY_IMPORT if is_below(name, room)), None)


def allowed(room: str, imported: str) -> bool:
    """Whether a module of `room` may import `imported`, a name of ours."""
    return any(is_below(imported, other) for other in (room, *MAY_IMPORT[room]))


def complaints(module: Module) -> list[str]:
    """Imports of a module that run against the table."""
    room = room_of(module.name)
    found = []
    for line, name in imports(module):
        if name.split(".")[0] in LEAVES:
            found.append(f"{module.where}:{line} imports {name}: {', '.join(LEAVES)} are leaves")
        elif name.split(".")[0] in ROOMS and (room is None or not allowed(room, name)):
            found.append(f"{module.where}:{line} imports {name}, which {room} may not")
    return found


@pytest.mark.parametrize("module", HOUSE, ids=lambda m: m.name)
def test_imports_follow_the_table(module: Module) -> None:
    if module.name != "router":
        assert room_of(module.name), f"{module.where} is in no room of the table"
    assert complaints(module) == []


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_every_room_of_the_table_is_a_package(room: str) -> None:
    folder = ROOT / room.replace(".", "/")
    assert (folder / "__init__.py").is_file()


def test_router_itself_is_empty() -> None:
    init = ROOT / "router" / "__init__.py"
    assert init.read_text("utf-8").strip() == ""
    assert [m.where for m in HOUSE if m.name.count(".") == 1 and is_below(m.name, "router")] == [
        f"router/{room.split('.')[1]}/__init__.py"
        for room in sorted(MAY_IMPORT)
        if room.startswith("router.")
    ]


@pytest.mark.parametrize(
    "module", [m for m in HOUSE if m.name.endswith(".config")], ids=lambda m: m.name
)
def test_a_recipe_section_imports_pydantic_and_the_section_alone(module: Module) -> None:
    for line, name in imports(module):
        standard = name.split(".")[0] in sys.stdlib_module_names
        assert standard or any(is_below(name, one) for one in CONFIG_MAY_IMPORT), (
            f"{module.where}:{line} imports {name}"
        )


@pytest.mark.parametrize(
    "module", [m for m in HOUSE if is_below(m.name, "trainer.signals")], ids=lambda m: m.name
)
def test_signals_know_nothing_of_trl(module: Module) -> None:
    assert [name for _, name in imports(module) if is_below(name, "trl")] == []


@pytest.mark.parametrize(
    ("room", "imported", "may"),
    [
        ("mixer", "ledger.mixes.write_mix", True),
        ("mixer", "router.teachers.Teacher", False),
        ("mixer", "trainer", False),
        ("router.engine", "router.teachers.protocol.Teacher", True),
        ("router.engine", "router.deciding", False),
        ("router.teachers", "router.engine.buy", False),
        ("evals", "router.deciding", False),
        ("evals", "trainer.signals.hard", True),
        ("evals", "trainer.run", False),
        ("ledger", "tutelage", False),
        ("tutelage", "router.deciding.decide", True),
    ],
)
def test_the_table_is_read_as_it_is_meant(room: str, imported: str, may: bool) -> None:
    assert allowed(room, imported) is may


def test_relative_and_function_level_imports_are_seen() -> None:
    source = ROOT / "tests" / "house" / "test_imports.py"
    module = Module("mixer.inner.part", source, is_package=False)
    names = {name for _, name in imports(module)}
    assert "tests.house.tree.Module" in names
    assert _names("from ..plan import needs", "mixer.inner.part") == {"mixer.plan.needs"}
    assert _names("def f():\n  from . import plan", "mixer.inner") == {"mixer.plan"}
    assert _names("import importlib\nimportlib.import_module('evals')", "mixer") == {
        "importlib",
        "evals",
    }


def _names(source: str, name: str) -> set[str]:
    import ast

    class Made(Module):
        @property
        def tree(self) -> ast.Module:
            return ast.parse(source)

    return {found for _, found in imports(Made(name, ROOT, is_package=False))}
