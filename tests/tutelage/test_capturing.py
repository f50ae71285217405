"""`signal: logit` from prompts to the report, on the quickstart's teachers; what was captured stays."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ledger.records import RecordsMissing
from ledger.store import Ledger
from tests.tutelage.small_run import RECIPES, small_fields, write_small
from tutelage import plan_recipe, run_recipe
from tutelage.watch import Watch
from tutelage.workspace import open_run


def write_logit(folder: Path, run: str = "runs/small", **logit: Any) -> Path:
    student = small_fields()["student"] | {"signal": "logit", "logit": {"top_k": 16, **logit}}
    return write_small(folder, student=student, run=run)


@pytest.fixture(scope="module")
def home(folder_of_module: Path) -> Path:
    """A folder in which the small recipe has run once, by distributions."""
    run_recipe(write_logit(folder_of_module))
    return folder_of_module


def test_every_mixed_sample_has_its_teachers_distributions(home: Path) -> None:
    workspace = open_run(home / "runs/small")
    captured = workspace.outputs["capture"]
    by_teacher = captured["teachers"]
    assert set(by_teacher) == {"adder", "decoder", "speller"}
    assert sum(found["samples"] for found in by_teacher.values()) == 90
    for found in by_teacher.values():
        assert found["covered"] == found["tokens"] > 0
    files = list((home / "runs/small" / captured["folder"]).iterdir())
    assert sum(pq.read_metadata(path).num_rows for path in files) == 90
    assert workspace.outputs["evaluate"]["overall"]["reason"]
    assert (home / "runs/small/report.html").is_file()


def test_the_ledger_says_by_which_signal_the_student_learnt(home: Path) -> None:
    ((settings,),) = Ledger(home / "runs/ledger").rows("SELECT settings FROM student_run")
    assert json.loads(settings)["signal"] == "logit"


def test_captured_files_stay_and_lost_ones_come_again(home: Path) -> None:
    class Recorder(Watch):
        def __init__(self) -> None:
            self.worked: list[str] = []

        def stage_ends(self, name: str, summary: str, seconds: float) -> None:
            self.worked.append(name)

    path = home / "small.yaml"
    run_recipe(path, watch=(idle := Recorder()))
    assert idle.worked == []
    folder = next((home / "runs/small/capture").iterdir())
    lost, *kept = sorted(folder.iterdir())
    was = {kept_path: kept_path.stat().st_mtime_ns for kept_path in kept}
    data = lost.read_bytes()
    lost.unlink()
    run_recipe(path, watch=(again := Recorder()))
    assert again.worked == ["capture"]
    assert lost.read_bytes() == data
    assert {kept_path: kept_path.stat().st_mtime_ns for kept_path in kept} == was


def test_another_temperature_is_captured_beside_the_first(home: Path) -> None:
    run_recipe(write_logit(home, temperature=2.0), until="train")
    assert len(list((home / "runs/small/capture").iterdir())) == 2
    assert len(list((home / "runs/small/student").iterdir())) == 2


def test_the_plan_says_what_is_captured(home: Path) -> None:
    by_logits = plan_recipe(write_logit(home, run="runs/planned"))
    by_text = plan_recipe(write_small(home, run="runs/planned"))
    found = [
        next(stage.what for stage in plan.stages if stage.name == "capture")
        for plan in (by_logits, by_text)
    ]
    assert "top 16 tokens" in found[0]
    assert "text alone" in found[1]


def test_a_mix_of_other_tokenizers_alone_says_what_to_do(
    folder_of_module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same teachers with two tokens swapped in their vocabulary: not the student's any more."""
    fields = small_fields(run="runs/foreign")
    for name, teacher in fields["teachers"].items():
        folder = folder_of_module / "teachers" / name
        shutil.copytree(RECIPES / "quickstart" / name, folder, dirs_exist_ok=True)
        config = json.loads((folder / "tokenizer.json").read_text())
        vocabulary = config["model"]["vocab"]
        first, second = "q", "z"
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
        (folder / "tokenizer.json").write_text(json.dumps(config))
        teacher["local"] = str(folder)
    fields["student"] |= {"signal": "logit"}
    with pytest.raises(RecordsMissing, match="its tokenizer is not the student's"):
        run_recipe(write_small(folder_of_module, **fields), until="capture")
