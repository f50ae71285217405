"""`plan --measure`: a few steps of the training tell what a whole one will take; nothing is kept."""

from pathlib import Path

import pytest

from tests.tutelage.small_run import RECIPES, small_fields, write_small
from trainer.config import StudentConfig
from trainer.errors import NotMeasured
from tutelage.forecasting import measure_steps
from tutelage.planning import plan_recipe

LENGTHS = [(40, 8), (20, 4)]


def test_a_few_steps_tell_time_memory_and_disk() -> None:
    student = StudentConfig(base="base", batch_size=4)
    found = measure_steps(student, RECIPES / "quickstart", LENGTHS, 7)
    assert 0 < found.step_s < 60
    assert found.memory_mib > 100
    weights = RECIPES / "quickstart" / "base" / "model.safetensors"
    assert found.student_mib == pytest.approx(weights.stat().st_size / 2**20, rel=0.03)
    assert found.checkpoint_mib == pytest.approx(3 * found.student_mib)


def test_adapters_keep_small_checkpoints() -> None:
    student = StudentConfig.model_validate({"base": "base", "batch_size": 4, "lora": {"rank": 2}})
    found = measure_steps(student, RECIPES / "quickstart", LENGTHS, 7)
    assert found.checkpoint_mib < found.student_mib


def test_a_base_that_cannot_be_loaded_is_told() -> None:
    with pytest.raises(NotMeasured, match="no config.json"):
        measure_steps(StudentConfig(base="."), RECIPES, LENGTHS, 7)


def test_the_plan_says_it_and_writes_nothing(tmp_path: Path) -> None:
    student = small_fields()["student"] | {"layers": 2, "sizes": [{"layers": 1}]}
    path = write_small(tmp_path, student=student, run=str(tmp_path / "runs" / "small"))
    train = next(
        stage.what for stage in plan_recipe(path, measure=True).stages if stage.name == "train"
    )
    assert "s a step, measured here" in train
    assert train.count("MiB of memory") == 2
    assert "1-layers: about" in train
    assert [each.name for each in tmp_path.iterdir()] == ["small.yaml"]


def test_samples_that_the_student_leaves_out_are_not_measured() -> None:
    student = StudentConfig(base="base", batch_size=4, max_length=10)
    with pytest.raises(NotMeasured, match="^no sample fits into the student's 10 tokens"):
        measure_steps(student, RECIPES / "quickstart", LENGTHS, 7)
