"""What others route by: each is fitted to vectors (N, D) and scores (N, M), and predicts scores.

`k-NN` averages the 50 nearest prompts, weighted by their squared cosine; `k-means` shrinks a cluster's mean
towards the overall one; `logistic` and `boosted` predict each model's score by itself; `task label` averages
over a task.
"""

from collections.abc import Callable, Sequence

import numpy as np

Predict = Callable[[np.ndarray, Sequence[str]], np.ndarray]
Fit = Callable[[np.ndarray, Sequence[str], np.ndarray, int], Predict]

NEIGHBOURS = 50
SHRINKAGE = 40.0  # pretended observations at the overall mean
BOOSTED_DIMENSIONS = 64


def best_single(
    vectors: np.ndarray, tasks: Sequence[str], scores: np.ndarray, seed: int
) -> Predict:
    """Every prompt to the model of the highest mean."""
    means = scores.mean(axis=0)
    return lambda asked, _: np.tile(means, (len(asked), 1))


def knn(vectors: np.ndarray, tasks: Sequence[str], scores: np.ndarray, seed: int) -> Predict:
    """The weighted mean of the nearest prompts by cosine."""

    def predict(asked: np.ndarray, _: Sequence[str]) -> np.ndarray:
        cosines = asked @ vectors.T
        count = min(NEIGHBOURS, len(vectors))
        near = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        weights = np.take_along_axis(cosines, near, axis=1)[:, :, None] ** 2
        found: np.ndarray = (scores[near] * weights).sum(axis=1) / weights.sum(axis=1)
        return found

    return predict


def kmeans(vectors: np.ndarray, tasks: Sequence[str], scores: np.ndarray, seed: int) -> Predict:
    """The mean of the prompt's cluster, shrunk; 64 clusters, or 32 for fewer than 4,000 prompts."""
    from sklearn.cluster import KMeans

    clusters = min(64 if len(vectors) >= 4000 else 32, len(np.unique(vectors, axis=0)))
    found = KMeans(clusters, n_init=10, random_state=seed).fit(vectors)
    member = np.eye(clusters)[found.labels_]  # (N, K)
    sums, counts = member.T @ scores, member.sum(axis=0)[:, None]
    means = (sums + SHRINKAGE * scores.mean(axis=0)) / (counts + SHRINKAGE)
    return lambda asked, _: means[found.predict(asked)]


def logistic(vectors: np.ndarray, tasks: Sequence[str], scores: np.ndarray, seed: int) -> Predict:
    """A logistic regression a model; a graded score counts as so much of a right answer."""
    from sklearn.linear_model import LogisticRegression

    def one(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        if values.min() == values.max():
            return lambda asked: np.full(len(asked), values.mean())
        both = np.concatenate([vectors, vectors]).astype(np.float64)
        right = np.repeat([1, 0], len(values))
        weight = np.concatenate([values, 1 - values])
        used = weight > 0
        model = LogisticRegression(C=2.0, max_iter=500)
        model.fit(both[used], right[used], sample_weight=weight[used])
        return lambda asked: model.predict_proba(asked.astype(np.float64))[:, 1]

    models = [one(column) for column in scores.T]
    return lambda asked, _: np.stack([model(asked) for model in models], axis=1)


def boosted(vectors: np.ndarray, tasks: Sequence[str], scores: np.ndarray, seed: int) -> Predict:
    """Gradient-boosted trees a model, over the vectors' first principal components."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingRegressor

    reduced = PCA(min(BOOSTED_DIMENSIONS, *vectors.shape), random_state=seed).fit(vectors)
    features = reduced.transform(vectors)
    models = [
        HistGradientBoostingRegressor(
            max_iter=80, learning_rate=0.06, max_leaf_nodes=15, random_state=seed
        ).fit(features, column)
        for column in scores.T
    ]

    def predict(asked: np.ndarray, _: Sequence[str]) -> np.ndarray:
        return np.stack([model.predict(reduced.transform(asked)) for model in models], axis=1)

    return predict


def task_label(vectors: np.ndarray, tasks: Sequence[str], scores: np.ndarray, seed: int) -> Predict:
    """The mean of the prompt's task, over all where nothing of it was seen."""
    names, overall = np.array(tasks), scores.mean(axis=0)
    means = {task: scores[names == task].mean(axis=0) for task in dict.fromkeys(tasks)}
    return lambda _, asked: np.stack([means.get(task, overall) for task in asked])


BASELINES: dict[str, Fit] = {
    "best_single": best_single,
    "knn50": knn,
    "kmeans": kmeans,
    "logistic": logistic,
    "boosted": boosted,
}
