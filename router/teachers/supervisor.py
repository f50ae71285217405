"""Runs a command for as long as its parent lives, and then ends it with all that it has started.

    python supervisor.py COMMAND [ARGUMENT …]      # as a file: it must start fast

The parent holds the other end of standard input: however it dies, SIGKILL included, the pipe breaks. On
Linux what the command starts cannot escape by leaving its process group either, and the command dies
with this process too.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from types import FrameType

import psutil

GRACE_S = 15.0  # between asking a command to end and ending it
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def prctl(option: int, value: int) -> None:
    """Linux's `prctl`; nothing elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def main() -> None:
    """Runs the command line's command; exits with its code."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(
        sys.argv[1:],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
    )

    def end(_: int = 0, __: FrameType | None = None) -> None:
        """Asks the command to end; a thread sees to it that it does."""
        threading.Thread(target=_end, args=(child,), daemon=True).start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    threading.Thread(target=_until_parent_dies, args=(end,), daemon=True).start()
    code = child.wait()
    _kill_the_rest(child.pid)
    sys.exit(code if code >= 0 else 128 - code)


def _until_parent_dies(end: Callable[[], None]) -> None:
    while os.read(0, 4096):
        pass
    end()


def _end(child: "subprocess.Popen[bytes]") -> None:
    _signal(child.pid, signal.SIGTERM)
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        _signal(child.pid, signal.SIGKILL)


def _kill_the_rest(group: int) -> None:
    """Ends what is left of the command's group, and what has left it."""
    _signal(group, signal.SIGKILL)
    left = psutil.Process().children(recursive=True)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=5)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    main()
