"""`student.sizes`: several students on one mix, side by side in the report."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import InputError
from ledger.store import Ledger
from tests.trainer.support import make_base
from tests.tutelage.small_run import RECIPES, small_fields, write_small
from tutelage import check_recipe, run_recipe
from tutelage.workspace import open_run

SIZES: list[dict[str, Any]] = [
    {"layers": 1},
    {"name": "wide", "shape": {"hidden_size": 96}, "epochs": 1},
]


def write(folder: Path, *more: dict[str, Any], timed: int = 0) -> Path:
    student = small_fields()["student"] | {"sizes": [*SIZES, *more]}
    evaluate = {"hold_out": 12, "speed": {"prompts": timed, "max_tokens": 4, "repeats": 1}}
    return write_small(folder, student=student, evaluate=evaluate, run="runs/sizes")


def test_every_size_is_trained_and_tested_on_the_same(folder_of_module: Path) -> None:
    result = run_recipe(write(folder_of_module))
    sizes = open_run(folder_of_module / "runs/sizes").outputs["sizes"]
    assert set(sizes["students"]) == {"student", "1-layers", "wide"}
    student, cut, wide = (sizes["students"][name] for name in ("student", "1-layers", "wide"))
    assert cut["parameters"] < student["parameters"] < wide["parameters"]
    assert wide["steps"] < student["steps"] == cut["steps"]
    assert set(cut["tasks"]) == set(result["tasks"])
    assert result["sizes"]["wide"]["path"].endswith(wide["folder"])
    ledger = Ledger(folder_of_module / "runs/ledger")
    assert ledger.rows("SELECT count(*) FROM student_run") == [(3,)]

    # One size more is one training more.
    folder = folder_of_module / "runs/sizes/student"
    was = {each.name for each in folder.iterdir()}
    run_recipe(write(folder_of_module, {"layers": 2}))
    assert len({each.name for each in folder.iterdir()} - was) == 1


@pytest.mark.slow
def test_every_size_is_timed_on_the_same(folder_of_module: Path) -> None:
    run_recipe(write(folder_of_module, timed=4))
    sizes = open_run(folder_of_module / "runs/sizes").outputs["sizes"]
    assert sizes["speed"].keys() == {"student", "1-layers", "wide", *sizes["teachers"]}
    page = (folder_of_module / "runs/sizes/report.html").read_text()
    assert 'id="sizes"' in page
    assert page.index("<bdi>1-layers<") < page.index("<bdi>wide<")


def test_sizes_that_cannot_be_are_refused_before_anything_is_bought(tmp_path: Path) -> None:
    student = small_fields()["student"] | {"sizes": [{"layers": 7}]}
    path = write_small(tmp_path, student=student)
    with pytest.raises(InputError, match=r"small.yaml:\d+: .*sizes.*layers is 7.*has 4 layers"):
        check_recipe(path)
    taken = small_fields()["student"] | {"sizes": [{"name": "decoder", "layers": 1}]}
    with pytest.raises(InputError, match="a teacher is called 'decoder' too"):
        check_recipe(write_small(tmp_path, student=taken))


def test_a_weight_for_no_task_is_refused_with_its_line(tmp_path: Path) -> None:
    student = small_fields()["student"] | {"weights": {"spel_backward": 2}}
    with pytest.raises(InputError, match=r"small.yaml:\d+: .*no task 'spel_backward' to weigh"):
        check_recipe(write_small(tmp_path, student=student))


def test_a_size_with_other_tokens_is_refused_where_distributions_are_kept(tmp_path: Path) -> None:
    make_base(tmp_path / "other")
    size = {"base": str(tmp_path / "other")}
    student = small_fields()["student"] | {"sizes": [size]}
    check_recipe(write_small(tmp_path, student=student))
    path = write_small(tmp_path, student=student | {"signal": "logit"})
    with pytest.raises(InputError, match=r"small.yaml:\d+: .*has another vocabulary"):
        check_recipe(path)


def test_a_size_that_ends_answers_otherwise_is_refused_where_distributions_are_kept(
    tmp_path: Path,
) -> None:
    base = shutil.copytree(RECIPES / "quickstart" / "base", tmp_path / "base")
    template = (base / "chat_template.jinja").read_text()
    (base / "chat_template.jinja").write_text(template.replace("<|end|>", "<|system|>"))
    student = small_fields()["student"] | {"sizes": [{"base": str(base)}], "signal": "logit"}
    with pytest.raises(
        InputError, match=r"small.yaml:\d+: .*an end token that writes answers in other"
    ):
        check_recipe(write_small(tmp_path, student=student))


def test_a_scorer_that_cannot_be_imported_is_told_before_anything_is_bought(tmp_path: Path) -> None:
    path = write_small(tmp_path, probes={"hold_out": 30, "scorer": "no_such_module:grade"})
    with pytest.raises(InputError, match="'no_such_module:grade' cannot be imported"):
        check_recipe(path)


def test_a_damaged_base_is_told_with_its_line_before_anything_is_bought(tmp_path: Path) -> None:
    base = shutil.copytree(RECIPES / "quickstart" / "base", tmp_path / "base")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    path = write_small(tmp_path, student=small_fields()["student"] | {"base": str(base)})
    with pytest.raises(InputError, match=r"small.yaml:\d+: .*model.safetensors is damaged"):
        run_recipe(path)
    assert not (tmp_path / "runs").exists()
