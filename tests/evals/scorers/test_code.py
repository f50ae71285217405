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

# Each tries to be taken for one whose tests passed.
SEND = (
    "import os\ndef send(value):\n    for fd in range(3, 9):\n        try: os.write(fd, value)\n"
    "        except OSError: pass\n    os._exit(0)\n"
)
FORGED = {
    "the runner's names": "import sys\nf = sys._getframe(1).f_locals\n"
    "f['told'](f['out'], f['nonce']); f['leave'](0)",
    "the names of all frames": "import sys\nframe = sys._getframe()\nwhile frame:\n"
    "    for names in (frame.f_locals, frame.f_globals, frame.f_locals.get('job', {})):\n"
    "        for value in list(names.values()):\n            if isinstance(value, bytes): send(value)\n"
    "    frame = frame.f_back",
    "inspect": "import inspect\nfor each in inspect.stack():\n    names = each.frame.f_locals\n"
    "    if 'job' in names: send(names['job']['nonce'])",
    "a traceback's frame": "try: 1 / 0\nexcept ZeroDivisionError as error:\n"
    "    send(error.__traceback__.tb_frame.f_back.f_locals['job']['nonce'])",
    "a generator's frame": "def g(): yield me.gi_frame.f_back.f_back\nme = g()\n"
    "send(next(me).f_locals['job']['nonce'])",
    "what a frame holds": "import gc, sys\nfor each in gc.get_referents(sys._getframe(1)):\n"
    "    if isinstance(each, list) and len(each) == 2: send(each[1])",
    "all objects": "import gc\nfor each in gc.get_objects():\n"
    "    if isinstance(each, list) and len(each) == 2 and isinstance(each[1], bytes): send(each[1])",
    "descriptors": "for fd in range(3, 64):\n    try:\n        os.set_blocking(fd, False)\n"
    "        found = os.read(fd, 99)\n    except OSError: continue\n    if found: send(found)",
    "environment": "for each in os.environb.values(): send(each)",
    "another exec": "import builtins\nbuiltins.exec = lambda *_: None",
    "another exit": "os._exit = lambda code: None\nraise SystemExit(0)",
    "an iterator's end": "raise StopIteration",
    "at exit": "import atexit\natexit.register(os._exit, 0)\nraise SystemExit(0)",
    "lines jumped over": "import sys\ndef over(frame, event, _):\n"
    "    if event == 'line' and frame.f_lineno == 1: frame.f_lineno = 2\n    return over\nsys.settrace(over)\n",
    "a text without end": "x = '''",
}
# Each looks where it may not, and passes if it may.
PRYING = {
    "memory": "open('/proc/self/mem', 'rb')",
    "a path that leads to memory": "open('/dev/fd/../maps')",
    "the parent's memory": "import os\nos.open(f'/proc/{os.getppid()}/maps', os.O_RDONLY)",
    "a pointer": "import ctypes\nctypes.cast(id(ctypes), ctypes.POINTER(ctypes.c_void_p))[0]",
    "Python's own functions": "import ctypes\nctypes.pythonapi.PyRun_SimpleString(b'1').value",
    "ctypes anew": "import sys\ndel sys.modules['ctypes'], sys.modules['_ctypes']\nimport ctypes",
    "another interpreter": "import _xxsubinterpreters as other\nother.create()",
    "the watch, by its traceback": "import gc\ntry: gc.get_objects()\nexcept PermissionError as error:\n"
    "    frame = error.__traceback__.tb_next.tb_frame\n    frame.f_globals['REFUSED'] = ()\n"
    "    frame.f_locals['refused'] = ()\n    frame.f_builtins['PermissionError'] = None\ngc.get_objects()",
}
# Ordinary programs, which pass.
FAIR = {
    "numpy": "import numpy\nassert numpy.linalg.det(numpy.eye(3)) == 1",
    "pandas": "import pandas\nassert pandas.DataFrame({'a': [1, 2]}).a.sum() == 3",
    "scipy": "import scipy.optimize\nassert scipy.optimize.brentq(lambda x: x - 1, 0, 3) == 1",
    "dataclass": "from dataclasses import dataclass\n@dataclass\nclass Node:\n    next: 'Node | None' = None\n"
    "assert Node().next is None",
    "annotations": "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\n"
    "class Node:\n    next: Node | None = None\nassert Node().next is None",
    "pickle": "import pickle\nclass A: pass\nassert type(pickle.loads(pickle.dumps(A()))) is A",
    "namedtuple": "import collections, pickle\nP = collections.namedtuple('P', 'x')\n"
    "assert pickle.loads(pickle.dumps(P(1))) == (1,)",
    "output": "import sys\nsys.stdout.buffer.write(b'x')\nsys.stdout.writelines(['a', 'b'])\n"
    "print('é', file=sys.stderr, flush=True)",
    "environ": "import os\nos.environ['A'] = '1'\nassert os.getenv('A') == '1'",
    "asyncio": "import asyncio\nasync def f(): return await asyncio.to_thread(abs, -3)\n"
    "assert asyncio.run(f()) == asyncio.run(f()) == 3",
    "doctest": "import doctest, sys\ndef f():\n    '''\n    >>> f()\n    1\n    '''\n    return 1\n"
    "assert doctest.testmod(sys.modules[__name__]) == (0, 1)",
    "numbers of C": "import ctypes\nassert ctypes.c_int32(2**31).value == -(2**31)\n"
    "assert len((3 * ctypes.py_object)()) == 3",
    "frames": "import inspect, traceback\nassert inspect.stack()\ntry: 1 / 0\n"
    "except ZeroDivisionError: assert 'line' in traceback.format_exc()",
    "its file and arguments": "import os, sys\nassert os.path.dirname(__file__) == '' and len(sys.argv) == 1",
}
READING = [
    "assert input() == 'a'\nassert input() == 'b'",
    "import sys\nassert sys.stdin.buffer.read() == b'a\\nb\\n'",
    "assert open(0).read() == 'a\\nb\\n'",
    "assert open('/dev/stdin').read() == 'a\\nb\\n'",
    "import os\nassert os.read(0, 99) == b'a\\nb\\n'",
    "import sys\nassert [line.strip() for line in sys.stdin] == ['a', 'b']",
]


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


@pytest.mark.parametrize("name", FORGED)
def test_an_answer_cannot_say_itself_that_it_passed(name: str) -> None:
    answer = f"```python\n{SEND}{FORGED[name]}\n```"
    tests = "assert False\n'''\nthe end\n'''\n"
    assert score("code", answer, None, {"tests": tests}) == WRONG


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("name", PRYING)
def test_what_would_lead_to_the_secret_is_refused(name: str) -> None:
    assert not passes(PRYING[name])


@pytest.mark.parametrize("name", FAIR)
def test_ordinary_programs_pass(name: str) -> None:
    assert passes(FAIR[name], timeout_s=60)


def test_texts_hash_the_same_each_time() -> None:
    """So that a program which leans on a set's order gets the same score each time."""
    told = subprocess.run(
        [sys.executable, "-c", "print(hash('a'))"],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert passes(f"assert hash('a') == {told.stdout}")


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


@pytest.mark.parametrize("program", READING)
def test_the_program_may_read_what_it_is_given(program: str) -> None:
    assert passes(program, stdin="a\nb\n")


def test_the_program_may_read_no_more_than_it_is_given() -> None:
    assert passes("assert open(0).read() == ''")
    assert not passes("import sys\nassert 'nonce' in open('/proc/self/fd/0').read()")


def test_what_a_main_program_does_is_left_out_unless_it_is_given_something_to_read() -> None:
    answer = "x = 4\nif __name__ == '__main__':\n    x = int(input())\n"
    assert score("code", answer, "assert x == 4", {}) == RIGHT
    assert score("code", answer, "assert x == 7", {"stdin": "7\n"}) == RIGHT


def test_several_blocks_make_one_program() -> None:
    answer = "```python\nimport math\n```\nthen\n```python\nx = math.pi\n```"
    assert program_of(answer, None, "") == "import math\n\n\nx = math.pi\n"


DOUBLE = "def double(x):\n    return 2 * x\n"
FENCED = f"```python\n{DOUBLE}```\n"


@pytest.mark.parametrize("meta", [TESTS, {**TESTS, "entry_point": "double"}])
@pytest.mark.parametrize(
    "answer",
    [
        "1. Like this:\n   ```python\n   def double(x):\n       return 2 * x\n   ```\n2. Done.",
        f"{FENCED}Output:\n```\nThe result is 2\n```",
        f"{FENCED}Output:\n```\nhello\n```",
        f"```\n{DOUBLE}```\nOutput:\n```\nThe result is 2\n```",
        f"{FENCED}```bash\npython f.py\n```\n```\n$ python f.py\n```",
        f"{FENCED}```python\n>>> double(2)\n4\n```",
        '```python\ndef double(x):\n    """\n    ```\n    double(2)\n    ```\n    """\n    return 2 * x\n```',
        f"~~~python\n{DOUBLE}~~~",
        f"```python\nimport math\n```\n```python\nfrom __future__ import annotations\n{DOUBLE}```",
        f"```python\n{DOUBLE}``` That is it.\n\nIt's done.",
        FENCED.replace("\n", "\r\n"),
        f"Here it is:\n\n{DOUBLE}\nThis doubles it, doesn't it?",
        "```python\ndouble = lambda x: 2 * x\n```",
    ],
)
def test_what_stands_around_the_code_does_no_harm(answer: str, meta: dict[str, str]) -> None:
    assert score("code", answer, None, meta) == RIGHT


@pytest.mark.parametrize(
    "answer",
    [
        "```python\nimport math\n```\n```python\ndef double(x): return math.floor(2 * x)\n```",
        "```python\ndef twice(x): return x + x\n```\n```python\ndef double(x): return twice(x)\n```",
        "```python\ndef double(x): return twice(x)\n```\n```python\ndef twice(x): return x + x\n```",
        "```python\nINF = float('inf')\n```\n```python\ndef double(x): return min(2 * x, INF)\n```",
        f"```python\ndef double(x):\n    while True: pass\ny = double(3)\n```\n{FENCED}",
        f"```python\n@undefined\ndef g(): pass\nimport nothing_such\nn = int(input())\n```\n{FENCED}",
        f"{FENCED}```python\nassert double(1) == 3\n```",
    ],
)
def test_other_blocks_give_what_they_define_and_no_more(answer: str) -> None:
    assert score("code", answer, None, {**TESTS, "entry_point": "double"}) == RIGHT


@pytest.mark.parametrize(
    "answer",
    [
        "    return 2 * x\n",
        "```python\n    return 2 * x\n```",
        "```python\nreturn 2 * x\n```",
        "y = x\n    return 2 * y",
        "for _ in range(1):\n    x += x\nreturn x",
        "```\n    return 2 * x\n```\nOutput:\n```\n8\n```",
    ],
)
def test_a_completion_may_have_lost_its_indent(answer: str) -> None:
    prompt = 'def double(x):\n    """Twice x."""\n'
    meta = {**TESTS, "entry_point": "double", "prompt": prompt}
    assert score("code", answer, None, meta) == RIGHT


def test_a_prompt_in_prose_is_no_code() -> None:
    meta = {**TESTS, "entry_point": "double", "prompt": "Complete this:\n\ndef double(x):\n"}
    assert score("code", FENCED, None, meta) == RIGHT
