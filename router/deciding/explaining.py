"""Why one prompt goes where it goes: its task, the examples nearest to it, and its task's route."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.prompts import Item, Prompt
from router.deciding.classifier import Label, TaskClassifier
from router.deciding.routes import Route
from router.embedding import Embedder

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An example and its cosine similarity to the prompt."""

    text: str
    task: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The prompt's label, its most similar examples, and the route of its task."""

    prompt: Prompt
    label: Label
    neighbours: tuple[Neighbour, ...]
    route: Route


def explain(
    prompt: Prompt,
    embedder: Embedder,
    classifier: TaskClassifier,
    examples: Sequence[Item],
    vectors: "np.ndarray",
    routes: Sequence[Route],
    k: int = 5,
) -> Explanation:
    """Explains one prompt. `examples` are the classifier's, `vectors` (N, D) theirs, in order."""
    query = embedder.encode([prompt.text])
    label = classifier.predict(query)[0]
    neighbours = tuple(
        Neighbour(examples[index].prompt.text, examples[index].task or "", similarity)
        for index, similarity in nearest(vectors, query[0], k)
    )
    route = next(route for route in routes if route.task == label.task)
    return Explanation(prompt, label, neighbours, route)


def nearest(vectors: "np.ndarray", query: "np.ndarray", k: int) -> list[tuple[int, float]]:
    """Index and cosine of the `k` unit vectors (N, D) nearest to `query` (D,), best first."""
    import numpy as np

    similarities = vectors @ query
    order = np.argsort(-similarities, kind="stable")[:k]
    return [(int(index), float(similarities[index])) for index in order]
