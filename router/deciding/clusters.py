"""k-means on one thread: with more, sums in another order give centres other last bits."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from sklearn.cluster import KMeans


def kmeans(vectors: "np.ndarray", count: int, seed: int, starts: int = 1) -> "KMeans":
    """`count` clusters of vectors (N, D), the best of so many starts."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return KMeans(count, n_init=starts, random_state=seed % 2**32).fit(vectors)
