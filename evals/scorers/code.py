r"""Scorer `code`: the answer's Python passes the item's tests, in a child of its own (evals.scorers.sandbox).

`meta: {"tests": "assert f(2) == 4"}` gives the tests, which run behind the answer's code; they can be the
reference instead. As HumanEval has it, tests may define `check(candidate)`: with `entry_point` it is called on
that function, and with `prompt` an answer that does not define the function is taken to go on from there.
`timeout_s` (10) and `memory_mib` (1024) are limits, `stdin` is what the program may read.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from textwrap import dedent, indent
from typing import Any

from evals.scorers.base import NOTHING_FOUND, BadScorer, Score, correct, final_part
from evals.scorers.sandbox import MEMORY_MIB, TIMEOUT_S, passes

_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t]*([^`]*)")
_NAMED = re.compile(r"[`~]+[ \t]*[\w{][^\s`]*\s*")  # a fence that begins a block, by a language
PYTHON = ("", "python", "py", "python3")  # what a fenced block of it is called
# Ends of a block that are tried, since fences stand in docstrings too, and places where code begins amid prose.
MOST_TRIES = 10
_DEFINES = r"^(?:(?:async\s+)?(?:def|class)\s+{name}\b|{name}\s*(?::[^=\n]+)?=(?!=))"
_BEGINS = re.compile(r"^(?:from\s[ \w.]+\simport\b|import\s\w|(?:async\s)?def\s|class\s|@\w)", re.M)
_FUTURE = re.compile(r"^from __future__ import [^\n(]+\n?", re.M)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_READS = {"input", "open", "stdin"}


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
    right = passes(
        program,
        _limit(meta, "timeout_s", TIMEOUT_S),
        int(_limit(meta, "memory_mib", MEMORY_MIB)),
        stdin if stdin is None else str(stdin),
        f"{tests}\n{called}",
    )
    return correct(right)


def program_of(answer: str, name: str | None, prompt: str) -> str | None:
    """The Python in an answer: its fenced blocks, or all of it where it is Python; None where there is none."""
    defines = re.compile(_DEFINES.format(name=re.escape(name)), re.M) if name else None
    answer = answer.replace("\r\n", "\n")
    found = [block for block in _blocks(answer) if block[0] in PYTHON and block[1].strip()]
    blocks = [text for label, text in found if _is_code(label, text)] or [text for _, text in found]
    if blocks:
        text = "\n\n".join(_with_helpers(blocks, defines) if defines else blocks)
    elif defines and prompt and _tree(_continued(prompt, answer)):
        text = answer
    else:
        text = answer if _tree(answer) else _amid_prose(answer)
    if not text.strip():
        return None
    if defines and prompt and not defines.search(text):
        text = _continued(prompt, text)
    elif prompt and defines:
        text = f"{_before(prompt, defines)}\n{text}"
    return _future_first(text)


def _blocks(answer: str) -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block, without the fence's own indent."""
    lines = answer.split("\n")
    at = 0
    while at < len(lines):
        fence = _FENCE.fullmatch(lines[at])
        at += 1
        if not fence:
            continue
        blanks, marks, info = fence.groups()
        language = re.sub(r"^[{.\s]*(\w*).*", r"\1", info.lower(), flags=re.S)
        fences = (n for n in range(at, len(lines)) if lines[n].lstrip(" \t").startswith(marks))
        ends = list(islice(fences, MOST_TRIES)) or [len(lines)]
        named = {n for n in ends if n < len(lines) and _NAMED.fullmatch(lines[n].strip())}
        end = next((n for n in ends if n not in named), ends[0])
        texts = [f"{_without(blanks, line)}\n" for line in lines[at : ends[-1]]]
        if language in PYTHON:
            end = next((n for n in ends if _tree("".join(texts[: n - at]))), end)
        yield language, "".join(texts[: end - at])
        at = end if end in named else end + 1  # a fence that names a language begins the next block


def _without(blanks: str, line: str) -> str:
    own = len(line) - len(line.lstrip(" \t"))
    return line[min(own, len(blanks)) :]


def _tree(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_code(language: str, text: str) -> bool:
    """Not a session, and, where nobody says that it is Python, not a program's output either."""
    if language:
        return not text.lstrip().startswith(">>>")
    tree = _tree(text)
    return tree is not None and any(
        not isinstance(node, ast.Expr) and getattr(node, "value", node) is not None
        for node in tree.body
    )


def _with_helpers(blocks: list[str], defines: re.Pattern[str]) -> list[str]:
    """The last block that defines the function, and before it what the others, maybe drafts, define."""
    chosen = [n for n, block in enumerate(blocks) if defines.search(block)][-1:]
    if not chosen:
        return blocks
    others = _definitions([block for n, block in enumerate(blocks) if n not in chosen])
    return [*([others] if others else []), blocks[chosen[0]]]


def _definitions(blocks: Sequence[str]) -> str:
    """Imports, functions, classes and constants of some blocks; one that fails is as if it were not there."""
    nodes = [node for block in blocks for node in getattr(_tree(block), "body", [])]
    made = {node.name for node in nodes if isinstance(node, _DEFINITIONS)}
    fails = ast.ExceptHandler(type=ast.Name("Exception"), name=None, body=[ast.Pass()])
    kept: list[ast.stmt] = []
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            kept.append(node)
        elif (
            isinstance(node, (ast.Import, ast.ImportFrom, *_DEFINITIONS))
            or isinstance(node, ast.Assign | ast.AnnAssign)
            and not _names(node) & (made | _READS)
        ):
            kept.append(ast.Try(body=[node], handlers=[fails], orelse=[], finalbody=[]))
    try:
        return ast.unparse(ast.Module(body=kept, type_ignores=[]))
    except RecursionError:
        return ""


def _names(node: ast.AST) -> set[str]:
    return {
        part.id if isinstance(part, ast.Name) else part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Name | ast.Attribute)
    }


def _amid_prose(answer: str) -> str:
    """Code without a fence: from where a definition or an import begins to where prose goes on."""
    for start in islice(_BEGINS.finditer(answer), MOST_TRIES):
        lines = answer[start.start() :].split("\n")
        for _ in range(MOST_TRIES):
            try:
                ast.parse("\n".join(lines))
                return "\n".join(lines)
            except SyntaxError as error:
                last = (error.lineno or 1) - 1
                if not 0 < last < len(lines) or lines[last][:1].isspace():
                    break
                lines = lines[:last]
            except (ValueError, RecursionError, MemoryError):
                break
    return ""


def _continued(prompt: str, text: str) -> str:
    """A prompt and what goes on from it, which may have lost its first indent, or all of it."""
    tails = [f"    {text.lstrip()}", indent(dedent(text), "    "), text]
    if text[:1].isspace():
        tails.reverse()
    for tail in tails:
        tree = _tree(prompt + tail)
        if tree and not any(isinstance(node, ast.Return) for node in tree.body):
            return prompt + tail
    return prompt + text


def _before(prompt: str, defines: re.Pattern[str]) -> str:
    """What a prompt says before the function that it begins: imports and helpers."""
    found = defines.search(prompt)
    before = prompt[: found.start()] if found else ""
    return before if _tree(before) else ""


def _future_first(text: str) -> str:
    """Imports from `__future__` stand at the top, also where an answer's blocks are put together."""
    return "".join(f"{line.strip()}\n" for line in _FUTURE.findall(text)) + _FUTURE.sub("", text)


def _limit(meta: Mapping[str, Any], name: str, usual: float) -> float:
    value = meta.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise BadScorer(f"scorer 'code': `{name}` must be a number above 0, not {value!r}")
    return float(value)
