"""Why one prompt goes where it goes: its task, what is near it, and what that says of the teachers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.prompts import Item, Prompt
from router.deciding.classifier import UNSURE, Label, TaskClassifier
from router.deciding.router import Probed, Router
from router.deciding.routes import Route
from router.deciding.strength import Gain

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class NearProbe:
    """A probe, its cosine similarity to the prompt, and the score of every teacher that was asked."""

    text: str
    task: str
    similarity: float
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a prompt goes, and why.

    `route` is its task's. `gain` is what `teacher` should bring over `runner_up` here: by the probes like
    this prompt where prompts may leave their task's route, else by the task's. `guard` says whether they may.
    """

    prompt: Prompt
    label: Label
    teacher: str
    reason: str
    runner_up: str | None
    gain: Gain | None
    guard: str
    route: Route
    nearest: tuple[NearProbe, ...]


def explain(
    prompt: Prompt,
    vector: "np.ndarray",
    classifier: TaskClassifier,
    router: Router,
    probes: Sequence[Item],
    probed: Probed,
    confidence: float,
    unable: Mapping[str, str],
    k: int = 5,
) -> Explanation:
    """Explains one prompt by its unit vector (D,). `probed` holds `probes` in their order, `unable` the
    teachers that cannot take it, and why."""
    label = classifier.predict(vector[None])[0]
    route = next(route for route in router.routes if route.task == label.task)
    teacher, reason = route.teacher, route.reason
    chosen = router.choose(vector[None], [label.task])[0]
    lost = {0: unable} if chosen in unable else {}
    for leaving in router.leaving([prompt.key], vector[None], [label.task], confidence, lost):
        teacher, reason = leaving.teacher, leaving.reason
    if teacher in unable:
        reason = f"no teacher can take it: {unable[teacher]}"
    runner_up, gain = _runner_up(router, vector, route, teacher, confidence, unable)
    return Explanation(
        prompt,
        label,
        teacher,
        reason,
        runner_up,
        gain,
        router.guard,
        route,
        tuple(
            _near(probes[index], probed.teachers, probed.scores[index].tolist(), similarity)
            for index, similarity in nearest(probed.vectors, vector, k)
        ),
    )


def nearest(vectors: "np.ndarray", query: "np.ndarray", k: int) -> list[tuple[int, float]]:
    """Index and cosine of the `k` unit vectors (N, D) nearest to `query` (D,), best first."""
    import numpy as np

    similarities = vectors @ query
    order = np.argsort(-similarities, kind="stable")[:k]
    return [(int(index), float(similarities[index])) for index in order]


def _runner_up(
    router: Router,
    vector: "np.ndarray",
    route: Route,
    teacher: str,
    confidence: float,
    unable: Mapping[str, str],
) -> tuple[str | None, Gain | None]:
    """The next best teacher on a prompt that can take it, and by how much `teacher` should exceed it."""
    others = [name for name in router.teachers if name != teacher and name not in unable]
    if router.local is None or route.task == UNSURE or teacher not in router.teachers or not others:
        if teacher != route.teacher:
            return None, None
        if route.runner_up is None or route.runner_up in unable:
            return None, None
        if route.margin is None:
            return route.runner_up, None
        assert route.margin_lo is not None
        assert route.margin_hi is not None
        n = min(route.strengths[name].n for name in (teacher, route.runner_up))
        return route.runner_up, Gain(route.margin, route.margin_lo, route.margin_hi, n)
    place = {name: i for i, name in enumerate(router.teachers)}
    predicted = router.local.predict(vector[None], [route.task])[0]
    other = max(others, key=lambda name: predicted[place[name]])
    [gain] = router.local.gains(vector[None], route.task, place[teacher], place[other], confidence)
    return other, gain


def _near(
    item: Item, teachers: Sequence[str], scores: Sequence[float], similarity: float
) -> NearProbe:
    told = {
        name: score for name, score in zip(teachers, scores, strict=True) if not math.isnan(score)
    }
    return NearProbe(item.prompt.text, str(item.task), similarity, told)
