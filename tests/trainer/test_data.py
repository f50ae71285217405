"""From a mix to batches: the planned order, labels on answers only, over-long samples counted."""

import pytest
import torch

from ledger.mixes import training_order
from tests.trainer.support import character_tokenizer, make_mix, make_rows
from trainer.data import Collator, CurriculumSampler, read_data
from trainer.errors import NothingToTrain
from trainer.signals.hard import ChatFormat


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer()


@pytest.fixture
def read(tmp_path, tokenizer):
    def reader(rows, epochs=2, max_length=256):
        return read_data(
            make_mix(tmp_path / "mix", rows), epochs, ChatFormat(tokenizer), max_length
        )

    return reader


def test_the_sampler_follows_the_mix(tmp_path, read):
    data = read(make_rows(20), epochs=3)
    assert list(CurriculumSampler(data.order)) == training_order(tmp_path / "mix", 3).tolist()
    assert set(data.times().values()) == {3}


def test_a_batch_trains_answers_and_end_tokens_only(tokenizer, read):
    rows = make_rows(6)
    data = read(rows)
    batch = Collator(data, tokenizer.pad_token_id, with_mask=True)([0, 3, 5])
    ids, places, labels = batch["input_ids"], batch["places"], batch["labels_N"]
    assert batch["trained"] == len(places) == len(labels)
    assert torch.equal(ids.flatten()[places + 1], labels)
    for line, row in enumerate([rows[0], rows[3], rows[5]]):
        of_line = places // ids.shape[1] == line
        answer = row["completion"][0]["content"]
        assert tokenizer.decode(labels[of_line]) == answer + "<|im_end|>"
    assert batch["attention_mask"].flatten()[places + 1].all()


def test_samples_that_are_too_long_are_left_out_and_named(read):
    rows = make_rows(30)
    rows[4]["completion"] = [{"role": "assistant", "content": "x" * 400}]
    data = read(rows)
    assert list(data.skipped) == [rows[4]["sample"]]
    assert data.skipped[rows[4]["sample"]] > 400
    assert len(data.order) == 58
    assert rows[4]["sample"] not in data.times()


def test_a_mix_that_mostly_does_not_fit_is_refused(read):
    with pytest.raises(NothingToTrain, match="60 of 60 positions.*20 tokens.*student.max_length"):
        read(make_rows(30), max_length=20)


def test_an_empty_mix_is_refused(read):
    with pytest.raises(NothingToTrain, match="holds no sample"):
        read([])
