"""Scorers that a user wrote: any Python function `grade(answer, reference, meta)` at `module:function`.

It gives a number from 0 to 1, True or False, or None where the answer holds nothing to grade. The module is
imported as `python -m` would in the folder where the command was typed.
"""

import importlib
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evals.scorers.base import NOTHING_FOUND, BadScorer, Score

if TYPE_CHECKING:
    from evals.scorers.base import Scorer


def own_scorer(name: str) -> "Scorer":
    """The function as a scorer. Raises BadScorer where there is none."""
    module, _, function = name.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever a user's module raises on its import
        raise BadScorer(
            f"scorer {name!r} cannot be imported: {type(error).__name__}: {error}. It must be a function in a "
            f"module that is installed, or lies in {here}."
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise BadScorer(f"scorer {name!r} is a {type(found).__name__}, not a function")

    def graded(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
        try:
            value = found(answer, reference, meta)
        except Exception as error:  # whatever a user's function raises
            raise BadScorer(f"scorer {name!r} raised {type(error).__name__}: {error}") from error
        if value is None:
            return NOTHING_FOUND
        if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
            raise BadScorer(
                f"scorer {name!r} gave {value!r}: it must give a number from 0 to 1, True or False, or None "
                "where there is nothing to grade"
            )
        return Score(float(value), extracted=True)

    return graded
