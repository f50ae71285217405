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
    assert np.mean([label.novel for label in labels]) < 2 / (5 * tasks + 1)
    assert all(label.task != UNSURE or label.novel for label in labels)
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
    assert error < 0.03
    assert abs(confidence.mean() - right.mean()) < 0.05


@pytest.mark.parametrize("error_rate", [0.05, 0.1, 0.2])
def test_no_more_prompts_get_a_wrong_task_than_was_asked(error_rate: float) -> None:
    wrong, unsure = [], []
    for seed in range(20):
        vectors, names = clouds(6, 20, 0.5, seed=seed)
        unseen, truth = clouds(6, 200, 0.5, seed=seed + 100)
        labels = fit(vectors, names, seed=7, error_rate=error_rate).predict(unseen)
        pairs = zip(labels, truth, strict=True)
        wrong.append(np.mean([label.task not in (task, UNSURE) for label, task in pairs]))
        unsure.append(np.mean([label.task == UNSURE for label in labels]))
    assert np.mean(wrong) == pytest.approx(error_rate, abs=0.02)
    assert 0.05 < np.mean(unsure) < 0.8


def test_nothing_is_unsure_for_its_probability_where_the_classifier_errs_less_than_allowed() -> (
    None
):
    vectors, names = clouds(3, 20, 0.1, seed=0)
    assert fit(vectors, names, seed=7).sure_from == 0


def test_prompt_unlike_any_other_is_novel_and_unsure() -> None:
    vectors, names = clouds(3, 10, 0.1, seed=0)
    strange = np.zeros((2, 32), np.float32)
    strange[0, :3] = 1 / np.sqrt(3)
    strange[1, 30] = 1
    labels = fit(vectors, names, seed=7).predict(strange)
    assert [(label.task, label.novel) for label in labels] == [(UNSURE, True)] * 2
    assert all(label.best_task in names for label in labels)
    again = fit(vectors, names, seed=7, probes=np.repeat(strange, 2, axis=0)).predict(strange)
    assert not any(label.novel for label in again), "something like it was probed"


def test_few_prompts_of_the_examples_kind_are_novel() -> None:
    shares = []
    for seed in range(20):
        vectors, names = clouds(3, 20, 0.3, seed=seed)
        unseen, _ = clouds(3, 100, 0.3, seed=seed + 100)
        labels = fit(vectors, names, seed=7).predict(unseen)
        shares.append(np.mean([label.novel for label in labels]))
    assert np.mean(shares) < 2.5 / 61


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
        fit(vectors, names, seed=7, error_rate=0.2).version,
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
        (["a", "a", "b", "b"], "4 examples cannot promise an error rate of 0.1, 9 can"),
    ],
)
def test_unusable_examples_are_named(names: list[str], message: str) -> None:
    with pytest.raises(UnusableExamples, match=message):
        fit(np.eye(4, 8, dtype=np.float32)[: len(names)], names, seed=7)
