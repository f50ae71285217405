"""A flat map of vectors for the report: the two directions in which they differ most."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def map_2d(vectors: "np.ndarray") -> "np.ndarray":
    """Principal components (N, 2) of vectors (N, D), float32, with a sign that does not wander."""
    import numpy as np

    out = np.zeros((len(vectors), 2), np.float32)
    if len(vectors) < 2:
        return out
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    first_two = axes[:, ::-1][:, :2]
    largest = np.abs(first_two).argmax(axis=0)
    # An eigenvector's sign is arbitrary: the largest component is made positive.
    first_two = first_two * np.sign(first_two[largest, np.arange(first_two.shape[1])])
    out[:, : first_two.shape[1]] = centred @ first_two
    return out
