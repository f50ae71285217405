"""Tasks found in prompts: as many as there are, none where there are none, named by what sets them apart."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from router.deciding import NothingToDiscover, discover, fit, from_descriptions, names_of, terms_of


def _clouds(tasks: int, each: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(tasks, 32), each, axis=0) + spread * rng.normal(
        size=(tasks * each, 32)
    )
    order = rng.permutation(len(vectors))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[order].astype(np.float32), np.repeat(np.arange(tasks), each)[order]


@pytest.mark.parametrize("tasks", [2, 3, 7])
def test_as_many_tasks_are_found_as_there_are(tasks: int) -> None:
    vectors, truth = _clouds(tasks, 60, 0.1)
    found = discover(vectors, [f"word{'abcdefgh'[t]} here" for t in truth], seed=3)
    assert len(set(found.tasks)) == tasks
    assert adjusted_rand_score(truth[found.rows], found.tasks) == 1
    labels = fit(vectors[found.rows], found.tasks, seed=3).predict(vectors)
    assert adjusted_rand_score(truth, [label.best_task for label in labels]) == 1


def test_prompts_without_groups_are_few_tasks() -> None:
    vectors, _ = _clouds(1, 300, 1.0)
    assert len(set(discover(vectors, ["some text"] * 300, seed=3).tasks)) <= 2


def test_a_number_of_tasks_is_kept_and_the_seed_decides() -> None:
    vectors, truth = _clouds(3, 60, 0.1)
    texts = [f"text {t}" for t in truth]
    first, again = (discover(vectors, texts, seed=5, tasks=4) for _ in range(2))
    assert len(set(first.tasks)) == 4
    assert first.tasks == again.tasks
    assert (first.rows == again.rows).all()
    assert not first.tried


def test_prompts_that_are_alike_are_one_task_and_no_more() -> None:
    few = np.repeat(np.eye(3, 32, dtype=np.float32), 40, axis=0)
    texts = ["text"] * 120
    assert len(set(discover(few[:40], texts[:40], seed=0).tasks)) == 1
    with pytest.raises(
        NothingToDiscover, match=r"do not fall into 5 tasks: the smallest .* 0 of them"
    ):
        discover(few, texts, seed=0, tasks=5)
    outlier = np.concatenate([few[:80], np.eye(32, dtype=np.float32)[-1:]])
    with pytest.raises(
        NothingToDiscover, match=r"do not fall into 3 tasks: the smallest .* 1 of them"
    ):
        discover(outlier, texts[:81], seed=0, tasks=3)


def test_few_prompts_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(NothingToDiscover, match="39 prompts are too few to discover tasks in, 40"):
        discover(np.eye(39, 64, dtype=np.float32), ["text"] * 39, seed=0)
    with pytest.raises(NothingToDiscover, match="3 prompts are too few for 2 described tasks"):
        from_descriptions(
            np.eye(3, 8, dtype=np.float32), {"a": np.ones(8), "b": np.ones(8)}, seed=0
        )


def test_descriptions_that_lie_off_their_prompts_still_find_them() -> None:
    vectors, truth = _clouds(4, 80, 0.2)
    rng = np.random.default_rng(1)
    described = {}
    for task in range(4):
        sentence = np.eye(4, 32)[task] + 0.8 + 0.3 * rng.normal(size=32)  # all are alike
        described[f"task{task}"] = (sentence / np.linalg.norm(sentence)).astype(np.float32)
    found = from_descriptions(vectors, described, seed=0)
    assert len(set(found.rows.tolist())) == len(found.rows)
    labels = fit(vectors[found.rows], found.tasks, seed=0).predict(vectors)
    right = [label.best_task == f"task{t}" for label, t in zip(labels, truth, strict=True)]
    assert np.mean(right) > 0.95


def test_terms_and_names_are_those_that_set_groups_apart() -> None:
    groups = [
        ["spell the word backward", "spell moon backward please"],
        ["add the numbers please", "add these numbers now"],
        ["12 34", "9"],
    ]
    terms = terms_of(groups)
    assert set(terms[0][:2]) == {"spell", "backward"}
    assert set(terms[1][:2]) == {"add", "numbers"}
    assert names_of(groups) == ["_".join(terms[0][:2]), "_".join(terms[1][:2]), "task_3"]
    assert terms_of([["1"], ["2"]]) == [[], []]
    assert len(set(names_of([["same words"], ["same words"]]))) == 2


def test_terms_are_whole_in_every_script() -> None:
    groups = [
        ["แปลเป็นภาษาอังกฤษ", "ช่วยแปลภาษา"],
        ["请把这句话翻译成英文", "翻译成法文"],
        ["Café crème à Besançon", "un café"],
        ["हिन्दी में लिखो", "हिन्दी बोलो"],
        [f"{'x' * 40} short", "short"],
    ]
    thai, chinese, french, hindi, long = terms_of(groups)
    assert all(len(term) == 2 for term in (*thai, *chinese))
    assert "翻译" in chinese
    assert french[0] == "café"
    assert hindi[0] == "हिन्दी"
    assert long == ["short"]
