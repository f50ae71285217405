"""A checkpoint is complete or absent, and is checked before anyone builds on it."""

import pytest

from trainer import checkpoints


def make(folder, step, twice=False):
    with checkpoints.writing(folder, step) as staging:
        made = staging / f"checkpoint-{step}"
        made.mkdir()
        (made / "model.safetensors").write_text("weights")
        if twice:
            made.mkdir()


def test_the_newest_whole_checkpoint_is_found_and_two_are_kept(tmp_path):
    for step in (5, 10, 100):
        make(tmp_path, step)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-10",
        "checkpoint-100",
    ]
    assert checkpoints.newest(tmp_path, print) == tmp_path / "checkpoint-100"


def test_what_was_being_written_is_absent(tmp_path):
    make(tmp_path, 5)
    with pytest.raises(FileExistsError):
        make(tmp_path, 10, twice=True)
    assert checkpoints.newest(tmp_path, print) == tmp_path / "checkpoint-5"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]


@pytest.mark.parametrize("damage", ["altered", "missing", "no marker", "torn marker"])
def test_a_damaged_checkpoint_is_dropped_and_named(tmp_path, damage):
    make(tmp_path, 5)
    make(tmp_path, 10)
    broken = tmp_path / "checkpoint-10"
    if damage == "altered":
        (broken / "model.safetensors").write_text("weightz")
    elif damage == "missing":
        (broken / "model.safetensors").unlink()
    elif damage == "no marker":
        (broken / checkpoints.MARKER).unlink()
    else:
        (broken / checkpoints.MARKER).write_text('{"model')
    notes: list[str] = []
    assert checkpoints.newest(tmp_path, notes.append) == tmp_path / "checkpoint-5"
    assert "checkpoint-10 was damaged" in notes[0]
    assert not broken.exists()


def test_without_a_checkpoint_training_begins_at_the_start(tmp_path):
    assert checkpoints.newest(tmp_path / "none", print) is None
