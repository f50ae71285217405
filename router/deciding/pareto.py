"""What every weight of price against strength would choose: the Pareto front of routes by task."""

from collections.abc import Mapping
from dataclasses import dataclass

from router.deciding.policy import Usd


@dataclass(frozen=True, slots=True)
class Choice:
    """Routes that are best for `alpha_from` and somewhat more: mean strength, and USD per 1,000 answers."""

    alpha_from: float
    strength: float
    usd_per_1000: float
    teachers: dict[str, str]  # by task


def front(
    strengths: Mapping[str, Mapping[str, float]], usd: Usd, prompts: Mapping[str, int]
) -> list[Choice]:
    """All choices from alpha 0 on, strongest first. Tasks weigh by their prompts.

    `strengths` and `usd` hold the same teachers of each task: task -> teacher. Each choice is the best there
    is at its price, or at its strength.
    """
    turns = sorted(
        {
            (at[a] - at[b]) / (usd[task][a] - usd[task][b])
            for task, at in strengths.items()
            for a in at
            for b in at
            if usd[task][a] > usd[task][b] and at[a] > at[b]
        }
    )
    total = sum(prompts.get(task, 0) for task in strengths)
    found: list[Choice] = []
    for begin, end in zip([0.0, *turns], [*turns, 2 * turns[-1] if turns else 1.0], strict=True):
        alpha = (begin + end) / 2
        teachers = {task: _best(at, usd[task], alpha) for task, at in strengths.items()}
        if not found or teachers != found[-1].teachers:
            share = {task: prompts.get(task, 0) / total if total else 0.0 for task in strengths}
            strength = sum(share[task] * strengths[task][name] for task, name in teachers.items())
            price = sum(share[task] * usd[task][name] for task, name in teachers.items())
            found.append(Choice(begin, strength, price, teachers))
    return found


def _best(strengths: Mapping[str, float], usd: Mapping[str, float], alpha: float) -> str:
    """The teacher of the highest utility; of equal ones the cheapest."""
    return max(strengths, key=lambda name: (strengths[name] - alpha * usd[name], -usd[name]))
