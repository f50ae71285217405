"""Training end to end on a tiny base: exact, resumable at any moment, recorded."""

import shutil
import subprocess
import sys
from datetime import date
from typing import Any

import pytest

from ledger.mixes import read_manifest, training_order
from ledger.prompts import Prompt
from tests.trainer.stopping import Stopped, kill_when, stop_at, without_times
from tests.trainer.support import character_tokenizer, make_base
from tests.trainer.training_child import run
from trainer.base import count_tokens, load_model, open_tokenizer
from trainer.errors import BadBase, Diverged, StudentExists, TensorBoardMissing
from trainer.losslog import read_log


@pytest.fixture(scope="module")
def whole(tmp_path_factory, folder):
    """A training that nothing interrupts."""
    from ledger.store import Ledger
    from tests.trainer.support import fill_ledger, make_rows

    ledger = Ledger(folder / "whole-ledger")
    with ledger.writing("test"):
        fill_ledger(ledger, make_rows(120), read_manifest(folder / "mix").lock_sha)
    return run(folder, "whole")


def test_the_student_is_a_plain_folder_that_transformers_answers_from(whole):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(whole.path)
    model = AutoModelForCausalLM.from_pretrained(whole.path)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": "backwards: abc"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert answer.shape[1] == inputs["input_ids"].shape[1] + 4
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert not whole.path.with_name("whole.training").exists()


def test_the_loss_falls_and_the_log_has_every_step_once(whole):
    lines = read_log(whole.log)
    assert [line["step"] for line in lines] == list(range(1, whole.steps + 1))
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    assert lines[-1]["tokens"] == whole.tokens
    assert whole.samples == 240


def test_the_card_names_mix_lock_teachers_and_licences(folder, whole):
    card = (whole.path / "README.md").read_text()
    assert read_manifest(folder / "mix").lock_sha in card
    assert "| ann | Apache-2.0 | 120 |" in card
    assert "| bob | MIT \\| \\<b\\> | 120 |" in card


def test_the_ledger_knows_what_the_student_consumed(folder, whole):
    from ledger.store import Ledger

    ledger = Ledger(folder / "whole-ledger")
    assert ledger.rows(
        "SELECT s.key, m.run, s.weights_sha FROM student_run s JOIN mix m ON s.mix = m.id"
    ) == [("5" * 32, "r", whole.weights_sha)]
    assert ledger.rows("SELECT count(*), min(times), max(times) FROM consumed") == [(120, 2, 2)]
    assert ledger.rows("SELECT kind, subject, licence FROM licence") == [
        ("base", "base", "unknown")
    ]


def test_a_student_that_is_there_is_returned_and_recorded_once(folder, whole):
    from ledger.store import Ledger

    before = (whole.path / "model.safetensors").stat().st_mtime_ns
    assert run(folder, "whole") == whole
    assert (whole.path / "model.safetensors").stat().st_mtime_ns == before
    assert Ledger(folder / "whole-ledger").rows("SELECT count(*) FROM licence") == [(1,)]


def test_samples_that_are_too_long_are_named(tmp_path):
    from ledger.store import Ledger
    from tests.trainer.support import fill_ledger, make_mix, make_rows

    rows = make_rows(60)
    for i in range(4):
        rows[i]["completion"] = [{"role": "assistant", "content": "x" * (100 + i)}]
    make_base(tmp_path / "base")
    make_mix(tmp_path / "mix", rows)
    ledger = Ledger(tmp_path / "student-ledger")
    notes: list[str] = []
    with ledger.writing("test"):
        fill_ledger(ledger, rows, read_manifest(tmp_path / "mix").lock_sha)
    student = run(tmp_path, "student", notes, epochs=1, max_length=60)
    assert set(student.skipped) == {row["sample"] for row in rows[:4]}
    assert min(student.skipped.values()) > 60
    assert student.samples == 56
    told = next(note for note in notes if "student.max_length" in note)
    assert "more than 60 tokens" in told
    assert "4 of them" in told
    assert "training.json" in told
    shortest, *longest = sorted(student.skipped, key=student.skipped.__getitem__)
    assert all(f"{key} ({student.skipped[key]} tokens)" in told for key in longest)
    assert shortest not in told


def test_another_student_is_never_overwritten(folder, whole):
    with pytest.raises(StudentExists, match="nothing is overwritten"):
        run(folder, "whole", epochs=1)


@pytest.mark.parametrize(
    "moment", [".writing", pytest.param("checkpoint-10", marks=pytest.mark.slow)]
)
def test_killed_and_resumed_gives_the_very_same_weights(folder, whole, new_ledger, moment):
    name = f"killed{moment.replace('.', '-')}"
    ledger = new_ledger(name)
    kill_when(folder, name, moment)
    assert not (folder / name).exists()
    notes: list[str] = []
    resumed = run(folder, name, notes)
    assert any("goes on from step" in note for note in notes)
    assert resumed.weights_sha == whole.weights_sha
    assert without_times(resumed.log) == without_times(whole.log)
    assert ledger.rows("SELECT count(*) FROM consumed") == [(120,)]


def test_a_training_goes_on_with_the_date_on_which_it_began(folder, new_ledger):
    new_ledger("dated")
    stop_at(folder, "dated", step=12)
    day = folder / "dated.training" / "day"
    assert day.read_text() == f"{date.today()}"


def test_a_damaged_checkpoint_is_dropped_and_the_weights_are_the_same(folder, whole, new_ledger):
    new_ledger("damaged")
    stop_at(folder, "damaged", step=12)
    model = folder / "damaged.training/checkpoints/checkpoint-10/model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    notes: list[str] = []
    assert run(folder, "damaged", notes).weights_sha == whole.weights_sha
    assert any("checkpoint-10 was damaged" in note for note in notes)
    assert any("from step 5" in note for note in notes)


def test_other_settings_begin_anew(folder, new_ledger):
    new_ledger("changed")
    stop_at(folder, "changed", step=7)
    notes: list[str] = []
    run(folder, "changed", notes, learning_rate=1e-3)
    assert any("begins anew" in note for note in notes)
    assert not any("goes on" in note for note in notes)


def test_the_order_trained_is_the_order_planned(folder, new_ledger, monkeypatch):
    from trainer import sft

    seen: list[int] = []
    original = sft.Collator.__call__

    def watching(self, rows):
        seen.extend(rows)
        return original(self, rows)

    monkeypatch.setattr(sft.Collator, "__call__", watching)
    new_ledger("order")
    run(folder, "order", epochs=1)
    assert seen == training_order(folder / "mix", 1).tolist()


def test_the_loss_is_the_same_however_a_step_is_cut(folder, whole, new_ledger):
    new_ledger("cut")
    cut = run(folder, "cut", batch_size=2, accumulate=4)
    for one, other in zip(read_log(whole.log)[:10], read_log(cut.log)[:10], strict=True):
        assert other["tokens"] == one["tokens"]
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_loss_is_the_models_own_over_the_answers(folder, monkeypatch, dtype):
    """Against transformers' loss over whole, masked batches, under the training's precision."""
    import torch

    from trainer import sft

    compared: list[tuple[float, float]] = []
    original = sft.StudentTrainer.compute_loss

    def comparing(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        ids, places = inputs["input_ids"], inputs["places"]
        labels = torch.full_like(ids, -100)
        labels.flatten()[places + 1] = inputs["labels_N"]
        real = torch.arange(ids.shape[1]) <= (labels != -100).long().cumsum(1).argmax(1)[:, None]
        with self.accelerator.autocast():
            own = model(input_ids=ids, attention_mask=real.long(), labels=labels).loss
        ours = original(self, model, inputs, return_outputs, num_items_in_batch)
        compared.append((own.item(), ours.item()))
        if len(compared) == 3:
            raise Stopped
        return ours

    monkeypatch.setattr(sft.StudentTrainer, "compute_loss", comparing)
    with pytest.raises(Stopped):
        run(folder, f"own-{dtype}", dtype=dtype)
    for own, ours in compared:
        assert ours == pytest.approx(own, rel=1e-5 if dtype == "float32" else 3e-3)


def test_adapters_are_merged_and_resume_exactly(folder, new_ledger):
    from transformers import AutoModelForCausalLM

    changes: dict[str, Any] = {
        "lora": {"rank": 4, "dropout": 0.1},
        "learning_rate": 1e-2,
        "epochs": 1,
    }
    new_ledger("lora")
    new_ledger("lora-cut")
    one = run(folder, "lora", **changes)
    stop_at(folder, "lora-cut", step=12, **changes)
    other = run(folder, "lora-cut", **changes)
    assert one.weights_sha == other.weights_sha
    AutoModelForCausalLM.from_pretrained(one.path)
    assert not list(one.path.glob("adapter*"))
    lines = read_log(one.log)
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_adapters_are_kept_by_themselves_where_the_recipe_says_so(folder, new_ledger):
    """Adapters beside the base answer like the merged student; what learns beside them is not among them."""
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file

    from tests.trainer.signals import teachers

    new_ledger("kept-adapters")
    student = run(
        folder,
        "kept-adapters",
        features=teachers(folder),
        signal="feature",
        lora={"rank": 4, "keep": True},
        learning_rate=1e-2,
        epochs=1,
    )
    names = load_file(student.path / "adapter/adapter_model.safetensors").keys()
    assert all("lora_" in name for name in names)
    base = load_model(str(folder / "base"), torch.float32)
    both = PeftModel.from_pretrained(base, student.path / "adapter").eval()
    merged = load_model(str(student.path), torch.float32).eval()
    ids = torch.arange(3, 40)[None]
    assert torch.allclose(both(ids).logits, merged(ids).logits, atol=1e-4)


def test_the_log_is_written_for_tensorboard(folder, new_ledger, monkeypatch):
    from tensorboardX.proto.event_pb2 import Event

    new_ledger("boarded")
    student = run(folder, "boarded", tensorboard=True, epochs=1)
    (path,) = (folder / "boarded.tensorboard").glob("events*")
    data = path.read_bytes()
    found: dict[tuple[int, str], float] = {}
    while data:  # length, its check sum, the event, its check sum
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        found |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
        data = data[16 + size :]
    lines = read_log(student.log)
    for line in lines:
        assert found[line["step"], "train/loss"] == pytest.approx(line["loss"], rel=1e-5)
    assert (lines[-1]["step"], "train/teachers/ann/share") in found
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(TensorBoardMissing, match="pip install"):
        run(folder, "unboarded", tensorboard=True)


def test_adapters_for_layers_that_are_not_there_are_refused(folder):
    with pytest.raises(BadBase, match=r"'q_prj'.*there are .*q_proj"):
        run(folder, "no-target", lora={"rank": 4, "targets": ["v_proj", "q_prj"]})


def test_a_base_in_the_hubs_cache_is_found_by_its_id(folder, tmp_path, new_ledger, monkeypatch):
    from huggingface_hub import constants

    cached = tmp_path / "models--me--tiny"
    shutil.copytree(folder / "base", cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    new_ledger("from-hub")
    student = run(folder, "from-hub", base="me/tiny", epochs=1)
    assert "`me/tiny`" in (student.path / "README.md").read_text()


def test_a_training_that_diverges_stops_with_what_to_try(folder):
    with pytest.raises(Diverged, match="student.learning_rate"):
        run(folder, "diverged", learning_rate=1e30)
    assert not (folder / "diverged").exists()


def test_weights_that_are_no_numbers_at_the_end_are_no_student(folder):
    with pytest.raises(Diverged, match="weights, such as model.* at the end"):
        run(folder, "broken", epochs=1, batch_size=120, learning_rate=1e38)
    assert not (folder / "broken").exists()


def test_a_base_without_a_template_gets_a_plain_one(tmp_path):
    make_base(tmp_path / "base", character_tokenizer(None))
    tokenizer = open_tokenizer("base", tmp_path)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}],
        tokenize=False,
    )
    assert text == "User:\nhi\n\nAssistant:\nyes<|im_end|>\n\n"
    assert count_tokens("base", tmp_path, [(Prompt.of("hi"), "yes")]) == [4]


def test_bases_that_cannot_be_used_say_why(tmp_path):
    import torch

    with pytest.raises(BadBase, match="is no folder"):
        open_tokenizer("./missing", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadBase, match="no config.json"):
        open_tokenizer("empty", tmp_path)
    with pytest.raises(BadBase, match="cannot be loaded"):
        open_tokenizer("nobody/nothing", tmp_path)
    pickled = make_base(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(BadBase, match="safetensors"):
        load_model(str(pickled), torch.float32)


def test_importing_the_trainer_loads_no_torch():
    code = "import trainer.config, trainer.run, sys; assert 'torch' not in sys.modules, 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True)
