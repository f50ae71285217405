r"""Scorer `code`: the answer's Python passes the item's tests, in a child of its own (evals.scorers.sandbox).

`meta: {"tests": "assert f(2) == 4"}` gives the tests, which run behind the answer's code; they can be the
reference instead. As HumanEval has it, tests may define `check(candidate)`: with `entry_point` it is called on
that function, and with `prompt` an answer that does not define the function is taken to go on from there.
`timeout_s` (10) and `memory_mib` (1024) are limits, `stdin` is what the program may read.
"""

import ast
import re
from collections.abc import Mapping
from typing import Any

from evals.scorers.base import NOTHING_FOUND, BadScorer, Score, correct, final_part
from evals.scorers.sandbox import MEMORY_MIB, TIMEOUT_S, passes

_FENCED = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.M | re.S)
PYTHON = ("", "python", "py", "python3")  # what a fenced block of it is called
_DEFINES = r"^(?:async\s+)?(?:def|class)\s+{name}\b"


def code(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """Right where the tests come to their end; nothing to grade where no Python is to be found."""
    tests = meta.get("tests", reference)
    if not isinstance(tests, str) or not tests.strip():
        raise BadScorer(
            "scorer 'code' needs a `reference` or `meta: {tests: …}` with the tests; an item has neither"
        )
    name = meta.get("entry_point")
    program = program_of(final_part(answer), name, str(meta.get("prompt", "")))
    if program is None:
        return NOTHING_FOUND
    called = f"\ncheck({name})\n" if name and re.search(r"^def check\(", tests, re.M) else "\n"
    stdin = meta.get("stdin")
    whole = f"{program}\n\n{tests}\n{called}"
    timeout_s, memory_mib = (
        _limit(meta, "timeout_s", TIMEOUT_S),
        _limit(meta, "memory_mib", MEMORY_MIB),
    )
    return correct(
        passes(whole, timeout_s, int(memory_mib), stdin if stdin is None else str(stdin))
    )


def program_of(answer: str, name: str | None, prompt: str) -> str | None:
    """The Python in an answer: its fenced blocks, or all of it where it is Python; None where there is none."""
    blocks = [block for language, block in _FENCED.findall(answer) if language.lower() in PYTHON]
    defines = re.compile(_DEFINES.format(name=re.escape(name)), re.M) if name else None
    if defines:
        # The last block that defines the function is the answer; those before it may be drafts.
        chosen = [block for block in blocks if defines.search(block)][-1:]
        blocks = chosen or blocks
    text = "\n\n".join(blocks) if blocks else answer
    if not text.strip():
        return None
    if defines and prompt and not defines.search(text):
        text = f"{prompt}{text}"
    elif prompt and defines:
        text = f"{_before(prompt, defines)}\n{text}"
    return text if blocks or _is_python(text) else None


def _before(prompt: str, defines: re.Pattern[str]) -> str:
    """What a prompt says before the function that it begins: imports and helpers."""
    found = defines.search(prompt)
    return prompt[: found.start()] if found else ""


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _limit(meta: Mapping[str, Any], name: str, usual: float) -> float:
    value = meta.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise BadScorer(f"scorer 'code': `{name}` must be a number above 0, not {value!r}")
    return float(value)
