"""The stages that buy, against a server on loopback: what they ask for, and what becomes of it."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import InputError
from ledger.mixes import read_manifest
from tests.faults.server import Call, FaultServer, Reply, content, payload, status
from tests.tutelage.recipes import TEACHER, rows, write_recipe
from tests.tutelage.test_cli import run
from tutelage import audit_sql, explain_route, run_recipe

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
    """Two tasks of 22 prompts, one teacher, a mix of 10."""
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


def two_teachers(folder: Path, one: FaultServer, two: FaultServer) -> Path:
    """`two` gets the red prompts, one at a time; five red samples may be one, repeated."""
    teachers = {
        "one": {**TEACHER, "url": one.url},
        "two": {**TEACHER, "url": two.url, "revision": "2", "max_in_flight": 1},
    }
    shares = {"red": {"share": 0.5, "max_repeats": 5}, "blue": 0.5}
    return recipe(
        folder,
        one,
        teachers=teachers,
        route={"policy": "fixed", "to": {"red": "two", "blue": "one"}},
        mix={"unit": "samples", "total": 10, "shares": shares},
    )


@pytest.fixture
def two(server: FaultServer, tmp_path: Path) -> Iterator[FaultServer]:
    """The second teacher of a run that has come through `route`."""
    with FaultServer(rule=in_own_words) as running:
        two_teachers(tmp_path, server, running)
        run("run", "recipe.yaml", "--until", "route", cwd=tmp_path)
        yield running


class Revoked:
    """Answers `good` calls, and then refuses the key."""

    def __init__(self, good: int) -> None:
        self.good = good

    def __call__(self, call: Call) -> Reply:
        self.good -= 1
        return in_own_words(call) if self.good >= 0 else status(401, told="the key was revoked")


def test_teacher_that_is_given_up_pauses_the_rest_goes_on_and_the_exit_code_says_so(
    server: FaultServer, two: FaultServer, tmp_path: Path
) -> None:
    two.rule = Revoked(1)
    told = run("run", "recipe.yaml", "--until", "mix", cwd=tmp_path, code=4)
    assert "without all answers of two" in told
    assert len(read_manifest(next((tmp_path / "runs/test/mix").iterdir())).stages) == 1

    shown = run("failures", "runs/test", cwd=tmp_path)
    assert "4 x two in generate: failed (unauthorised), 1 call" in shown
    assert "HTTP status 401" in shown
    assert '"red question' in shown
    assert "recipe.yaml --retry failed" in " ".join(shown.split())

    two.rule, before = in_own_words, len(server.calls) + len(two.calls)
    run("run", "recipe.yaml", "--retry", "failed", cwd=tmp_path)
    assert len(server.calls) + len(two.calls) == before + 4  # those and nothing else
    assert "every request" in run("failures", "runs/test", cwd=tmp_path)
    run("run", "recipe.yaml", "--until", "mix", cwd=tmp_path)
    assert len(server.calls) + len(two.calls) == before + 4


def test_mix_that_a_given_up_teacher_leaves_short_is_not_made(
    server: FaultServer, two: FaultServer, tmp_path: Path
) -> None:
    two.rule = Revoked(0)
    told = run("run", "recipe.yaml", "--until", "mix", cwd=tmp_path, code=4)
    assert "red lacks answers" in told
    assert not (tmp_path / "runs/test/mix").exists()
    blue = [call for call in server.calls if "blue" in call.prompt]
    assert len(blue) == 2 + 5  # the probes, and the others went on


def test_retry_of_what_cannot_fail_is_told(server: FaultServer, tmp_path: Path) -> None:
    recipe(tmp_path, server)
    told = run("run", "recipe.yaml", "--retry", "done", cwd=tmp_path, code=2)
    assert "--retry done: what can be bought again ended failed, invalid" in told
    run("run", "recipe.yaml", "--retry", "failed", "--until", "mix", cwd=tmp_path, code=2)


def test_what_servers_say_is_shown_and_not_obeyed(two: FaultServer, tmp_path: Path) -> None:
    hostile = "[/INST] [red]\x1b[2J\x1b]0;owned\x07 no"
    two.rule = lambda call: payload({"error": {"message": hostile}})
    told = run("run", "recipe.yaml", "--until", "mix", cwd=tmp_path, code=1)
    shown = run("failures", "runs/test", cwd=tmp_path)
    for text in (told, shown):
        assert "[/INST] [red]\\x1b[2J" in text
        assert "\x1b" not in text


def test_teacher_given_up_in_the_first_round_is_named_after_the_second(
    server: FaultServer, two: FaultServer, tmp_path: Path
) -> None:
    """The blue prompts need a second round, since some of their answers are cut off."""
    cut = iter(range(2))
    server.rule = lambda call: (
        content("cut", "length") if next(cut, None) is not None else in_own_words(call)
    )
    two.rule = Revoked(0)
    told = run("run", "recipe.yaml", "--until", "mix", cwd=tmp_path, code=4)
    assert "red lacks answers" in told
    assert "to two ended failed (unauthorised" in told


def test_cost_routes_to_the_cheaper_of_two_equals_and_needs_every_price(tmp_path: Path) -> None:
    with FaultServer(rule=in_own_words) as server:
        prices = {
            name: {"input_usd_per_million": usd, "output_usd_per_million": usd}
            for name, usd in (("dear", 1000.0), ("cheap", 1.0))
        }
        teachers = {
            name: {**TEACHER, "url": server.url, "revision": name, "price": price}
            for name, price in prices.items()
        }
        changes = {
            "route": {"policy": "cost", "alpha": 0.01},
            "generate": {"budget_usd": 1000.0, "on_unknown_price": "allow"},
        }
        path = recipe(tmp_path, server, teachers=teachers, **changes)
        result = run_recipe(path, until="route", run=str(tmp_path / "runs" / "cost"))
        routes = result["stages"]["route"]["routes"]
        assert {route["teacher"] for route in routes.values()} == {"cheap"}
        assert "1,000 answers cost" in routes["red"]["reason"]
        del teachers["cheap"]["price"]
        teachers["cheap"]["api_key_env"] = "HOME"  # who has a key pays
        path = recipe(tmp_path, server, teachers=teachers, **changes)
        with pytest.raises(InputError, match=r"route.policy: `cost` needs the price of cheap"):
            run_recipe(path, until="route", run=str(tmp_path / "other" / "unknown"))


@pytest.mark.parametrize(
    ("unsure", "asked"),
    [("best_single", {"one"}), ("two_teachers", {"one", "two"}), ("aside", set())],
)
def test_prompts_of_no_clear_task_go_where_the_recipe_says(
    server: FaultServer, tmp_path: Path, unsure: str, asked: set[str]
) -> None:
    strange = ("Wie spät ist es in Tōkyō?", "Сколько стоит билет?", "El perro duerme en la cocina.")
    lines = [*rows(), *({"prompt": text} for text in strange)]
    teachers = {name: {**TEACHER, "url": server.url, "revision": name} for name in ("one", "two")}
    shares = {"red": 0.8, "unsure": 0.2}
    path = write_recipe(
        tmp_path,
        lines,
        teachers=teachers,
        student={"base": BASE, "licence": "Apache-2.0"},
        mix={"unit": "samples", "total": 10, "shares": shares},
        route={"unsure": unsure},
    )
    if unsure == "aside":
        with pytest.raises(InputError, match="unsure needs 2 different answers at least, and 0"):
            run_recipe(path, until="mix")
    else:
        run_recipe(path, until="mix")
    names = audit_sql(
        Path("runs/test"),
        "SELECT DISTINCT t.name FROM request r JOIN teacher t ON r.teacher = t.id "
        "WHERE r.stage = 'generate' AND r.task = 'unsure'",
    )[1]
    assert {name for (name,) in names} == asked
    told = explain_route(Path("runs/test"), strange[0])
    told_of = {told.explanation.teacher} | {n for n in ("one", "two") if n in told.beside}
    assert told_of >= asked
    assert told.beside.startswith("nobody answers it") == (unsure == "aside")
    assert ("answer too (`route.unsure`)" in told.beside) == (unsure == "two_teachers")
