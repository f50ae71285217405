"""What a purchase will cost, before anything is spent: from like answers in the ledger, else from caps."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, variance
from typing import Any

from ledger.store import Ledger
from router.engine.requests import Request
from router.teachers.protocol import Sampling, Teacher

ENOUGH = 5  # answers that a mean and its spread can stand on
NEWEST = 2_000  # answers of a teacher that are looked at
Z = 1.96


@dataclass(frozen=True, slots=True)
class Forecast:
    """USD of a purchase: 95 % between `lo` and `hi`, and never above `worst`.

    `measured` of its requests go by what like ones cost, by `answers` of them; for the others `lo` is 0
    and `hi` what they cost at their longest. None where no price is known.
    """

    usd: float | None
    lo: float | None
    hi: float | None
    worst: float | None
    requests: int
    measured: int
    answers: int

    @property
    def basis(self) -> str:
        """What it stands on, in words; empty where nothing is charged."""
        if self.usd is None:
            return "since some teacher has no known price"
        if not self.worst:
            return ""
        known = f"from what {self.answers:,} like answers in the ledger cost"
        caps = "from the caps (the prompt, and `max_tokens` of answer), for want of like answers"
        if self.measured == self.requests:
            return known
        if not self.measured:
            return caps
        return f"{self.measured:,} of {self.requests:,} requests {known}, the others {caps}"


def together(parts: Sequence[Forecast]) -> Forecast:
    """Several purchases as one; their ends add up, which errs on the wide side."""
    priced = [part for part in parts if part.usd is not None]
    requests, measured = (sum(getattr(p, name) for p in parts) for name in ("requests", "measured"))
    answers = max((part.answers for part in parts), default=0)
    if len(priced) < len(parts):
        return Forecast(None, None, None, None, requests, measured, answers)
    usd, lo, hi, worst = (
        sum(getattr(p, name) for p in parts) for name in ("usd", "lo", "hi", "worst")
    )
    return Forecast(usd, lo, hi, worst, requests, measured, answers)


def forecast(
    ledger: Ledger, requests: Sequence[Request], teachers: Mapping[str, Teacher], sampling: Sampling
) -> Forecast:
    """Forecasts requests that are still to be bought; reads what is folded.

    The sum of n costs like k known ones with mean m and variance s² is n·m, and lies within
    1.96·s·sqrt(n + n²/k) of it (normal prediction interval of a sum). Known costs hold every attempt,
    failed ones too, and are brought to the present price.
    """
    groups: dict[tuple[str, str], list[Request]] = defaultdict(list)
    for request in requests:
        groups[request.teacher, request.task].append(request)
    known = {name: _costs(ledger, teachers[name]) for name in {name for name, _ in groups}}
    usd = spread = unmeasured = worst = 0.0
    measured = 0
    pools: dict[int, int] = {}  # how many answers stand behind the forecast, each counted once
    whole = {
        name: [usd for costs in by_task.values() for usd in costs]
        for name, by_task in known.items()
    }
    for (name, task), group in groups.items():
        most = [teachers[name].worst_cost_usd(r.prompt, sampling) for r in group]
        if None in most:
            return Forecast(None, None, None, None, len(requests), 0, 0)
        at_most = sum(cost for cost in most if cost is not None)
        worst += at_most
        costs = known[name].get(task) or []
        if len(costs) < ENOUGH:
            costs = whole[name]
        if len(costs) < ENOUGH:
            usd, unmeasured = usd + at_most, unmeasured + at_most
            continue
        n, k = len(group), len(costs)
        usd += min(n * mean(costs), at_most)
        spread += variance(costs) * (n + n * n / k)
        measured += n
        pools[id(costs)] = k
    margin = Z * sqrt(spread)
    return Forecast(
        usd=usd,
        lo=max(0.0, usd - unmeasured - margin),
        hi=min(worst, usd + margin),
        worst=worst,
        requests=len(requests),
        measured=measured,
        answers=sum(pools.values()),
    )


def _costs(ledger: Ledger, teacher: Teacher) -> dict[str, list[float]]:
    """By task, what a teacher's newest requests cost, at its present price."""
    if not ledger.database.exists():
        return {}
    rows: list[tuple[Any, ...]] = ledger.rows(
        "SELECT r.task, r.cost_usd, r.prompt_tokens, r.completion_tokens, r.attempts FROM request r "
        "JOIN teacher t ON r.teacher = t.id WHERE t.key = ? AND r.state IN "
        "('done', 'truncated', 'refused', 'filtered', 'invalid', 'failed') AND r.attempts > 0 "
        "ORDER BY r.id DESC LIMIT ?",
        [teacher.key, NEWEST],
    )
    then = now = 0.0  # what clean answers cost, and would cost
    by_task: dict[str, list[float]] = defaultdict(list)
    for task, usd, prompt_tokens, completion_tokens, attempts in rows:
        present = None
        if prompt_tokens is not None and completion_tokens is not None:
            present = teacher.usd(prompt_tokens, completion_tokens)
        if present is not None and attempts == 1:
            then, now = then + (usd or 0.0), now + present
        by_task[task].append(usd or 0.0)
    if not then and now:  # it was free then: only tokens tell
        return {
            task: [
                teacher.usd(row[2], row[3]) or 0.0
                for row in rows
                if row[0] == task and None not in row[2:4]
            ]
            for task in by_task
        }
    scale = now / then if then else 1.0
    return {task: [cost * scale for cost in costs] for task, costs in by_task.items()}
