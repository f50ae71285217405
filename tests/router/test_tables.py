"""The benchmarks' tables: read as they are written, cut without leaks, and small or odd ones routed too."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.tables.baselines import BASELINES, task_label
from benchmarks.tables.fitting import our_router, picks
from benchmarks.tables.table import Table


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "odd.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_models_are_those_with_a_score_on_every_prompt(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "scores": {"x": 1, "y": 0.5, "z": None}, "cost_usd": {"x": 1, "y": None}},
        {"prompt": "b", "scores": {"y": 0, "x": 0.25, "z": 1}, "chars": {"x": 1, "y": 2}},
    ]
    table = Table.read(write(tmp_path, rows))
    assert table.models == ["x", "y"]
    assert table.scores.tolist() == [[1, 0.5], [0.25, 0]]
    assert (table.costs, table.tasks) == (None, [])


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({"y": 1.0}, "no model has a score on every prompt"),
        ({"x": 55.0}, "prompt 2: the score of x is 55.0, and scores lie between 0 and 1"),
        ({"x": float("nan")}, "the score of x is nan"),
    ],
)
def test_what_is_no_table_is_told(tmp_path: Path, scores: dict[str, float], told: str) -> None:
    rows = [{"prompt": "a", "scores": {"x": 1.0}}, {"prompt": "b", "scores": scores}]
    with pytest.raises(SystemExit, match=told):
        Table.read(write(tmp_path, rows))


def test_no_text_is_on_both_sides(tmp_path: Path) -> None:
    rows = [{"prompt": f"text {i % 5}", "scores": {"x": 1.0}} for i in range(60)]
    table = Table.read(write(tmp_path, rows))
    texts = np.array(table.texts)
    folds = table.folds(10, 0)
    assert set(folds) == set(range(5))
    assert all(len(set(folds[texts == text])) == 1 for text in set(table.texts))
    held_out = table.own_split(0)
    assert 0 < held_out.sum() < 60
    assert not set(texts[held_out]) & set(texts[~held_out])
    own = [{**row, "split": "test" if row is rows[-1] else "train"} for row in rows]
    assert Table.read(write(tmp_path, own)).own_split(0).sum() == 1


@pytest.mark.parametrize("fit", [*BASELINES.values(), task_label])
def test_a_few_prompts_and_tasks_that_were_never_seen_are_routed(fit: Any) -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(20, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = draw.random((18, 3))
    predicted = fit(vectors[:18], ["a", "b"] * 9, scores, 0)(vectors[18:], ["a", "new"])
    assert predicted.shape == (2, 3)
    assert np.isfinite(predicted).all()


def test_a_task_without_a_probe_goes_to_the_best_single_teacher() -> None:
    """With and without neighbourhoods, and told as a prompt that leaves nothing."""
    draw = np.random.default_rng(0)
    for count in (40, 400):
        vectors = draw.normal(size=(count, 16)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        scores = np.stack([np.full(count, 0.2), np.where(vectors[:, 0] > 0, 1.0, 0.4)], axis=1)
        router = our_router(vectors, ["a", "b"] * (count // 2), scores, 0)
        assert picks(router, vectors[:2], ["a", "new"]).tolist() == [1, 1]
        assert not router.leaving(["k"], vectors[:1], ["new"], 0.95)
