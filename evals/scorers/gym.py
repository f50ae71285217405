"""Scorer `reasoning_gym`: the family's own, which may give part of the credit.

The item's meta holds `family`, `config` (as the recipe gives it) and `entry` (question, answer,
metadata), as the source of the prompts wrote them.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from evals.scorers.base import NOTHING_FOUND, BadScorer, Score, final_part

NEEDS = 'scorer \'reasoning_gym\' needs `meta: {"family": …, "config": {…}, "entry": {…}}`'


def reasoning_gym(answer: str, reference: str | None, meta: Mapping[str, Any]) -> Score:
    """The family's score, cut to 0..1; what its scorer cannot read has nothing to grade."""
    family, entry = meta.get("family"), meta.get("entry")
    if not isinstance(family, str) or not isinstance(entry, Mapping) or "answer" not in entry:
        raise BadScorer(f"{NEEDS}; this item's has {sorted(meta) or 'nothing'}")
    data = _dataset(family, json.dumps(meta.get("config") or {}, sort_keys=True))
    text = _given(answer)
    if not text:
        return NOTHING_FOUND
    try:
        value = float(data.score_answer(answer=text, entry=dict(entry)))
    except Exception:  # the families parse answers with whatever raises whatever
        return NOTHING_FOUND
    return Score(min(1.0, max(0.0, value)), extracted=True) if value == value else NOTHING_FOUND


def _given(answer: str) -> str:
    """What stands between <answer> tags, as reasoning-gym's own prompts ask; else all of it."""
    from reasoning_gym.utils import extract_answer

    text = final_part(answer)
    return (extract_answer(text) or text).strip()


@lru_cache(maxsize=64)
def _dataset(family: str, config: str) -> Any:
    try:
        from reasoning_gym.factory import DATASETS, create_dataset
    except ImportError as error:
        raise BadScorer(
            "scorer 'reasoning_gym' needs the package: pip install 'tutelage[quickstart]'"
        ) from error

    if family not in DATASETS:
        raise BadScorer(f"reasoning-gym has no family {family!r}: see `reasoning_gym.factory`")
    try:
        return create_dataset(family, **json.loads(config))
    except Exception as error:  # a family checks its configuration by asserts and TypeErrors
        raise BadScorer(f"reasoning-gym refuses {config} for {family!r}: {error}") from error
