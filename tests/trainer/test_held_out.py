"""What is held out: measured and never trained, and the weights that did best on it are kept."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ledger.keys import content_key
from ledger.mixes import training_order
from ledger.store import Ledger
from tests.trainer.signals import KINDS, given
from tests.trainer.stopping import stop_at, without_times
from tests.trainer.support import make_rows
from tests.trainer.training_child import run
from trainer.errors import NothingToTrain, OutOfMemory
from trainer.losslog import read_log

HELD: dict[str, Any] = {"hold_out": 0.2, "validate_every": 4, "learning_rate": 1e-2, "epochs": 6}


def held_samples() -> set[str]:
    """By the rule itself: a prompt's place between 0 and 1."""
    return {
        row["sample"]
        for row in make_rows(120)
        if int(content_key(row["prompt_key"])[:12], 16) / 16**12 < 0.2
    }


@pytest.fixture(scope="module")
def student(folder: Path) -> Any:
    from ledger.mixes import read_manifest
    from tests.trainer.support import fill_ledger

    with (ledger := Ledger(folder / "held-ledger")).writing("test"):
        fill_ledger(ledger, make_rows(120), read_manifest(folder / "mix").lock_sha)
    return run(folder, "held", **HELD)


def test_held_out_samples_are_not_consumed_and_the_others_keep_their_order(
    folder: Path, student: Any
) -> None:
    held = held_samples()
    assert 10 < len(held) < 40
    rows = Ledger(folder / "held-ledger").rows(
        "SELECT s.key, c.times FROM consumed c JOIN sample s ON c.sample = s.id"
    )
    assert {key for key, _ in rows} == {row["sample"] for row in make_rows(120)} - held
    keys = [row["sample"] for row in make_rows(120)]
    order = [keys[row] for row in training_order(folder / "mix", 6)]
    trained = [key for key in order if key not in held]
    assert student.samples == min(8 * student.kept_step, len(trained))
    assert dict(rows) == Counter(trained[: student.samples])


def test_the_log_has_the_loss_by_task_and_teacher_and_the_least_is_kept(student: Any) -> None:
    lines = [line for line in read_log(student.log) if "held_out" in line]
    assert [line["step"] for line in lines][:3] == [4, 8, 12]
    assert lines[-1]["step"] == student.steps
    assert lines[0]["held_out"].keys() == {"loss", "parts", "tasks", "teachers"}
    assert set(lines[0]["held_out"]["teachers"]) == {"ann", "bob"}
    best = min(lines, key=lambda line: line["held_out"]["loss"])
    assert student.kept_step == best["step"]


def test_the_weights_are_those_of_the_best_step(
    folder: Path, student: Any, new_ledger: Any
) -> None:
    """A training that is measured once, where the best step of the other was, has the same weights."""
    new_ledger("held-once")
    step = student.kept_step
    with pytest.MonkeyPatch.context() as patch:
        from trainer import sft

        original = sft.StudentTrainer.measure

        def only_then(self: Any) -> Any:
            loss, parts = original(self)
            return (0.0 if self.state.global_step == step else 1.0), parts

        patch.setattr(sft.StudentTrainer, "measure", only_then)
        other = run(folder, "held-once", **HELD)
    assert other.weights_sha == student.weights_sha


def test_without_patience_for_worse_losses_it_ends_early(folder: Path, new_ledger: Any) -> None:
    new_ledger("impatient")
    notes: list[str] = []
    hasty = {**HELD, "learning_rate": 0.3, "patience": 2}
    student = run(folder, "impatient", notes, **hasty)
    assert student.steps < 72
    assert student.kept_step == student.steps - 2 * 4
    assert any("ended early after step" in note for note in notes)
    ((consumed,),) = Ledger(folder / "impatient-ledger").rows("SELECT sum(times) FROM consumed")
    assert consumed == student.samples == 8 * student.kept_step


def test_killed_and_resumed_keeps_the_same_weights(
    folder: Path, student: Any, new_ledger: Any
) -> None:
    new_ledger("held-cut")
    stop_at(folder, "held-cut", 13, **HELD)
    resumed = run(folder, "held-cut", **HELD)
    assert resumed.weights_sha == student.weights_sha
    assert without_times(resumed.log) == without_times(student.log)


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_lost_best_weights_begin_the_training_anew(
    folder: Path, student: Any, new_ledger: Any, damage: str
) -> None:
    name = f"held-{damage}"
    new_ledger(name)
    stop_at(folder, name, 13, **HELD)
    best = folder / f"{name}.training" / "best.safetensors"
    best.write_bytes(best.read_bytes()[:9])
    if damage == "gone":
        best.unlink()
    notes: list[str] = []
    assert run(folder, name, notes, **HELD).weights_sha == student.weights_sha
    assert any("begins anew" in note for note in notes)


def test_adapters_are_kept_and_merged(folder: Path, new_ledger: Any) -> None:
    new_ledger("held-lora")
    student = run(folder, "held-lora", **{**HELD, "lora": {"rank": 4}})
    assert student.kept_step
    assert not list(student.path.glob("best*"))


def test_a_part_that_leaves_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(NothingToTrain, match=r"student.hold_out: 0.0001"):
        run(folder, "nothing-held", hold_out=0.0001)


@pytest.mark.parametrize("kind", KINDS)
def test_activations_made_again_give_the_same_losses(
    folder: Path, new_ledger: Any, kind: str
) -> None:
    losses = []
    for recompute in (False, True):
        name = f"recompute-{kind}-{recompute}"
        new_ledger(name)
        changes = {**given(folder, kind), "epochs": 1, "recompute": recompute}
        losses.append([line["loss"] for line in read_log(run(folder, name, **changes).log)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_step_that_does_not_fit_says_what_to_change(folder: Path, monkeypatch: Any) -> None:
    """torch's own error on a CPU, where a tensor of 2**50 bytes cannot be had."""
    import torch

    from trainer import sft

    monkeypatch.setattr(
        sft.StudentTrainer, "compute_loss", lambda *_, **__: torch.empty(2**50, dtype=torch.int8)
    )
    with pytest.raises(
        OutOfMemory, match=r"batch_size` \(8: with 4 and `accumulate: 2`.*recompute.*lora"
    ):
        run(folder, "huge")
