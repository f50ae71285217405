"""What the router's tests stand on: real tiny models, a real ledger, real servers on loopback."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.prompts import Prompt
from ledger.store import Ledger
from router.teachers import Teacher, TeacherConfig, open_teacher
from tests.faults.server import MODEL, FaultServer
from tests.router import chat_server, tiny

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama of two layers."""
    return tiny.make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A well-behaved server that misbehaves as it is told."""
    with FaultServer() as running:
        yield running


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger open for writing."""
    opened = Ledger(tmp_path / "ledger")
    with opened.writing("test"):
        yield opened


@pytest.fixture
def http_teacher() -> Callable[..., Teacher]:
    """`http_teacher(server, **fields)`: the server as a teacher called `t`."""

    def make(server: FaultServer, **fields: object) -> Teacher:
        config = TeacherConfig(http=MODEL, url=server.url, licence="unknown", **fields)  # type: ignore[arg-type]
        return open_teacher("t", config, Path())

    return make


@pytest.fixture
def put_prompts(ledger: Ledger) -> Callable[[int], list[Prompt]]:
    """`put_prompts(n)`: n prompts, known to the ledger."""

    def put(n: int) -> list[Prompt]:
        prompts = [Prompt.of(f"prompt {i}") for i in range(n)]
        ledger.put_all([row for prompt in prompts for row in prompt.rows("test")])
        return prompts

    return put


@pytest.fixture(scope="session")
def smollm2_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of SmolLM2-135M behind llama.cpp's server; the model is called SmolLM2."""
    gguf = chat_server.find_gguf()
    if gguf is None:
        pytest.fail("no SmolLM2 GGUF: `make setup-dev` fetches it, or set TUTELAGE_SMOLLM2")
    child, url = chat_server.start(gguf, tmp_path_factory.mktemp("chat") / "log")
    yield url
    child.kill()
    child.wait()
