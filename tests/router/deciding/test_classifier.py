"""A few examples per task make a classifier whose probabilities can be believed."""

import numpy as np
import pytest

from router.deciding import UNSURE, UnusableExamples, fit


def clouds(tasks: int, each: int, spread: float, seed: int) -> tuple[np.ndarray, list[str]]:
    """Unit vectors (N, 32) around one direction per task."""
    rng = np.random.default_rng(seed)
    vectors = np.repeat(np.eye(tasks, 32), each, axis=0)
    vectors += spread * rng.normal(size=vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), [f"task{n}" for n in range(tasks) for _ in range(each)]


@pytest.mark.parametrize("tasks", [2, 3, 6])
def test_five_examples_a_task_are_enough(tasks: int) -> None:
    vectors, names = clouds(tasks, 5, 0.1, seed=0)
    classifier = fit(vectors, names, seed=7)
    unseen, truth = clouds(tasks, 100, 0.1, seed=1)
    labels = classifier.predict(unseen)
    assert (
        np.mean([label.best_task == task for label, task in zip(labels, truth, strict=True)]) == 1
    )
    assert np.mean([label.task == UNSURE for label in labels]) < 0.02
    assert max(label.probability for label in labels) < 1, "five right answers are no certainty"


def test_probabilities_are_calibrated_where_tasks_overlap() -> None:
    vectors, names = clouds(4, 40, 0.5, seed=2)
    classifier = fit(vectors, names, seed=7)
    unseen, truth = clouds(4, 2000, 0.5, seed=3)
    labels = classifier.predict(unseen)
    confidence = np.array([label.probability for label in labels])
    right = np.array([lab.best_task == task for lab, task in zip(labels, truth, strict=True)])
    assert 0.5 < right.mean() < 0.95
    bins = np.minimum((confidence * 10).astype(int), 9)
    error = sum(
        (bins == b).mean() * abs(confidence[bins == b].mean() - right[bins == b].mean())
        for b in np.unique(bins)
    )
    assert error < 0.05
    assert abs(confidence.mean() - right.mean()) < 0.05


def test_prompt_between_tasks_is_unsure() -> None:
    vectors, names = clouds(3, 10, 0.1, seed=0)
    between = np.zeros((1, 32), np.float32)
    between[0, :3] = 1 / np.sqrt(3)
    label = fit(vectors, names, seed=7, unsure_below=0.6).predict(between)[0]
    assert label.task == UNSURE
    assert label.best_task in names
    assert label.probability < 0.6
    assert fit(vectors, names, seed=7, unsure_below=0.0).predict(between)[0].task != UNSURE


def test_with_one_task_everything_is_that_task() -> None:
    vectors, _ = clouds(2, 3, 0.1, seed=0)
    labels = fit(vectors[:1], ["only"], seed=7).predict(vectors)
    assert {(label.task, label.probability) for label in labels} == {("only", 1.0)}


def test_version_names_what_the_classifier_stood_on() -> None:
    vectors, names = clouds(3, 5, 0.1, seed=0)
    first = fit(vectors, names, seed=7)
    again = fit(vectors, names, seed=7)
    assert first.version == again.version
    assert first.weights.tobytes() == again.weights.tobytes()
    assert first.temperature == again.temperature
    changed = vectors.copy()
    changed[0, 0] += 1e-6
    versions = {
        first.version,
        fit(changed, names, seed=7).version,
        fit(vectors, names, seed=8).version,
        fit(vectors, names, seed=7, unsure_below=0.4).version,
        fit(vectors, names[::-1], seed=7).version,
    }
    assert len(versions) == 5


def test_uneven_examples_do_not_favour_the_larger_task() -> None:
    vectors, names = clouds(2, 60, 0.3, seed=0)
    keep = np.r_[0:60, 60:66]
    classifier = fit(vectors[keep], [names[index] for index in keep], seed=7)
    unseen, truth = clouds(2, 300, 0.3, seed=1)
    labels = [label.best_task for label in classifier.predict(unseen)]
    small = [label == task for label, task in zip(labels, truth, strict=True) if task == "task1"]
    assert np.mean(small) > 0.85


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no examples"),
        (["a", "a", "b"], "'b' has 1 example"),
        (["a", "a", "unsure", "unsure"], "task 'unsure'"),
    ],
)
def test_unusable_examples_are_named(names: list[str], message: str) -> None:
    with pytest.raises(UnusableExamples, match=message):
        fit(np.eye(4, 8, dtype=np.float32)[: len(names)], names, seed=7)
