"""`tutelage batches`: what is at the providers is shown, called off, and taken in."""

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.prompts import Prompt
from router.engine import BatchesOpen, Request, batches, buy
from tests.faults.batch_server import BatchServer
from tests.router.engine import batching
from tests.tutelage.recipes import TEACHER, write_recipe
from tests.tutelage.test_cli import run
from tutelage import cancel_batches, list_batches
from tutelage.recipe import load_recipe
from tutelage.runfolder import begin
from tutelage.workspace import Workspace

STARTED, UPLOADED = 9, 4  # the steps after which a buyer dies


@pytest.fixture(autouse=True)
def _in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batches, "POLL_S", 0.001)
    monkeypatch.setattr(batches, "POLL_CEILING_S", 0.001)


def begun(folder: Path, server: BatchServer, dead_after: int, **more: Any) -> Workspace:
    """A run that died while its ten requests were in a batch."""
    teacher = {**TEACHER, "url": server.url, "batch": True}
    path = write_recipe(folder, teachers={"one": {**teacher, **more}})
    loaded = load_recipe(path)
    begin(loaded)
    workspace = Workspace.of(loaded)
    file = folder / "teacher.json"
    file.write_text(json.dumps(teacher))
    assert batching.dies(workspace.ledger.folder, file, 10, at=dead_after)
    return workspace


def buy_again(workspace: Workspace) -> dict[str, int]:
    """Asks for the same ten."""
    requests = [Request(Prompt.of(f"prompt {i}"), "one") for i in range(10)]
    with workspace.ledger.writing("test"):
        return buy(
            requests,
            workspace.teachers,
            workspace.ledger,
            workspace.sampling,
            workspace.recipe.generate,
            stage="generate",
            run=workspace.run,
        ).states


def test_batches_are_shown_as_the_provider_has_them(tmp_path: Path) -> None:
    with BatchServer(fates=["stuck"]) as server:
        begun(tmp_path, server, STARTED)
        shown = run("batches", "runs/test", cwd=tmp_path)
        assert "one" in shown
        assert "batch-0  in_progress        10         5       0" in shown
        found = json.loads(run("batches", "runs/test", "--json", cwd=tmp_path))
        assert found["batches"][0]["answered"] == 5


def test_cancelled_batch_keeps_its_answers_and_the_rest_is_asked_anew(tmp_path: Path) -> None:
    with BatchServer(fates=["stuck"]) as server:
        workspace = begun(tmp_path, server, STARTED)
        list_batches(tmp_path / "runs" / "test")  # half of it is answered by now
        found = cancel_batches(tmp_path / "runs" / "test")
        assert found.note.startswith("5 answers taken in, 5 requests called off")
        assert server.jobs["batch-0"].state == "cancelled"
        assert list_batches(tmp_path / "runs" / "test").batches == []
        assert buy_again(workspace) == {"done": 10}
        assert set(server.billed.values()) == {1}


def test_batch_that_was_not_started_is_called_off_without_starting_it(tmp_path: Path) -> None:
    with BatchServer() as server:
        begun(tmp_path, server, UPLOADED)
        assert [b.state for b in list_batches(Path("runs/test")).batches] == ["uploaded"]
        cancel_batches(Path("runs/test"))
        assert not server.jobs
        assert list_batches(Path("runs/test")).batches == []


def test_run_at_work_takes_in_what_another_shell_called_off(tmp_path: Path) -> None:
    with BatchServer(fates=["stuck"]) as server:
        workspace = begun(tmp_path, server, STARTED)
        with workspace.ledger.writing("test"):
            found = cancel_batches(Path("runs/test"))
        assert [b.state for b in found.batches] == ["cancelling"]
        assert "takes in" in found.note


def test_calls_do_not_buy_what_a_batch_was_paid_for(tmp_path: Path) -> None:
    with BatchServer(fates=["stuck"]) as server:
        workspace = begun(tmp_path, server, STARTED, batch=False)
        with pytest.raises(BatchesOpen, match="10 requests .*tutelage batches RUN --cancel"):
            buy_again(workspace)
        assert len(server.jobs) == 1
