"""Code is run against its tests in a child that can do no harm; HumanEval's own solutions pass."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evals.scorers import BadScorer, Score, score
from evals.scorers.base import NOTHING_FOUND
from evals.scorers.code import program_of
from evals.scorers.sandbox import passes

PROBLEMS = Path(__file__).parent / "data" / "HumanEval.jsonl.gz"
RIGHT, WRONG = Score(1.0, extracted=True), Score(0.0, extracted=True)
TESTS = {"tests": "assert double(4) == 8"}

HARMFUL = {
    "fork bomb": "import os\nwhile True: os.fork()",
    "endless loop": "while True: pass",
    "10 GB": "x = bytearray(10 * 2**30)",
    "10 GB by and by": "x = []\nwhile True: x.append(bytearray(2**26))",
    "file write": "open('CANARY', 'w').write('x')",
    "file write by the system": "import os\nos.open('CANARY', os.O_CREAT | os.O_WRONLY)",
    "file removed": "import os\nos.remove('CANARY')",
    "network": "import socket\nsocket.create_connection(('127.0.0.1', PORT))",
    "network by url": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:PORT')",
    "exit": "import sys\nsys.exit(0)",
    "exit at once": "import os\nos._exit(0)",
    "stdout flood": "while True: print('x' * 10**6)",
    "stdout flood by the system": "import os\nfor fd in range(64):\n    try:\n"
    "        while True: os.write(fd, b'x' * 10**6)\n    except OSError: pass",
    "much output": "print('x' * 10**8)",
    "process": "import subprocess\nsubprocess.run(['true'])",
    "shell": "import os\nassert os.system('true') == 0",
    "kills its parent": "import os\nos.kill(os.getppid(), 9)",
    "C library": "import ctypes\nctypes.CDLL(None).fork()",
    "threads without end": "import threading, time\n"
    "while True: threading.Thread(target=time.sleep, args=(60,)).start()",
    "sleep": "import time\ntime.sleep(60)",
    "recursion": "def f(): f()\nf()",
    "quits by a signal": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
}


def read_problems() -> list[dict[str, str]]:
    with gzip.open(PROBLEMS, "rt") as file:
        return [json.loads(line) for line in file]


@pytest.fixture
def port() -> Iterator[int]:
    """A listener on loopback, which must hear nothing."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.0)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("name", HARMFUL)
def test_harm_is_contained_and_fails(name: str, port: int, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    if name == "file removed":
        canary.touch()
    program = HARMFUL[name].replace("CANARY", str(canary)).replace("PORT", str(port))
    meta = {"tests": "assert True", "timeout_s": 2}
    assert score("code", f"```python\n{program}\n```", None, meta) == WRONG
    assert canary.exists() == (name == "file removed")


@pytest.mark.skipif(sys.platform != "linux", reason="the filter on system calls is Linux's")
@pytest.mark.parametrize(
    "call",
    [
        "socket.socket()", "os.fork()", "open('x', 'w')", "open('x', 'a')", "os.mkdir('x')", "os.kill(1, 0)",
        "os.rename('y', 'x')", "os.execv('/bin/true', ['true'])", "subprocess.run(['true'])", "os.remove('y')",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))", "os.truncate('y', 0)", "os.chmod('y', 0)",
    ],
)  # fmt: skip
def test_the_kernel_refuses_without_pythons_watch(call: str, tmp_path: Path) -> None:
    """The audit hook is left out: what it refuses, code that goes round Python cannot do either."""
    (tmp_path / "y").touch()
    program = (
        "import os, socket, subprocess, resource\nfrom evals.scorers.seccomp import refuse_calls\n"
        f"assert refuse_calls()\nopen('y').read()\ntry:\n    {call}\n"
        "except (OSError, ValueError): print('refused')"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": root},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "refused\n"


def test_all_of_humanevals_solutions_pass() -> None:
    problems = read_problems()
    assert len(problems) == 164

    def graded(problem: dict[str, str]) -> Score:
        meta = {"tests": problem["test"], "entry_point": problem["entry_point"]}
        answer = problem["prompt"] + problem["canonical_solution"]
        return score("code", f"Here it is:\n```python\n{answer}\n```", None, meta)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(graded, problems))
    assert found == [RIGHT] * 164


def test_a_completion_goes_on_from_the_prompt() -> None:
    problem = read_problems()[0]
    meta = {
        "tests": problem["test"],
        "entry_point": problem["entry_point"],
        "prompt": problem["prompt"],
    }
    whole = (
        "```python\n"
        + problem["prompt"].partition("def ")[1]
        + "has_close_elements(numbers, threshold):\n"
    )
    assert score("code", problem["canonical_solution"], None, meta) == RIGHT
    assert score("code", whole + problem["canonical_solution"] + "```", None, meta) == RIGHT
    assert score("code", "    return True\n", None, meta) == WRONG


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("def double(x): return 2 * x", RIGHT),
        ("```python\ndef double(x):\n    return 2 * x\n```", RIGHT),
        (
            "First try:\n```\ndef double(x): return 0\n```\nBetter:\n```py\ndef double(x): return x + x\n```",
            RIGHT,
        ),
        ("<think>def double(x): return 0</think>```python\ndef double(x): return x + x", RIGHT),
        ("```bash\nls\n```\n```python\ndef double(x): return x + x\n```", RIGHT),
        ("```python\ndef double(x): return x\n```", WRONG),
        ("```python\ndef double(x) return x\n```", WRONG),
        ("I cannot do that.", NOTHING_FOUND),
        ("", NOTHING_FOUND),
    ],
)
def test_code_is_found_in_the_answer(answer: str, expected: Score) -> None:
    assert score("code", answer, None, {**TESTS, "entry_point": "double"}) == expected


def test_tests_may_be_the_reference_and_are_needed() -> None:
    assert score("code", "x = 4", "assert x == 4", {}) == RIGHT
    with pytest.raises(BadScorer, match="with the tests"):
        score("code", "x = 4", None, {})
    with pytest.raises(BadScorer, match="timeout_s"):
        score("code", "x = 4", "assert x", {"timeout_s": 0})


def test_the_program_may_read_what_it_is_given_and_no_more() -> None:
    assert passes("assert input() == 'a'\nassert input() == 'b'", stdin="a\nb\n")
    assert not passes("import sys\nassert 'nonce' in open('/proc/self/fd/0').read()")


def test_what_a_main_program_does_is_left_out_unless_it_is_given_something_to_read() -> None:
    answer = "x = 4\nif __name__ == '__main__':\n    x = int(input())\n"
    assert score("code", answer, "assert x == 4", {}) == RIGHT
    assert score("code", answer, "assert x == 7", {"stdin": "7\n"}) == RIGHT


def test_several_blocks_make_one_program() -> None:
    answer = "```python\nimport math\n```\nthen\n```python\nx = math.pi\n```"
    assert program_of(answer, None, "") == "import math\n\n\nx = math.pi\n"
