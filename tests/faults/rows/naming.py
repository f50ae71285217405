"""Rows 12 and 16: one poisoned line among many, and names that would be paths elsewhere."""

import json
import os
from pathlib import Path
from typing import Any

from ledger.store import Ledger
from tests.faults.server import Call, FaultServer, Reply, body, content
from tests.faults.suite import Found, row
from tests.tutelage.recipes import TEACHER, rows, write_recipe
from tutelage.pipeline import run_recipe
from tutelage.recipe import RecipeError, load_recipe
from tutelage.tasking import show_tasks
from tutelage.workspace import open_run

BASE = str(Path(__file__).parents[3] / "recipes" / "quickstart" / "base")
POISON = (
    "{",
    "[" * 100_000,
    '{"prompt": 7}',
    '{"prompt": "a", "messages": [{"role": "nobody", "content": 1}]}',
    json.dumps({"prompt": "lone \ud800 surrogate"}),
    json.dumps({"prompt": "NUL \x00 ESC \x1b[31m bidi \u202e"}),
    json.dumps({"prompt": "long " * 150_000}),
)
PATHS = ("..", "../../evil", "/tmp/evil", "a/../../evil", "~/evil", "nul\x00byte", "con:")
WORDS = ("link", "-rf")  # names like any other, of which no path is made


def _run(folder: Path, server: FaultServer, poison: str | None, **changes: Any) -> Path:
    """Runs 100 prompts of two tasks as far as the mix, with a poisoned line in the middle."""
    changes = {
        "run": str(folder / "runs" / "test"),
        "teachers": {"one": {**TEACHER, "url": server.url}},
        "student": {"base": BASE, "licence": "Apache-2.0"},
        "on_bad_row": "skip",
        "mix": {"unit": "samples", "total": 60},
        **changes,
    }
    path = write_recipe(folder, rows(50), **changes)
    file = folder / "prompts.jsonl"
    lines = file.read_text("utf-8").splitlines()
    lines[50:50] = [poison] if poison else []
    file.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    run_recipe(path, until="mix")
    return folder / "runs" / "test"


@row(12, "one poisoned row among 100", slow=True)
def poisoned(folder: Path) -> Found:
    """A poisoned prompt, and a poisoned answer to a probe: all others are labelled, routed and mixed."""

    def rule(call: Call) -> Reply:
        poisoned_probe = call.prompt.endswith(" 7")
        return body(b"<html>\xff", type_="html") if poisoned_probe else content(f"{call.prompt}!")

    lost = 0
    for number, poison in enumerate(POISON):
        place = folder / str(number)
        place.mkdir()
        with FaultServer(rule=rule) as server:
            run = _run(place, server, poison)
        ledger = Ledger(run.parent / "ledger")
        labelled = {key for (key,) in ledger.rows(
            "SELECT p.key FROM label l JOIN prompt p ON l.prompt = p.id")}  # fmt: skip
        workspace = open_run(run)
        sound = [i for i in workspace.pools.train if " question " in i.prompt.text]
        lost += sum(item.prompt.key not in labelled for item in sound)
        lost += 100 - 10 - 4 - 4 - len(sound)
        lost += max(0, 60 - workspace.outputs["mix"]["samples"])
    return Found(f"{lost} of {len(POISON)} x 100 other rows lost", "0", lost == 0)


@row(16, "names that would be paths", slow=True)
def paths(folder: Path) -> Found:
    """As names of teachers and recipes they are refused; as names of tasks they stay names."""
    (folder / "elsewhere").mkdir()
    os.symlink(folder / "elsewhere", folder / WORDS[0])
    taken = 0
    for name in PATHS:
        for changes in ({"teachers": {name: TEACHER}}, {"name": name}):
            try:
                load_recipe(write_recipe(folder / "refused", **changes))
                taken += 1
            except RecipeError:
                pass
    names, strays = [*PATHS, *WORDS], set[Path]()
    with FaultServer(rule=lambda call: content(f"{call.prompt}!")) as server:
        for number, (one, two) in enumerate(zip(names, names[1:], strict=False)):
            place = folder / f"tasks{number}"
            tasks = {"red": one, "blue": two}
            path = write_recipe(
                place,
                [{**line, "task": tasks[line["task"]]} for line in rows(50)],
                run=str(place / "runs" / "test"),
                teachers={"one": {**TEACHER, "url": server.url}},
                student={"base": BASE, "licence": "Apache-2.0"},
            )
            before = _files(folder)
            run_recipe(path, until="mix")
            show_tasks(place / "runs" / "test")
            inside = (place / "runs" / "test", place / "runs" / "ledger")
            new = _files(folder) - before
            strays |= {p for p in new if not any(map(p.is_relative_to, inside))}
    strays |= {path for path in (Path("/tmp/evil"), Path.home() / "evil") if path.exists()}
    report = (
        f"{taken} names taken for a teacher or recipe, {len(strays)} files outside the run folders"
    )
    return Found(report, "0 and 0", not taken and not strays)


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}
