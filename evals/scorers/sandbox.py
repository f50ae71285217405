"""Runs Python that nobody vouches for, in a child: `python -I sandbox.py`, which reads its job from stdin.

    passes("assert 1 + 1 == 2")      # -> True

The job is JSON: `code` (a program whose last lines are the tests), limits, and a `nonce`. The child writes the
nonce to its first output once the program came to its end; whatever ends it earlier (an exception, `sys.exit`,
a limit, a signal) leaves the output without it.

What holds it: limits of the kernel on memory, processor time and files; on Linux a filter on system calls, by
which no socket is opened, no process started or signalled, no file written, made, moved or removed; elsewhere
and besides an audit hook of Python's that refuses the same. Files can be read. Nothing here is a wall against
someone who attacks the kernel: for that, run the whole evaluation in a container.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

TIMEOUT_S = 10.0
MEMORY_MIB = 1024
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
OUTPUT_CHARS = 1_000_000  # that a program may print

REFUSED = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill",
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "os.chown", "os.putenv", "shutil.", "ctypes.", "tempfile.", "pty.", "signal.", "webbrowser.", "sqlite3.",
)  # fmt: skip


def passes(
    code: str, timeout_s: float = TIMEOUT_S, memory_mib: int = MEMORY_MIB, stdin: str | None = None
) -> bool:
    """Whether a program comes to its end within its limits. `stdin` is what it may read: with it the code is
    the main program, without it a module.
    """
    nonce = secrets.token_hex(16)
    job = {
        "code": code,
        "nonce": nonce,
        "cpu_s": timeout_s,
        "memory_mib": memory_mib,
        "stdin": stdin or "",
        "name": "answer" if stdin is None else "__main__",
    }
    with (
        tempfile.TemporaryDirectory(prefix="tutelage-code-") as folder,
        tempfile.TemporaryFile() as given,
    ):
        given.write(json.dumps(job).encode())
        given.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-I", "-B", __file__],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": os.environ.get("PATH", ""), "HOME": folder, "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        assert child.stdout is not None
        with child.stdout as told:
            try:
                child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return False
            finally:
                child.kill()
                child.wait()
            # Read once it has ended, and no more than is expected: a flood fills the pipe and gets no further.
            return told.read(len(nonce) + 1) == nonce.encode()


def _limit(job: dict[str, Any]) -> None:
    import resource

    memory = int(job["memory_mib"]) * 2**20
    cpu = int(job["cpu_s"]) + 1
    for name, most in (
        ("RLIMIT_AS", memory),
        ("RLIMIT_DATA", memory),
        ("RLIMIT_CPU", cpu),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_NOFILE", 64),
    ):
        kind = getattr(resource, name, None)
        if kind is not None:
            try:
                resource.setrlimit(kind, (most, most))
            except (ValueError, OSError):  # macOS refuses some; a lower limit may stand already
                continue


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Python's own watch on what happens."""
    if event.startswith(REFUSED) or (event == "open" and _writes(arguments)):
        raise PermissionError(f"{event} is not allowed here")


def _writes(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & WRITES)


class _Printed:
    """Standard output, which goes nowhere and comes to an end."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self._left = OUTPUT_CHARS

    def write(self, text: str) -> int:
        self._left -= len(text)
        if self._left < 0:
            raise PermissionError("the program prints too much")
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


def _child() -> None:
    import io

    sys.path.insert(0, str(Path(__file__).parent))
    refuse_calls = import_module("seccomp").refuse_calls  # no package around it here
    sys.path.pop(0)
    job = json.loads(sys.stdin.read())
    out = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    sys.stdin = io.StringIO(job["stdin"])
    sys.stdout = sys.stderr = _Printed()
    # By names of its own, since the program may put something else into `os`.
    told: Callable[[int, bytes], int] = os.write
    leave = os._exit
    nonce = str(job["nonce"]).encode()
    _limit(job)
    refuse_calls()
    sys.addaudithook(_refuse)
    try:
        exec(compile(job.pop("code"), "answer.py", "exec"), {"__name__": job["name"]})
    except BaseException:  # SystemExit and KeyboardInterrupt too: the tests were not reached
        leave(1)
    told(out, nonce)
    leave(0)


if __name__ == "__main__":
    _child()
