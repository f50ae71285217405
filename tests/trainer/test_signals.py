"""What holds for every signal: killed and resumed, cut and packed, it is the same training."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.signals import KINDS, given, teachers
from tests.trainer.stopping import Stopped, kill_when, stop_at, without_times
from tests.trainer.training_child import run, run_kind
from trainer.errors import FeaturesMissing, NoSuchLayer
from trainer.losslog import read_log


@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_resumed_gives_the_very_same_weights(
    folder: Path, new_ledger: Any, kind: str
) -> None:
    name, cut = f"by-{kind}", f"by-{kind}-killed"
    new_ledger(name)
    new_ledger(cut)
    whole = run_kind(folder, name, kind)
    kill_when(folder, cut, ".writing", kind)
    notes: list[str] = []
    resumed = run_kind(folder, cut, kind, notes)
    assert any("goes on from step" in note for note in notes)
    assert resumed.weights_sha == whole.weights_sha
    assert without_times(resumed.log) == without_times(whole.log)


def first_step(folder: Path, name: str, kind: str, **changes: Any) -> tuple[float, list[Any]]:
    """The loss of a training's first step, and the student's gradients by it."""
    from trainer import sft

    found: list[tuple[float, list[Any]]] = []

    def stopping(self: Any, args: Any, state: Any, control: Any, **parts: Any) -> None:
        model = parts["model"]
        found.append(
            (self.log.settle(1), [p.grad.clone() for p in model.parameters() if p.grad is not None])
        )
        raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sft.Bookkeeper, "on_pre_optimizer_step", stopping)
        with pytest.raises(Stopped):
            run(folder, name, **{**given(folder, kind), **changes})
    return found[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 4, "accumulate": 3},
        {"batch_size": 1, "accumulate": 12},
        {"packing": False},
        {"packing": False, "batch_size": 3, "accumulate": 4},
    ],
    ids=lambda changes: "-".join(f"{k}{v}" for k, v in changes.items()),
)
def test_loss_and_gradients_are_the_same_for_every_cut_and_packing(
    long_and_short: Path, kind: str, changes: dict[str, Any]
) -> None:
    whole, grads = first_step(long_and_short, "whole", kind, batch_size=12)
    cut, others = first_step(long_and_short, "cut", kind, **{"batch_size": 12, **changes})
    assert cut == pytest.approx(whole, rel=1e-5)
    for one, other in zip(grads, others, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-7)


@pytest.fixture(scope="session")
def long_and_short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples of which some are many times longer than others, so that they share rows."""
    from tests.trainer.signals import capture
    from tests.trainer.support import make_base, make_mix, make_rows

    made = tmp_path_factory.mktemp("long-and-short")
    rows = make_rows(120)
    for i, row in enumerate(rows):
        row["prompt"][0]["content"] += " please" * (i % 5 * 4)
    make_base(made / "base")
    make_mix(made / "mix", rows)
    capture(made / "records")
    return made


def test_packed_samples_lie_in_fewer_rows(long_and_short: Path, monkeypatch: Any) -> None:
    from trainer import sft

    shapes: list[Any] = []
    original = sft.Collator.__call__

    def watching(self: Any, rows: Any) -> Any:
        batch = original(self, rows)
        shapes.append((batch["input_ids"].shape, len(rows)))
        return batch

    monkeypatch.setattr(sft.Collator, "__call__", watching)
    first_step(long_and_short, "packed", "hard", batch_size=12)
    assert shapes[0][0][0] < shapes[0][1] == 12


def test_the_log_has_every_part_by_task_and_teacher(folder: Path, new_ledger: Any) -> None:
    new_ledger("parts")
    lines = read_log(run_kind(folder, "parts", "mixed").log)
    for line in lines:
        assert line["parts"].keys() == {"ce", "kd", "feature"}
        assert line["tasks"].keys() == {"spell"}
        assert line["tasks"]["spell"] == line["parts"]
        assert sum(line["teachers"][name]["share"] for name in ("ann", "bob")) == pytest.approx(1)
    assert lines[-1]["parts"]["ce"] < lines[0]["parts"]["ce"]


def test_a_student_with_adapters_learns_features_and_is_saved_without_projectors(
    folder: Path, new_ledger: Any
) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    changes: dict[str, Any] = {**KINDS["feature"], "lora": {"rank": 4}, "learning_rate": 1e-2}
    new_ledger("feature-lora")
    new_ledger("feature-lora-cut")
    one = run(folder, "feature-lora", None, None, teachers(folder), **changes)
    lines = read_log(one.log)
    assert lines[-1]["parts"]["feature"] < 0.8 * lines[0]["parts"]["feature"]
    names = load_file(one.path / "model.safetensors").keys()
    assert names == load_file(folder / "base" / "model.safetensors").keys()
    AutoModelForCausalLM.from_pretrained(one.path)
    stop_at(folder, "feature-lora-cut", 12, features=teachers(folder), **changes)
    other = run(folder, "feature-lora-cut", None, None, teachers(folder), **changes)
    assert other.weights_sha == one.weights_sha


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "bfloat16"},
        {"lora": {"rank": 4}},
        {"lora": {"rank": 4}, "dtype": "bfloat16", "recompute": True},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_every_signal_learns_in_half_precision_and_by_adapters(
    folder: Path, new_ledger: Any, kind: str, changes: dict[str, Any]
) -> None:
    name = f"learns-{kind}-{'-'.join(changes)}"
    new_ledger(name)
    options = {**given(folder, kind), **changes, "epochs": 3, "learning_rate": 1e-2}
    lines = read_log(run(folder, name, **options).log)
    assert lines[-1]["loss"] < 0.99 * lines[0]["loss"]


def test_projectors_are_trained_under_adapters(folder: Path, monkeypatch: Any) -> None:
    """PEFT freezes whatever is not named; a frozen projector would hide behind a falling loss."""
    from trainer import sft

    moved: list[bool] = []

    def watching(self: Any, args: Any, state: Any, control: Any, **parts: Any) -> None:
        if state.global_step == 3:
            grads = [
                parameter.grad
                for name, parameter in parts["model"].named_parameters()
                if sft.PROJECTORS in name and parameter.requires_grad
            ]
            moved.extend(grad is not None and bool(grad.any()) for grad in grads)
            raise Stopped

    monkeypatch.setattr(sft.Bookkeeper, "on_pre_optimizer_step", watching)
    changes: dict[str, Any] = {**KINDS["feature"], "lora": {"rank": 4}}
    with pytest.raises(Stopped):
        run(folder, "moved", None, None, teachers(folder), **changes)
    assert moved == [True] * len(moved)
    assert len(moved) == 2 * 2 * 4  # teachers, pairs, an MLP's weights and biases


def test_teachers_that_take_turns_teach_the_same(folder: Path) -> None:
    together, grads = first_step(folder, "together", "feature")
    turns, others = first_step(
        folder, "in-turn", "feature", features=teachers(folder, together=False)
    )
    assert turns == pytest.approx(together, rel=1e-5)
    for one, other in zip(grads, others, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ([3], "layer 3, and the student has 2 layers"),
        ([[1, 7]], "layer 7, and teacher `ann` has 2"),
    ],
)
def test_more_layers_than_there_are_is_an_error(folder: Path, layers: Any, told: str) -> None:
    with pytest.raises(NoSuchLayer, match=told):
        run(
            folder,
            "deep",
            None,
            None,
            teachers(folder),
            signal="feature",
            feature={"layers": layers},
        )


def test_features_that_nobody_gives_are_told(folder: Path) -> None:
    with pytest.raises(FeaturesMissing, match="no teacher gives its hidden states"):
        run(folder, "nobody", signal="feature")


def test_a_weight_for_a_task_that_is_not_there_is_told(folder: Path, new_ledger: Any) -> None:
    new_ledger("weighed")
    notes: list[str] = []
    run(folder, "weighed", notes, weights={"unsure": 2.0})
    assert "student.weights names unsure, of which the mix has no sample" in notes


@pytest.mark.parametrize("kind", ["hard", "mixed"])
def test_a_samples_weight_multiplies_its_loss_by_each_signal(folder: Path, kind: str) -> None:
    from ledger.mixes import read_manifest
    from tests.trainer.support import make_mix, make_rows

    one, _ = first_step(folder, f"light-{kind}", kind)
    rows = [{**row, "weight": 3.0} for row in make_rows(120)]
    heavy = folder / "heavy"
    if not heavy.exists():
        make_mix(heavy / "mix", rows)
        for name in ("base", "records", "ann", "bob"):
            if (folder / name).exists():
                (heavy / name).symlink_to(folder / name)
    assert read_manifest(heavy / "mix").plan_sha == read_manifest(folder / "mix").plan_sha
    three, _ = first_step(heavy, f"heavy-{kind}", kind)
    assert three == pytest.approx(3 * one, rel=1e-5)


def test_a_task_that_counts_twice_has_twice_the_loss(folder: Path) -> None:
    one, _ = first_step(folder, "once", "hard")
    two, _ = first_step(folder, "twice", "hard", weights={"spell": 2.0})
    assert two == pytest.approx(2 * one, rel=1e-6)
