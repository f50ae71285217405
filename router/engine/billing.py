"""The bill of one request (or one batch): what each of its attempts cost, known or at its worst."""

from collections.abc import Sequence

from router.engine.budget import RUN, Budget, Scope
from router.engine.requests import Request
from router.teachers.errors import CallError
from router.teachers.protocol import Answer, Sampling, Teacher


def scopes(teacher: Teacher, request: Request) -> tuple[Scope, ...]:
    """What a request is charged to."""
    return RUN, ("teacher", teacher.name), ("task", request.task)


class Bill:
    """Opened before each attempt, closed after it; `costs` adds up per request, None if unknown."""

    def __init__(
        self, budget: Budget, teacher: Teacher, requests: Sequence[Request], sampling: Sampling
    ) -> None:
        worst = [teacher.worst_cost_usd(request.prompt, sampling) for request in requests]
        self._budget = budget
        self._scopes = [scopes(teacher, request) for request in requests]
        self._worst = [usd or 0.0 for usd in worst]
        self._known = [usd is not None for usd in worst]
        self._is_free = not any(self._worst)
        self._is_open = False
        self.costs: list[float | None] = [0.0] * len(worst)
        self.price_source: str | None = None

    async def open(self) -> bool:
        """Sets the worst case aside. False if it does not fit under the caps any more."""
        self._is_open = self._is_free or await self._budget.reserve(self._by_scope(self._worst))
        return self._is_open

    def cancel(self) -> None:
        """Gives the reservation back: nothing was sent."""
        self._settle([0.0] * len(self._worst))

    def close(self, answers: Sequence[Answer]) -> None:
        """Books what answers cost."""
        self.price_source = answers[0].price_source
        self._settle([answer.cost_usd for answer in answers])

    def close_failed(self, error: CallError | None) -> None:
        """Books a call without an answer: at its worst where nobody knows what was charged."""
        charged = None if error is None else error.charged_usd
        if charged is not None:
            self._settle([charged / len(self._worst)] * len(self._worst))
            return
        if not self._is_free:
            self.price_source = "worst_case"
        pairs = zip(self._worst, self._known, strict=True)
        self._settle([usd if known else None for usd, known in pairs])

    def _settle(self, costs: Sequence[float | None]) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self.costs = [
            None if old is None or new is None else old + new
            for old, new in zip(self.costs, costs, strict=True)
        ]
        if not self._is_free or any(costs):
            spent = [cost or 0.0 for cost in costs]
            self._budget.settle(self._by_scope(self._worst), self._by_scope(spent))

    def _by_scope(self, costs: Sequence[float]) -> list[tuple[tuple[Scope, ...], float]]:
        return list(zip(self._scopes, costs, strict=True))
