"""Money: the worst cost of a call is set aside before it, and settled after it.

So the sum of what was spent and what may still be charged for calls in flight never passes a cap.
Amounts are counted in whole picodollars, since sums of floats drift.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Mapping

from ledger.errors import InputError

PICO = 10**12


class NoBudget(InputError):
    """Teachers that cost money, and no cap on what may be spent."""


class UnknownPrice(InputError):
    """A teacher whose price nobody knows, and no word that it may be used all the same."""


class Budget:
    """Caps of a run and of its teachers. All calls come from one event loop."""

    def __init__(
        self,
        cap_usd: float | None,
        teacher_caps_usd: Mapping[str, float | None],
        spent_usd: Mapping[str, float],
    ) -> None:
        """`spent_usd` is what earlier sittings of the run spent, by teacher."""
        self._cap = None if cap_usd is None else _floor(cap_usd)
        self._caps = {
            name: _floor(cap) for name, cap in teacher_caps_usd.items() if cap is not None
        }
        self._spent: dict[str, int] = defaultdict(int)
        self._spent.update({name: _ceil(usd) for name, usd in spent_usd.items()})
        self._reserved: dict[str, int] = defaultdict(int)
        self._settled = asyncio.Event()

    async def reserve(self, teacher: str, usd: float) -> bool:
        """Sets `usd` aside; waits while calls in flight may still give enough back.

        False where it could not fit even if every call in flight cost nothing.
        """
        amount = _ceil(usd)
        while True:
            if self._fits(teacher, amount, self._reserved):
                self._reserved[teacher] += amount
                return True
            if not self._fits(teacher, amount, {}):
                return False
            self._settled.clear()
            await self._settled.wait()

    def settle(self, teacher: str, reserved_usd: float, spent_usd: float) -> None:
        """Gives a reservation back and books what the call cost."""
        self._reserved[teacher] -= _ceil(reserved_usd)
        self._spent[teacher] += _ceil(spent_usd)
        self._settled.set()

    def _fits(self, teacher: str, amount: int, reserved: Mapping[str, int]) -> bool:
        if amount == 0:
            return True
        run = sum(self._spent.values()) + sum(reserved.values()) + amount
        own = self._spent[teacher] + reserved.get(teacher, 0) + amount
        cap = self._caps.get(teacher)
        return (self._cap is None or run <= self._cap) and (cap is None or own <= cap)


def _ceil(usd: float) -> int:
    return math.ceil(usd * PICO - 1e-3)


def _floor(usd: float) -> int:
    return math.floor(usd * PICO + 1e-3)
