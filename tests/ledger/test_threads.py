"""How many threads a network computes with."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from ledger.threads import SMALL, WAITING, threads_for, waiting


@pytest.fixture
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_three_threads")
@pytest.mark.parametrize(("parameters", "threads"), [(SMALL - 1, 1), (SMALL, 3)])
def test_a_small_network_computes_with_one_thread(parameters: int, threads: int) -> None:
    with threads_for(parameters):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("_three_threads")
def test_the_callers_threads_come_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), threads_for(1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 3


def test_what_the_user_says_of_waiting_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert waiting() == WAITING
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert waiting() == {}


def test_nothing_heavy_is_loaded_to_say_it() -> None:
    code = "import sys, ledger.threads; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
