"""What a scorer gives, and the table of scorers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from evals.config import JUDGE, unknown_scorer
from ledger.errors import InputError


class BadScorer(InputError):
    """A scorer's name, a reference or an item's meta does not fit the scorer."""


@dataclass(frozen=True, slots=True)
class Score:
    """How good an answer is, 0..1, and whether there was anything in it to grade."""

    value: float
    extracted: bool


NOTHING_FOUND = Score(0.0, extracted=False)

Scorer = Callable[[str, str | None, Mapping[str, Any]], Score]

# name -> module that holds a function of that name; a module is imported when it is first used.
_MODULES = {
    "bleu": "evals.scorers.overlap",
    "choice": "evals.scorers.choice",
    "chrf": "evals.scorers.overlap",
    "code": "evals.scorers.code",
    "exact": "evals.scorers.text",
    "json_fields": "evals.scorers.structured",
    "json_schema": "evals.scorers.structured",
    "numeric": "evals.scorers.numeric",
    "reasoning_gym": "evals.scorers.gym",
    "regex": "evals.scorers.text",
    "rouge_l": "evals.scorers.overlap",
    "similarity": "evals.scorers.overlap",
    "tool_calls": "evals.scorers.structured",
}


def score(name: str, answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """Grades an answer by the scorer of that name.

    Raises BadScorer for an unknown name, and where reference or meta are not what it needs.
    """
    return find_scorer(name)(answer, reference, meta)


@cache
def find_scorer(name: str) -> Scorer:
    """The scorer of that name, or the user's own function at `module:function`. Raises BadScorer."""
    if problem := unknown_scorer(name):
        raise BadScorer(problem)
    if name == JUDGE:
        raise BadScorer(f"scorer {JUDGE!r} asks other models: give it what they said, `judged`")
    if name in _MODULES:
        scorer: Scorer = getattr(import_module(_MODULES[name]), name)
        return scorer
    from evals.scorers.own import own_scorer

    return own_scorer(name)


def correct(right: bool) -> Score:
    """The score of an answer in which something to grade was found."""
    return Score(float(right), extracted=True)


def needed_reference(scorer: str, reference: str | None) -> str:
    """The reference, which this scorer cannot do without."""
    if reference is None:
        raise BadScorer(f"scorer {scorer!r} needs a `reference` on every item; one has none")
    return reference


def final_part(answer: str) -> str:
    """The answer without the thinking that some models put before it."""
    return answer.rpartition("</think>")[2]
