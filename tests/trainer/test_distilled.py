"""Training towards records of two teachers: the loss is the formula's, and all that holds for text holds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ledger.records import RecordsMismatch, RecordsMissing, writing_records
from tests.trainer.signals import HEAD, KINDS, capture
from tests.trainer.stopping import Stopped, stop_at, without_times
from tests.trainer.support import character_tokenizer, make_rows
from tests.trainer.training_child import run
from trainer.data import Collator, read_data, require_aligned
from trainer.losslog import read_log
from trainer.signals.hard import ChatFormat

SIGNAL = KINDS["logit"]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return capture(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def distilled(folder: Path, records: Path) -> Any:
    from ledger.mixes import read_manifest
    from ledger.store import Ledger
    from tests.trainer.support import fill_ledger

    with (ledger := Ledger(folder / "distilled-ledger")).writing("test"):
        fill_ledger(ledger, make_rows(120), read_manifest(folder / "mix").lock_sha)
    notes: list[str] = []
    student = run(folder, "distilled", notes, records, **SIGNAL)
    assert notes == [
        "12 of 120 samples have no distributions of their teacher: they are trained by their text"
    ]
    return student


def test_a_step_is_the_formula_over_both_teachers_samples(
    folder: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer import sft

    compared: list[tuple[float, float]] = []
    original = sft.StudentTrainer.compute_loss

    def comparing(self: Any, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        ids, places, p = inputs["input_ids"], inputs["places"], inputs["probabilities_N_K"].double()
        logits = model(input_ids=ids).logits.flatten(0, 1)[places].double()
        labels, names = inputs["labels_N"], inputs["ids_N_K"]
        total = torch.zeros((), dtype=torch.float64)
        for n in range(len(labels)):
            ce = -logits[n].log_softmax(0)[labels[n]]
            if not p[n].sum():
                total = total + ce
                continue
            known = p[n] > 0
            student = (logits[n] / 2).softmax(0)[names[n][known]]
            student = torch.cat([student, 1 - student.sum()[None]])
            teacher = torch.cat([p[n][known], (1 - p[n].sum()[None]).clamp(min=1e-6)])
            kd = (teacher * (teacher / student).log()).sum()
            total = total + 0.7 * 4 * kd + 0.3 * ce
        ours = original(self, model, inputs, *args, **options)
        compared.append((float(total.detach()) / len(labels), ours.item()))
        if len(compared) == 3:
            raise Stopped
        return ours

    monkeypatch.setattr(sft.StudentTrainer, "compute_loss", comparing)
    with pytest.raises(Stopped):
        run(folder, "formula", None, records, **SIGNAL)
    for own, ours in compared:
        assert ours == pytest.approx(own, rel=1e-4)


def test_resumed_gives_the_very_same_weights(
    folder: Path, records: Path, distilled: Any, new_ledger: Any
) -> None:
    new_ledger("distilled-cut")
    stop_at(folder, "distilled-cut", step=12, records=records, **SIGNAL)
    resumed = run(folder, "distilled-cut", None, records, **SIGNAL)
    assert resumed.weights_sha == distilled.weights_sha
    assert without_times(resumed.log) == without_times(distilled.log)


def test_the_loss_is_the_same_however_a_step_is_cut(
    folder: Path, records: Path, distilled: Any, new_ledger: Any
) -> None:
    new_ledger("distilled-parts")
    cut = run(folder, "distilled-parts", None, records, **SIGNAL, batch_size=2, accumulate=4)
    for one, other in zip(read_log(distilled.log)[:10], read_log(cut.log)[:10], strict=True):
        assert other["tokens"] == one["tokens"]
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)


@pytest.mark.parametrize("changes", [{"lora": {"rank": 4}}, {"dtype": "bfloat16"}])
def test_adapters_and_half_precision_learn_from_records(
    folder: Path, records: Path, new_ledger: Any, changes: dict[str, Any]
) -> None:
    name = f"distilled-{next(iter(changes))}"
    new_ledger(name)
    lines = read_log(run(folder, name, None, records, **{**SIGNAL, **changes, "epochs": 3}).log)
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_the_collator_gives_each_token_its_own_record(tmp_path: Path, folder: Path) -> None:
    from ledger.records import read_records

    chat = ChatFormat(character_tokenizer())
    data = read_data(folder / "mix", 1, chat, 256)
    found = read_records(capture(tmp_path / "records"), HEAD, tmp_path)
    assert require_aligned(data, found) == 108
    batch = Collator(data, 0, with_mask=False, records=found, alpha=0.7)([0, 1, 2])
    ids, p = found.decode([data.keys[1], data.keys[2]])
    without = batch["trained"] - len(ids)
    assert (batch["probabilities_N_K"][:without] == 0).all()
    assert (batch["probabilities_N_K"][without:].numpy() == p).all()
    assert (batch["ids_N_K"][without:].numpy() == ids).all()
    has_one = torch.from_numpy(np.concatenate([np.zeros(without, bool), p.sum(axis=1) > 0]))
    assert torch.equal(batch["kd_weights_N"], 0.7 * has_one.float())
    assert torch.allclose(batch["ce_weights_N"] + batch["kd_weights_N"], torch.ones(len(has_one)))


def test_records_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordsMissing, match="train by `signal: hard`"):
        run(folder, "missing", **SIGNAL)
    with pytest.raises(RecordsMissing, match="captures them again"):
        run(folder, "missing", None, tmp_path / "nowhere", **SIGNAL)
    with pytest.raises(RecordsMismatch, match=r"another temperature \(2.0\).*\(1.0\)"):
        run(folder, "warm", None, capture(tmp_path / "a"), signal="logit", logit={"top_k": 8})
    nothing = tmp_path / "c"
    with writing_records(nothing / "ann.parquet", HEAD):
        pass
    with pytest.raises(RecordsMissing, match="of none of the 120 samples of this mix"):
        run(folder, "nothing", None, nothing, **SIGNAL)
    longer = capture(tmp_path / "b", extra=1)
    with pytest.raises(RecordsMismatch, match=r"records for \d trained tokens"):
        run(folder, "longer", None, longer, **SIGNAL)
