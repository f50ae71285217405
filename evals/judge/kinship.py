"""Who may judge whom: nobody its own answers, and by default nobody those of its family, which it favours
(Panickssery et al., "LLM Evaluators Recognize and Favor Their Own Generations", 2024, arXiv:2404.13076)."""

import re
from collections.abc import Mapping

from ledger.errors import InputError


class JudgeIsParty(InputError):
    """A judge would grade its own answers, or those of its family."""


def family(model: str) -> str:
    """The family of a model, by its name: `qwen` of `Qwen/Qwen2.5-Coder-7B`, `gpt` of `openai/gpt-4o`."""
    name = re.split(r"[/\\]", model.rstrip("/\\"))[-1].lower()
    found = re.match(r"[a-z]+", name)
    return found.group() if found else name


def refuse_parties(
    judges: Mapping[str, tuple[str, str]], graded: Mapping[str, tuple[str, str]], allow_family: bool
) -> None:
    """Raises JudgeIsParty. Both are name -> (key, model): judges, and those whose answers they grade."""
    for judge, (key, model) in judges.items():
        for name, (other, other_model) in graded.items():
            if key == other or model == other_model:
                raise JudgeIsParty(
                    f"judge {judge} is {model}, and so is {name}, whose answers it would grade: "
                    "name another judge"
                )
            if not allow_family and family(model) == family(other_model):
                raise JudgeIsParty(
                    f"judge {judge} ({model}) is of family {family(model)!r}, as {name} ({other_model}) is: "
                    "judges favour their family: name another judge, or set `judge: allow_family: true`"
                )
