"""Money: the worst cost of a call is set aside before it, and settled after it.

So the sum of what was spent and what may still be charged for calls in flight never passes a cap: of
the run, of a teacher, or of a task. Amounts are counted in whole picodollars, since sums of floats
drift.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Mapping

from ledger.errors import InputError

PICO = 10**12

# What a cap is on: the run, ("teacher", name) or ("task", name).
Scope = tuple[str, str]
RUN: Scope = ("run", "")


class NoBudget(InputError):
    """Teachers that cost money, and no cap on what may be spent."""


class UnknownPrice(InputError):
    """A teacher whose price nobody knows, and no word that it may be used all the same."""


class Budget:
    """Caps and what is left of them. All calls come from one event loop."""

    def __init__(self, caps_usd: Mapping[Scope, float | None], spent_usd: Mapping[Scope, float]):
        """`spent_usd` is what earlier sittings of the run spent."""
        self._left = {
            scope: _floor(cap) - _ceil(spent_usd.get(scope, 0.0))
            for scope, cap in caps_usd.items()
            if cap is not None
        }
        self._reserved: Counter[Scope] = Counter()
        self._settled = asyncio.Event()
        self._stopped = False

    def left_usd(self, scope: Scope) -> float | None:
        """What of a cap is not spent; calls in flight may still take of it. None without a cap."""
        return self._left[scope] / PICO if scope in self._left else None

    def take(self, costs: Iterable[tuple[Iterable[Scope], float]]) -> bool | None:
        """Sets costs aside if they fit now; None where they may fit later, False where they never do."""
        amounts = self._amounts(costs)
        if all(self._left[s] - self._reserved[s] >= amounts[s] for s in amounts):
            self._reserved.update(amounts)
            return True
        return False if any(self._left[s] < amounts[s] for s in amounts) else None

    def hold(self, costs: Iterable[tuple[Iterable[Scope], float]]) -> None:
        """Sets costs aside for what is under way already, whether they fit or not."""
        self._reserved.update(self._amounts(costs))

    async def reserve(self, costs: Iterable[tuple[Iterable[Scope], float]]) -> bool:
        """Sets aside costs in USD, each in its scopes; waits while calls in flight may give enough back.

        False where it could not fit even if every call in flight cost nothing, and after `stop`.
        """
        costs = [(tuple(scopes), usd) for scopes, usd in costs]
        while not self._stopped:
            taken = self.take(costs)
            if taken is not None:
                return taken
            self._settled.clear()
            await self._settled.wait()
        return False

    def stop(self) -> None:
        """Nobody waits any more."""
        self._stopped = True
        self._settled.set()

    def settle(
        self,
        reserved: Iterable[tuple[Iterable[Scope], float]],
        spent: Iterable[tuple[Iterable[Scope], float]],
    ) -> None:
        """Gives a reservation back and books what the call cost."""
        self._reserved.subtract(self._amounts(reserved))
        for scope, amount in self._amounts(spent).items():
            self._left[scope] -= amount
        self._settled.set()

    def _amounts(self, costs: Iterable[tuple[Iterable[Scope], float]]) -> Counter[Scope]:
        """By capped scope, what costs money."""
        amounts: Counter[Scope] = Counter()
        for scopes, usd in costs:
            if amount := _ceil(usd):
                for scope in scopes:
                    if scope in self._left:
                        amounts[scope] += amount
        return amounts


def _ceil(usd: float) -> int:
    return math.ceil(usd * PICO - 1e-3)


def _floor(usd: float) -> int:
    return math.floor(usd * PICO + 1e-3)
