"""The plain model behind an OpenAI-compatible server on loopback: llama.cpp, by xllamacpp.

    python -m recipes.smollm2.server [RECIPE]          serves until Ctrl-C

The server is a process of its own. It ends when the pipe to its standard input closes, so it never
outlives whoever started it, however that one ended.
"""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from recipes.smollm2.plain_model import ROOT, NotReady, check_gguf

RECIPE = ROOT / "recipes" / "smollm2.yaml"
TEACHER = "plain"
SLOTS, CONTEXT_TOKENS = 8, 8_192
START_S, STOP_S = 120.0, 10.0


def endpoint(recipe: Path = RECIPE) -> tuple[str, str, int]:
    """Model name, host and port that a recipe says. Raises NotReady where it is not loopback."""
    teacher = yaml.safe_load(recipe.read_text("utf-8"))["teachers"][TEACHER]
    url = urlsplit(teacher["url"])
    if url.hostname != "127.0.0.1" or url.port is None:
        raise NotReady(
            f"teachers.{TEACHER}.url in {recipe} must be http://127.0.0.1:PORT/v1: this server "
            f"answers this machine alone, and {teacher['url']} is somewhere else"
        )
    return teacher["http"], url.hostname, url.port


@contextlib.contextmanager
def running(log: Path, recipe: Path = RECIPE) -> Iterator[None]:
    """A healthy server inside the block, stopped after it. Raises NotReady where it cannot start."""
    _, host, port = endpoint(recipe)
    _refuse_taken(host, port, recipe)
    check_gguf()
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "recipes.smollm2.server", str(recipe)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the run, which still needs its server to drain
        )
    try:
        _wait_until_healthy(child, host, port, log)
        yield
    finally:
        _stop(child)


def _refuse_taken(host: str, port: int, recipe: Path) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise NotReady(
                f"port {port} is taken ({error.strerror}): end the process that listens there, or "
                f"write another port into teachers.{TEACHER}.url of {recipe}"
            ) from error


def _wait_until_healthy(child: "subprocess.Popen[bytes]", host: str, port: int, log: Path) -> None:
    until = time.monotonic() + START_S
    while not _healthy(host, port):
        if child.poll() is not None or time.monotonic() > until:
            why = f"ended with {child.poll()}" if child.poll() is not None else "is not healthy yet"
            end = "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-15:])
            raise NotReady(f"the server {why}; the end of {log}:\n{end}")
        time.sleep(0.2)


def _healthy(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(child: "subprocess.Popen[bytes]") -> None:
    assert child.stdin is not None
    child.stdin.close()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def serve(recipe: Path) -> None:
    """Serves until standard input ends."""
    import xllamacpp

    name, host, port = endpoint(recipe)
    params = xllamacpp.CommonParams()
    params.model.path = str(check_gguf())
    params.model_alias = {name}
    params.hostnames, params.port = [host], port
    params.n_parallel, params.n_ctx = SLOTS, CONTEXT_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = os.cpu_count() or 1
    server = xllamacpp.Server(params)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.buffer.read()
    del server


if __name__ == "__main__":
    serve(Path(sys.argv[1]) if len(sys.argv) > 1 else RECIPE)
