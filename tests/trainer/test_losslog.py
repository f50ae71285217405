"""The loss log holds every line once, whatever was killed in between."""

import math

import pytest
import torch

from trainer.errors import Diverged
from trainer.losslog import LossLog, Window, read_log


def steps(log, numbers):
    for step in numbers:
        log.window.steps += 1
        log.window.tokens += 10
        log.add(float(step))
        if step % log.every == 0:
            log.write(step, 0.1)


def test_a_resumed_log_equals_an_unbroken_one(tmp_path):
    whole = LossLog(tmp_path / "whole.jsonl", 4)
    whole.resume(Window(), 0)
    steps(whole, range(1, 13))
    first = LossLog(tmp_path / "cut.jsonl", 4)
    first.resume(Window(), 0)
    steps(first, range(1, 7))
    state = first.state(6)  # a checkpoint in the middle of a window
    steps(first, range(7, 11))
    with first.path.open("a") as file:
        file.write('{"step": 1')  # killed while it wrote
    again = LossLog(first.path, 4)
    again.resume(Window(**state), 6)
    steps(again, range(7, 13))
    assert again.path.read_text() == whole.path.read_text()
    assert [line["step"] for line in read_log(again.path)] == [4, 8, 12]


@pytest.fixture
def line(tmp_path):
    log = LossLog(tmp_path / "log.jsonl", 1, [("maths", "ann"), ("code", "bob")])
    log.resume(Window(), 0)

    def write(step, maths=None, code=None, loss=1.0):
        log.window.steps += 1
        log.add(loss)
        counts = [10.0 * (each is not None) for each in (maths, code)]
        log.add_groups(
            torch.tensor(
                [
                    [n, n * (ce or 0), 0, 0, 0, 0]
                    for n, ce in zip(counts, (maths, code), strict=True)
                ]
            )
        )
        log.write(step, 0.1)
        if step == 5:
            log.resume(Window(**log.state(5)), 5)  # killed and resumed: what was is not forgotten

    return write


def test_a_cross_entropy_that_stays_far_above_its_beginning_stops_too(line):
    for step, ce in enumerate([5.5, 30.0, 30.0, 15.0, 25.0]):
        line(step + 1, ce)
    line(6, 28.0)
    with pytest.raises(
        Diverged, match=r"is 90.0 nats a token by step 7, from 5.5.*student.learning_rate"
    ):
        line(7, 90.0)


def test_a_stage_that_counts_more_or_is_harder_has_not_diverged(line):
    for step in range(1, 5):
        line(step, maths=0.2, loss=0.2)
    for step in range(5, 10):
        line(step, code=8.0, loss=80.0)  # another task, weighed by 10
    line(10, maths=0.3, code=7.0, loss=30.0)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_with_what_to_try(tmp_path, loss):
    log = LossLog(tmp_path / "log.jsonl", 4)
    log.resume(Window(), 0)
    log.add(loss)
    with pytest.raises(Diverged, match="by step 3.*student.learning_rate.*student.warmup"):
        log.state(3)
