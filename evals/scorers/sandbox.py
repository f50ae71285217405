"""Runs Python that nobody vouches for, in a child: `python sandbox.py FD`, which reads its job from there.

    passes("def f(x): return x + 1", tests="assert f(1) == 2")      # -> True

The job holds the program, its tests, limits, and a `nonce`, which the child writes back once the tests came to
their end; whatever ends it earlier (an exception, `sys.exit`, a limit, a signal) leaves it unwritten.

What holds it: limits of the kernel on memory, processor time and files; on Linux a filter on system calls, by
which no socket is opened, no process started or signalled, no file opened to write, made, moved or removed;
elsewhere and besides an audit hook of Python's that refuses the same. Files can be read, those of /proc not.

What keeps an answer from saying itself that it passed: while it runs, the nonce stands on the interpreter's
stack alone, where no frame, module, descriptor or file leads to it; the garbage collector's lists, tracing and
all of ctypes but its numbers are refused. This is no proof, since program and tests share a process: who reads
the process's memory (numpy can be brought to it) finds the nonce, and values that say they equal everything,
or a patched `abs`, fool tests that believe them. Nor is it a wall against someone who attacks the kernel: for
that, run the whole evaluation in a container.
"""

import marshal
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

TIMEOUT_S = 10.0
MEMORY_MIB = 1024
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
OUTPUT_BYTES = 1_000_000  # that a program may print

REFUSED = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill",
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "os.chown", "shutil.", "ctypes.", "tempfile.", "pty.", "signal.", "webbrowser.", "sqlite3.", "gc.get_",
    "sys.settrace", "sys._current_frames", "cpython.PyInterpreterState_New",
)  # fmt: skip
NATIVE = ("ctypes", "_ctypes", "seccomp")  # modules that lead to the process's memory
OF_CTYPES = (  # what a program may use of it
    "c_bool", "c_byte", "c_ubyte", "c_short", "c_ushort", "c_int", "c_uint", "c_long", "c_ulong", "c_longlong",
    "c_ulonglong", "c_int8", "c_uint8", "c_int16", "c_uint16", "c_int32", "c_uint32", "c_int64", "c_uint64",
    "c_float", "c_double", "c_size_t", "py_object", "sizeof",
)  # fmt: skip
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def passes(
    code: str,
    timeout_s: float = TIMEOUT_S,
    memory_mib: int = MEMORY_MIB,
    stdin: str | None = None,
    tests: str = "",
) -> bool:
    """Whether a program, and then its tests in the same names, come to their end within the limits. `stdin` is
    what it may read: with it the code is the main program, without it a module.
    """
    # Here and not above: the child runs this file too, and starts faster without them.
    import secrets
    import socket
    import subprocess
    import tempfile

    nonce = secrets.token_bytes(16)
    job = {
        "code": code,
        "tests": tests,
        "nonce": nonce,
        "cpu_s": timeout_s,
        "memory_mib": memory_mib,
        "name": "answer" if stdin is None else "__main__",
    }
    ours, its = socket.socketpair()
    with (
        tempfile.TemporaryDirectory(prefix="tutelage-code-") as folder,
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as printed,
        ours,
    ):
        given.write((stdin or "").encode("utf-8", "surrogatepass"))
        given.seek(0)
        with its:
            child = subprocess.Popen(
                # Not -I, which leaves PYTHONHASHSEED unread: an answer shall get the same score each time.
                [sys.executable, "-s", "-P", "-B", __file__, str(its.fileno())],
                stdin=given,
                stdout=printed,
                stderr=printed,
                pass_fds=(its.fileno(),),
                cwd=folder,
                env={"PATH": os.environ.get("PATH", ""), "HOME": folder, **ENVIRONMENT},
                start_new_session=True,
            )
        ours.settimeout(timeout_s)
        try:
            ours.sendall(marshal.dumps(job))
            ours.shutdown(socket.SHUT_WR)
            child.wait(timeout_s)
            # Read once it has ended, and no more than is expected: a flood fills the socket, no more.
            return ours.recv(len(nonce) + 1) == nonce
        except (subprocess.TimeoutExpired, TimeoutError, ConnectionError):
            return False
        finally:
            child.kill()
            child.wait()


def _limit(job: dict[str, Any]) -> None:
    import resource

    memory = int(job["memory_mib"]) * 2**20
    cpu = int(job["cpu_s"]) + 1
    for name, most in (
        ("RLIMIT_AS", memory),
        ("RLIMIT_DATA", memory),
        ("RLIMIT_CPU", cpu),
        ("RLIMIT_FSIZE", OUTPUT_BYTES),  # its output is the one file that it may write to
        ("RLIMIT_CORE", 0),
        ("RLIMIT_NOFILE", 64),
    ):
        kind = getattr(resource, name, None)
        if kind is not None:
            try:
                resource.setrlimit(kind, (most, most))
            except (ValueError, OSError):  # macOS refuses some; a lower limit may stand already
                continue


def _watch() -> None:
    """Python's own watch on what happens."""

    # What it needs are defaults: globals and cells could be changed by way of a refusal's traceback.
    def refuse(
        event: str,
        arguments: tuple[Any, ...],
        refused: tuple[str, ...] = REFUSED,
        is_a: Any = isinstance,
        stat: Any = os.stat,
        processes: int | None = _processes(),
        errors: tuple[type[Exception], ...] = (OSError, ValueError),
    ) -> None:
        if event.startswith(refused):
            raise PermissionError(f"{event} is not allowed here")
        if event == "import" and arguments[0] == "_ctypes":
            raise ImportError("ctypes is not to be had here")
        if event == "open":
            path, _, flags = arguments
            if is_a(flags, int) and flags & WRITES:
                raise PermissionError("no file may be written here")
            try:
                device = stat(path).st_dev
            except errors:  # it is not there: the call itself will tell
                return
            if device == processes:
                raise PermissionError("/proc may not be read here")

    sys.addaudithook(refuse)


def _processes() -> int | None:
    """The device that /proc is, if it is one of its own."""
    try:
        found = os.stat("/proc").st_dev
    except OSError:
        return None
    return None if found == os.stat("/").st_dev else found


def _hold(job: dict[str, Any]) -> None:
    """From here on the process can do no harm."""
    from importlib import import_module

    sys.path.insert(0, os.path.dirname(__file__))
    refuse_calls = import_module("seccomp").refuse_calls  # no package around it here
    sys.path.pop(0)
    _limit(job)
    refuse_calls()
    hollow = _Hollow("ctypes")
    vars(hollow).update({name: getattr(sys.modules["ctypes"], name) for name in OF_CTYPES})
    for name in [name for name in sys.modules if name.partition(".")[0] in NATIVE]:
        del sys.modules[name]
    sys.modules["ctypes"] = sys.modules["_ctypes"] = hollow
    setattr(sys, "settrace", lambda function: None)  # noqa: B010 - doctest calls it, and needs nothing of it
    _watch()


class _Hollow(ModuleType):
    """Stands for `ctypes`, which pandas and scipy import: its other names are classes without use."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Nothing,), {})


class _Nothing:
    def __new__(cls, *arguments: object, **named: object) -> Any:
        return cls


class _End:
    """One end of a pipe, as the socket by which an event loop of asyncio wakes itself."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def setblocking(self, blocking: bool) -> None:
        os.set_blocking(self._number, blocking)

    def recv(self, most: int) -> bytes:
        return os.read(self._number, most)

    def send(self, data: bytes) -> int:
        return os.write(self._number, data)

    def close(self) -> None:
        os.close(self._number)


def _let_asyncio_wake() -> None:
    """Sockets are refused, the pair of them too that each event loop opens: it gets a pipe."""
    import socket

    setattr(socket, "socketpair", lambda *_: tuple(map(_End, os.pipe())))  # noqa: B010


def _child(channel: int) -> None:
    os.set_inheritable(channel, False)
    with open(channel, "rb", closefd=False) as file:
        job = marshal.loads(file.read())
    module = ModuleType(job["name"])  # a real one: dataclasses and pickle look a class's module up
    module.__file__ = "answer.py"
    sys.modules[module.__name__] = module
    sys.argv = [module.__file__]
    names = module.__dict__
    if "asyncio" in job["code"] or "asyncio" in job["tests"]:
        _let_asyncio_wake()
    run: Callable[..., Any] = exec
    leave = os._exit
    _hold(job)
    try:
        both = [compile(job.pop(name), f"{name}.py", "exec") for name in ("code", "tests")]
        # One expression: `os.write`, the nonce, `run` and the tests are on the stack before the program starts,
        # out of its sight and reach. Either `run` gives None.
        os.write(
            channel, job.pop("nonce"), *(run(both.pop(), run(both.pop(), names) or names) or ())
        )
    except BaseException:  # SystemExit and KeyboardInterrupt too: the tests were not reached
        leave(1)
    leave(0)


if __name__ == "__main__":
    _child(int(sys.argv[1]))
