"""Tables `prompt x model -> quality`: read, embedded, and cut into folds that share no text."""

import gzip
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ledger.prompts import Prompt
from ledger.schema import SCHEMA_VERSION
from ledger.store import Ledger
from router.embedding import embed, load_embedder
from router.embedding.locating import DEFAULT

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).resolve().parents[1] / "data"
CACHE = ROOT / ".cache" / f"tables-{SCHEMA_VERSION}"  # a ledger of another version is not read


@dataclass(frozen=True)
class Table:
    """`N` prompts and the models that answered every one of them.

    `tasks` holds a task per prompt, or nothing where the table does not tell them apart; `costs` is the
    cost of each answer, in USD or (`cost_unit`) in characters, None where the table has neither.
    """

    name: str
    texts: list[str]
    models: list[str]
    scores: np.ndarray  # (N, M) float64
    tasks: list[str]
    costs: np.ndarray | None  # (N, M)
    cost_unit: str
    split: np.ndarray | None  # (N,) bool: in the table's own test set

    @classmethod
    def read(cls, path: Path) -> "Table":
        """Reads JSON lines, gzipped or not."""
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file if line.strip()]
        if not rows:
            raise SystemExit(f"{path} holds no prompts")
        models = _everywhere([row["scores"] for row in rows])
        if not models:
            raise SystemExit(f"{path}: no model has a score on every prompt; leave the rest out")
        for number, row in enumerate(rows, 1):
            if wrong := [m for m in models if not 0 <= row["scores"][m] <= 1]:
                raise SystemExit(
                    f"{path}: prompt {number}: the score of {wrong[0]} is {row['scores'][wrong[0]]}, and "
                    "scores lie between 0 and 1"
                )
        tasks = [str(row.get("task", "")) for row in rows]
        costs, unit = None, ""
        for unit in ("cost_usd", "chars"):
            if set(_everywhere([row.get(unit) or {} for row in rows])) >= set(models):
                costs = np.array([[float(row[unit][m]) for m in models] for row in rows])
                break
        splits = [row.get("split") for row in rows]
        return cls(
            name=path.name.split(".")[0],
            texts=[row["prompt"] for row in rows],
            models=models,
            scores=np.array([[float(row["scores"][m]) for m in models] for row in rows]),
            tasks=tasks if len(set(tasks)) > 1 else [],
            costs=costs,
            cost_unit=unit,
            split=np.array([s == "test" for s in splits]) if "test" in splits else None,
        )

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def vectors(self) -> np.ndarray:
        """Unit vectors (N, D) float32 of the default embedder, kept in a ledger between runs."""
        return kept_vectors(self.name, self.texts)

    def folds(self, count: int, seed: int) -> np.ndarray:
        """The fold of each prompt (N,). Equal texts share one, so that no test text is ever seen; there are no
        more folds than texts.
        """
        order = np.random.default_rng(seed).permutation(len(set(self.texts)))
        fold_of = np.empty(len(order), int)
        fold_of[order] = np.arange(len(order)) % count
        return fold_of[self._text_of]

    def own_split(self, seed: int) -> np.ndarray:
        """Which prompts (N,) bool are the table's test set: its own, else 30 % of the texts by the seed."""
        if self.split is not None:
            return self.split
        order = np.random.RandomState(seed).permutation(len(set(self.texts)))
        return np.isin(self._text_of, order[int(0.7 * len(order)) :])

    @cached_property
    def _text_of(self) -> np.ndarray:
        """The number (N,) of each prompt's text among the different ones."""
        distinct = {text: i for i, text in enumerate(dict.fromkeys(self.texts))}
        return np.array([distinct[text] for text in self.texts])


def _everywhere(rows: list[dict[str, Any]]) -> list[str]:
    """The names that have a number in every row, in the order of the first."""
    return [name for name in rows[0] if all(row.get(name) is not None for row in rows)]


def kept_vectors(name: str, texts: list[str]) -> np.ndarray:
    """Unit vectors (N, D) float32 of texts by the default embedder, kept in a ledger between runs."""
    ledger, prompts = Ledger(CACHE / name), [Prompt.of(text) for text in texts]
    with ledger.writing("benchmark"):
        ledger.put_all([row for prompt in prompts for row in prompt.rows(name)])
        return embed(ledger, prompts, load_embedder(DEFAULT, Path()))
