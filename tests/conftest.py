"""What every test stands on: no network but loopback, no keys, no hub, the same random numbers.

Set before any library is imported, since several read their switches at import.
"""

import errno
import os
import random
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SWITCHES = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HOME": str(ROOT / ".cache" / "tests" / "huggingface"),
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "TOKENIZERS_PARALLELISM": "false",
    "NO_PROXY": "127.0.0.1,localhost,::1",
    "PYTHONHASHSEED": "0",
}
os.environ.update(SWITCHES)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for each worker
for variable in [name for name in os.environ if name.endswith(("_API_KEY", "_proxy", "_PROXY"))]:
    if variable != "NO_PROXY":
        del os.environ[variable]

# A run in the background starts with Ctrl-C ignored, and would hand that down to what it starts.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

NEEDS = {
    "gpu": ("nvidia-smi", "no NVIDIA GPU here"),
    "vllm": ("vllm", "no vLLM on PATH: it has an environment of its own"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips, saying why, what this machine cannot run."""
    from tests.tutelage.report.browser import CHROMIUM, LACKING

    lacks = {name: why for name, (program, why) in NEEDS.items() if not shutil.which(program)}
    if CHROMIUM is None:
        lacks["browser"] = LACKING
    for item in items:
        for name, why in lacks.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=why))


def _is_here(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = str(address[0])
    return host in ("localhost", "::1", "") or host.startswith(("127.", "::ffff:127."))


@pytest.fixture(autouse=True, scope="session")
def loopback_only() -> Iterator[None]:
    """Refuses every connection that would leave this machine, as a closed network does."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address):
            raise OSError(errno.ENETUNREACH, f"tests reach loopback only, not {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers for each test, in the libraries that are loaded already."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
