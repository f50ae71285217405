"""Routing inside a run: three families in one task, where only single prompts tell the teachers apart."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from ledger.errors import InputError
from ledger.store import Ledger
from router.deciding import read_routes
from tests.tutelage.small_run import small_fields, write_small
from tutelage.asking import explain_route
from tutelage.pipeline import run_recipe
from tutelage.workspace import open_run

TEACHER_OF = {"spell_backward": "speller", "chain_sum": "adder", "caesar_cipher": "decoder"}


def _one_task(folder: Path) -> Path:
    fields = small_fields()
    prompts = [{**source, "task": "puzzles"} for source in fields["prompts"]]
    changes = {
        "prompts": prompts,
        "probes": {"hold_out": 180, "scorer": "reasoning_gym"},
        "mix": {**fields["mix"], "total": 60},
    }
    return write_small(folder, **changes)


@pytest.fixture(scope="module")
def home(folder_of_module: Path) -> Path:
    run_recipe(_one_task(folder_of_module))
    return folder_of_module


def test_prompts_of_one_task_go_to_the_teacher_of_their_family(home: Path) -> None:
    rows = Ledger(Path("runs/ledger")).rows(
        "SELECT p.source, t.name, count(*) FROM mix_member b JOIN sample s ON b.sample = s.id "
        "JOIN prompt p ON s.prompt = p.id JOIN teacher t ON s.teacher = t.id GROUP BY ALL"
    )
    right = sum(n for source, name, n in rows if TEACHER_OF[source.split(":")[1]] == name)
    assert right / sum(n for *_, n in rows) > 0.95
    assert {name for _, name, _ in rows} == set(TEACHER_OF.values())


def test_the_verdict_holds_each_test_item_against_its_own_teacher(home: Path) -> None:
    task = json.loads(Path("runs/small/result.json").read_text())["tasks"]["puzzles"]
    assert sum(task["routed"].values()) == 12
    assert len(task["routed"]) > 1
    assert task["teacher"]["n"] == 12
    assert task["teacher"]["mean"] > task["teachers"][task["chosen"]]["mean"]


def test_routes_rest_on_the_strengths_that_are_shown(home: Path) -> None:
    workspace = open_run(Path("runs/small"))
    shown = workspace.outputs["probe"]["strengths"]
    route = read_routes(workspace.ledger, workspace.keys["route"])[0]
    assert {name: asdict(found) for name, found in route.strengths.items()} == {
        name: at["puzzles"] for name, at in shown.items()
    }
    assert workspace.outputs["probe"]["asked"] < workspace.outputs["probe"]["of"]


def test_leaving_is_in_the_ledger_with_its_evidence_and_in_the_report(home: Path) -> None:
    ledger, workspace = Ledger(Path("runs/ledger")), open_run(Path("runs/small"))
    rows = ledger.rows("SELECT runner_up, reason, evidence FROM route WHERE prompt IS NOT NULL")
    assert len(rows) == len(workspace.routed.by_prompt) > 50
    own = workspace.outputs["route"]["routes"]["puzzles"]["teacher"]
    assert {runner_up for runner_up, _, _ in rows} == {own}
    evidence = json.loads(rows[0][2])
    assert evidence["gain"]["lo"] <= evidence["gain"]["mean"] <= evidence["gain"]["hi"]
    page = (home / "runs/small/report.html").read_text()
    assert "prompts may leave their task&#39;s teacher" in page


def test_a_lost_or_changed_router_is_fitted_again_and_nothing_is_bought(home: Path) -> None:
    workspace = open_run(Path("runs/small"))
    before = workspace.ledger.rows("SELECT count(*) FROM request")
    fields = workspace.router_folder / "router.json"
    was = fields.read_bytes()
    fields.write_bytes(was.replace(b'"teacher": "', b'"teacher": "x'))
    with pytest.raises(InputError, match="is gone or was changed .* makes it again"):
        explain_route(Path("runs/small"), "1 + 1")
    run_recipe(home / "small.yaml")
    assert fields.read_bytes() == was
    for file in workspace.router_folder.iterdir():
        file.unlink()
    run_recipe(home / "small.yaml")
    assert fields.read_bytes() == was
    assert workspace.ledger.rows("SELECT count(*) FROM request") == before


@pytest.mark.parametrize(
    ("prompt", "teacher"),
    [
        ("Spell this word backward (example: sun -> nus): house", "speller"),
        ("State the final answer to the following arithmetic problem: 12 + 71 =", "adder"),
    ],
)
def test_a_prompt_is_explained_by_what_is_near_it(home: Path, prompt: str, teacher: str) -> None:
    explained = explain_route(Path("runs/small"), prompt)
    told = explained.as_dict()
    assert told["teacher"] == teacher
    assert told["gain"]["lo"] < told["gain"]["mean"] <= told["gain"]["hi"]
    assert len(told["nearest"]) == 5
    assert all(set(near["scores"]) <= set(told["at_most_usd"]) for near in told["nearest"])
    assert told["guard"].startswith("prompts may leave")
    assert any("nearest" in str(getattr(line, "title", "")) for line in explained.lines())
