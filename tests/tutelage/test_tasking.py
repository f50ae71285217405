"""Tasks without examples: discovered in the prompts, or described by a sentence, through a whole run."""

from pathlib import Path

import pytest
import yaml
from sklearn.metrics import adjusted_rand_score

from ledger.errors import InputError
from ledger.store import Ledger
from tests.tutelage.small_run import TASKS, small_fields, write_small
from tutelage.asking import explain_route
from tutelage.pipeline import run_recipe
from tutelage.planning import check_recipe, plan_recipe
from tutelage.recipe import RecipeError, load_recipe
from tutelage.tasking import show_tasks
from tutelage.workspace import open_run

SENTENCES = {
    "reverse": "Spell a word backward, its letters in reverse order.",
    "sums": "Add two numbers: an arithmetic problem.",
    "cipher": "Decipher a text that was encrypted by a Caesar cipher.",
}


def _without_examples(folder: Path, run: str, **tasks: object) -> Path:
    fields = small_fields()
    fields["tasks"].pop("examples")
    return write_small(folder, tasks={**fields["tasks"], **tasks}, run=run)


@pytest.fixture(scope="module")
def home(folder_of_module: Path) -> Path:
    run_recipe(_without_examples(folder_of_module, "runs/found", discover="auto"))
    return folder_of_module


def _agreement(run: str) -> float:
    """Adjusted Rand index of the tasks that training prompts got with the families that they are of."""
    rows = Ledger(Path("runs/ledger")).rows(
        "SELECT p.source, l.task FROM label l JOIN prompt p ON l.prompt = p.id WHERE l.classifier = ?",
        [open_run(Path(run)).outputs["classify"]["classifier"]],
    )
    return float(adjusted_rand_score([source for source, _ in rows], [task for _, task in rows]))


def test_tasks_are_found_and_a_whole_run_goes_by_them(home: Path) -> None:
    assert _agreement("runs/found") > 0.9
    workspace = open_run(Path("runs/found"))
    tasks = workspace.outputs["classify"]["task_names"]
    assert len(tasks) == 3
    assert {item.task for item in workspace.pools.probes} <= set(tasks)
    assert all(item.task for item in workspace.pools.test)
    assert set(workspace.outputs["route"]["routes"]) == {*tasks, "unsure"}
    assert set(workspace.outputs["evaluate"]["tasks"]) <= set(tasks)
    assert Path("runs/found/report.html").is_file()
    told = explain_route(
        Path("runs/found"), "Spell this word backward (example: sun -> nus): house"
    )
    assert told.as_dict()["label"]["task"] in tasks


def test_tasks_are_shown_and_a_patch_names_and_merges_them(home: Path) -> None:
    shown = show_tasks(Path("runs/found"))
    assert shown.patch is not None
    assert sum(task.prompts for task in shown.tasks) == 360 - 30 - 12
    for task in shown.tasks:
        assert len(task.typical) == min(3, task.prompts)
        assert task.terms
    patch = yaml.safe_load(Path(shown.patch).read_text())
    first, second, third = patch["names"]
    names = {first: "mine", second: "both", third: "both"}
    recipe = _without_examples(home, "runs/named", discover="auto", names=names)
    run_recipe(recipe, until="route")
    assert open_run(Path("runs/named")).pools.tasks == ["both", "mine"]
    _without_examples(home, "runs/found", discover="auto")


def test_a_name_for_a_task_that_was_not_found_is_an_error_with_its_line(home: Path) -> None:
    recipe = _without_examples(home, "runs/wrong", discover="auto", names={"nix": "mine"})
    with pytest.raises(
        InputError, match=r"small.yaml:\d+: tasks.names.nix: there is no discovered"
    ):
        run_recipe(recipe, until="classify")
    _without_examples(home, "runs/found", discover="auto")


def test_a_second_run_finds_nothing_to_do(home: Path) -> None:
    before = Ledger(Path("runs/ledger")).rows("SELECT count(*) FROM stage")
    run_recipe(home / "small.yaml")
    assert Ledger(Path("runs/ledger")).rows("SELECT count(*) FROM stage") == before


def test_check_and_plan_work_before_tasks_are_known(home: Path, tmp_path: Path) -> None:
    recipe = _without_examples(tmp_path, str(tmp_path / "runs/new"), discover="auto")
    assert check_recipe(recipe).tasks == []
    plan = plan_recipe(recipe)
    assert any("not known before `classify`" in note for note in plan.notes)
    assert next(stage for stage in plan.stages if stage.name == "generate").calls == 90


def test_described_tasks_are_told_apart(home: Path) -> None:
    fields = small_fields()
    families = dict(zip(TASKS, ("cipher", "sums", "reverse"), strict=True))
    prompts = [
        {**source, "task": families[source["reasoning_gym"]]} for source in fields["prompts"]
    ]
    tasks = {"embedding": fields["tasks"]["embedding"], "describe": SENTENCES}
    recipe = write_small(home, prompts=prompts, tasks=tasks, run="runs/described")
    run_recipe(recipe, until="route")
    assert _agreement("runs/described") > 0.9
    routes = open_run(Path("runs/described")).outputs["route"]["routes"]
    assert {task: route["teacher"] for task, route in routes.items() if task != "unsure"} == {
        "cipher": "decoder",
        "sums": "adder",
        "reverse": "speller",
    }
    _without_examples(home, "runs/found", discover="auto")


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, "exactly one of `examples:`"),
        ({"discover": "auto", "describe": {"a": "A."}}, "exactly one of `examples:`"),
        ({"describe": {"a": " "}}, "says nothing of 'a'"),
        ({"describe": {"a": "A."}, "names": {"a": "b"}}, "`names:` goes with `discover:`"),
        ({"discover": 0}, "no number of tasks"),
        ({"discover": "auto", "names": {"a": " "}}, "cannot be a task's name"),
        ({"discover": "auto", "names": {"a": "unsure"}}, "cannot be a task's name"),
    ],
)
def test_ways_of_making_tasks_that_clash_are_named(
    tmp_path: Path, tasks: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(_without_examples(tmp_path, "runs/x", **tasks))


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"discover": 50}, r"small.yaml:\d+: tasks.discover: \d+ prompts are too few for 50 tasks"),
        (
            {"examples": {"hold_out": 2}, "error_rate": 0.01},
            r"small.yaml:\d+: tasks.examples: \d examples cannot promise",
        ),
    ],
)
def test_check_tells_of_tasks_that_classify_could_not_make(
    tmp_path: Path, tasks: dict[str, object], message: str
) -> None:
    recipe = _without_examples(tmp_path, str(tmp_path / "runs/x"), **tasks)
    for look in (check_recipe, plan_recipe):
        with pytest.raises(InputError, match=message):
            look(recipe)


def test_sentences_that_say_the_same_are_refused(home: Path) -> None:
    same = dict.fromkeys(TASKS, SENTENCES["sums"]) | {"caesar_cipher": SENTENCES["cipher"]}
    with pytest.raises(InputError, match="'chain_sum' and 'spell_backward' say the same"):
        run_recipe(_without_examples(home, "runs/same", describe=same), until="classify")
    _without_examples(home, "runs/found", discover="auto")


def test_a_route_for_a_task_that_was_not_found_stops_before_anything_is_bought(home: Path) -> None:
    fields = small_fields()
    route = {"policy": "fixed", "to": {"nix": "adder"}}
    tasks = {"embedding": fields["tasks"]["embedding"], "discover": "auto"}
    recipe = write_small(home, run="runs/nix", tasks=tasks, route=route)
    with pytest.raises(InputError, match=r"small.yaml:\d+: route.to.nix: there is no task 'nix'"):
        run_recipe(recipe)
    assert not Ledger(Path("runs/ledger")).rows(
        "SELECT 1 FROM stage WHERE run = 'nix' AND name = 'probe'"
    )
    _without_examples(home, "runs/found", discover="auto")
