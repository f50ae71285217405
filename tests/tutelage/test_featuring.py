"""`signal: feature` and all signals together, from prompts to the report, on the quickstart's models."""

from pathlib import Path
from typing import Any

import pytest

from router.teachers.opening import open_local
from tests.tutelage.small_run import RECIPES, small_fields, write_small
from trainer.errors import NoSuchLayer
from trainer.losslog import read_log
from tutelage import run_recipe
from tutelage.featuring import feature_teachers
from tutelage.workspace import open_run


def write(folder: Path, run: str, **student: Any) -> Path:
    return write_small(folder, run=run, student=small_fields()["student"] | student)


@pytest.mark.parametrize("signal", ["feature", ["hard", "logit", "feature"]])
def test_the_student_learns_from_hidden_states(folder_of_module: Path, signal: Any) -> None:
    run = f"runs/{'-'.join(signal) if isinstance(signal, list) else signal}"
    run_recipe(write(folder_of_module, run, signal=signal, feature={"layers": [2, [-1, -1]]}))
    workspace = open_run(folder_of_module / run)
    lines = read_log(workspace.student_folder / "training_log.jsonl")
    assert {"ce", "feature"} <= lines[-1]["parts"].keys()
    assert ("kd" in lines[-1]["parts"]) == ("logit" in signal)
    assert {name for line in lines for name in line["teachers"]} == {"adder", "decoder", "speller"}
    assert (workspace.folder / "report.html").is_file()


def test_another_layer_is_another_training_and_nothing_else(folder_of_module: Path) -> None:
    for layer in (-1, 2):
        path = write(folder_of_module, "runs/two", signal="feature", feature={"layers": [layer]})
        run_recipe(path, until="train")
    for what, count in (("student", 2), ("mix", 1)):
        assert len(list((folder_of_module / "runs/two" / what).iterdir())) == count


def test_a_layer_that_is_not_there_stops_before_anything_is_bought(folder_of_module: Path) -> None:
    path = write(folder_of_module, "runs/deep", signal="feature", feature={"layers": [9]})
    with pytest.raises(NoSuchLayer, match="layer 9, and the student has 4 layers"):
        run_recipe(path)
    assert not (folder_of_module / "runs/deep/mix").exists()


def test_teachers_that_do_not_fit_together_take_turns() -> None:
    import torch

    quickstart = RECIPES / "quickstart"
    teachers = {name: open_local(name, quickstart / name) for name in ("adder", "speller")}
    ids, mask = torch.tensor([[7, 8, 9]]), torch.ones(1, 3, dtype=torch.long)
    for student_bytes, together in ((1_000_000, True), (2**60, False)):
        features = feature_teachers(teachers, student_bytes)
        assert features.together == together
        for teacher in features.by_name.values():
            (states,) = teacher.states(ids, mask, [teacher.depth])
            assert states.shape == (1, 3, teacher.width)
        loaded = [teacher._network is not None for teacher in teachers.values()]
        assert loaded == [together, True]
