"""The loss log holds every line once, whatever was killed in between."""

import math

import pytest

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


def test_a_loss_that_stays_far_above_its_beginning_stops_too(tmp_path):
    log = LossLog(tmp_path / "log.jsonl", 1)
    log.resume(Window(), 0)

    def line(step, loss):
        log.window.steps += 1
        log.add(loss)
        log.write(step, 0.1)

    for step, loss in enumerate([5.5, 30.0, 30.0, 15.0, 25.0]):
        line(step, loss)
    log.resume(Window(**log.state(5)), 5)  # killed and resumed: what it was is not forgotten
    line(6, 28.0)
    with pytest.raises(Diverged, match=r"is 90.0 by step 7, from 5.5.*student.learning_rate"):
        line(7, 90.0)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_with_what_to_try(tmp_path, loss):
    log = LossLog(tmp_path / "log.jsonl", 4)
    log.resume(Window(), 0)
    log.add(loss)
    with pytest.raises(Diverged, match="by step 3.*student.learning_rate.*student.warmup"):
        log.state(3)
