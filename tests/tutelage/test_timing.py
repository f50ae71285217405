"""Which servers are timed, for what money."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.evals.streaming import StreamServer
from tests.tutelage.recipes import TEACHER, write_recipe
from tutelage import run_recipe
from tutelage.timing import speed_of
from tutelage.watch import Watch
from tutelage.workspace import open_run


@pytest.fixture
def server() -> Iterator[StreamServer]:
    found = StreamServer()
    yield found
    found.close()


class Notes(Watch):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(("usd", "timed"), [(0.0, ["free"]), (10.0, ["dear", "free"])])
def test_servers_are_timed_as_far_as_the_money_goes(
    tmp_path: Path, server: StreamServer, usd: float, timed: list[str]
) -> None:
    price = {"input_usd_per_million": 1.0, "output_usd_per_million": 1000.0}
    teachers: dict[str, Any] = {
        "dear": {**TEACHER, "url": server.url, "price": price, "budget_usd": 1},
        "free": {**TEACHER, "url": server.url},
    }
    speed = {"prompts": 4, "max_tokens": 5, "concurrency": [2], "repeats": 1, "endpoint_usd": usd}
    evaluate = {"hold_out": 2, "speed": speed}
    run_recipe(
        write_recipe(tmp_path, teachers=teachers, evaluate=evaluate, run=str(tmp_path / "run")),
        until="classify",
    )
    workspace, watch = open_run(tmp_path / "run"), Notes()
    found = speed_of(workspace, watch, list(workspace.teachers.values()))
    assert sorted(found) == timed
    assert len(server.bodies) == len(timed) * (1 + 4)
    told = [
        note for note in watch.notes if note.startswith("dear is not timed: that costs up to $")
    ]
    assert len(told) == 2 - len(timed)
