"""The three task families of recipes/smollm2.yaml, and who specialises in which.

The prompts are reasoning-gym's own, at settings that keep them short. What the adapters are trained
on is listed in `teachers_saw.jsonl`, and the recipe's `except:` keeps it out of what it draws.
"""

from typing import Any

import reasoning_gym

Pair = tuple[str, str]  # prompt, reasoning-gym's answer

FAMILIES: dict[str, dict[str, Any]] = {
    "needle_haystack": {"min_num_statements": 2, "max_num_statements": 4},
    "family_relationships": {"min_family_size": 3, "max_family_size": 3},
    "word_sequence_reversal": {"min_words": 3, "max_words": 4},
}
SPECIALISTS = {
    "finder": "needle_haystack",
    "genealogist": "family_relationships",
    "reverser": "word_sequence_reversal",
}
TRAIN_ITEMS, TRAIN_SEED = 640, 500_000_000


def training_items(family: str, seed: int, n: int = TRAIN_ITEMS) -> list[Pair]:
    """What the family's specialist is trained on."""
    return draw(family, TRAIN_SEED + 1_000_000 * seed, n)  # item i comes from seed + i: far apart


def draw(family: str, seed: int, n: int, skip: frozenset[str] = frozenset()) -> list[Pair]:
    """n different items in the order in which reasoning-gym gives them, none with a prompt in `skip`."""
    dataset = reasoning_gym.create_dataset(family, seed=seed, size=60 * n, **FAMILIES[family])
    found: dict[str, str] = {}
    for position in range(60 * n):
        item = dataset[position]
        prompt = item["question"].strip()
        if prompt not in skip:
            found.setdefault(prompt, item["answer"])
        if len(found) == n:
            return list(found.items())
    raise ValueError(f"{family} has only {len(found)} different prompts within {60 * n} draws")
