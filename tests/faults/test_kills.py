"""A run killed at random moments ends like one that was not, and buys no answer twice."""

from pathlib import Path

import pytest

from tests.faults.kills import finish, killed_run, lasting
from tests.tutelage.small_run import write_small


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_killed_at_random_moments_ends_like_an_unkilled_one(tmp_path: Path) -> None:
    recipe = write_small(tmp_path)
    whole = finish(recipe, tmp_path / "whole" / "run")
    found = killed_run(recipe, tmp_path / "killed" / "run", kills=12, span_s=14.0, seed=3)
    assert lasting(found["result"]) == lasting(whole)
    assert (found["lost"], found["doubled"], found["open"]) == (0, 0, 0)
