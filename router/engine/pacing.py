"""When the next call to a teacher may start, and when to stop asking it.

Waiting is counted on the monotonic clock, so a clock that jumps changes nothing. A `Retry-After`
holds back every call to that teacher, at any length. Backoff is decorrelated jitter (M. Brooker,
"Exponential Backoff and Jitter", AWS, 2015).
"""

import asyncio
import random
import time

from router.teachers.errors import CallError

BACKOFF_FLOOR_S = 0.5
BACKOFF_CEILING_S = 60.0
# A teacher is given up for this sitting after so many requests in a row that ended, all retries
# used, for a reason that lies with the teacher rather than with a prompt.
GIVE_UP_AFTER = 10


class Pacer:
    """The gate in front of one teacher."""

    def __init__(self, floor_s: float = BACKOFF_FLOOR_S, dice: random.Random | None = None) -> None:
        self._floor_s = floor_s
        self._dice = dice or random.Random()
        self._open_at = time.monotonic()
        self._in_a_row = 0
        self.given_up: CallError | None = None

    async def ready(self) -> None:
        """Returns when a call may start."""
        while (wait := self._open_at - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    def hold_back(self, error: CallError) -> None:
        """Closes the gate for as long as the server asked to be left alone."""
        if error.retry_after_s is not None:
            self._open_at = max(self._open_at, time.monotonic() + error.retry_after_s)

    async def back_off(self, error: CallError, previous_s: float) -> float:
        """Waits before a repetition; returns the wait, which the next one grows from."""
        if error.retry_after_s is not None:
            await self.ready()
            return previous_s
        ceiling = max(self._floor_s, min(BACKOFF_CEILING_S, previous_s * 3))
        wait = self._dice.uniform(self._floor_s, ceiling)
        await asyncio.sleep(wait)
        return wait

    def succeeded(self) -> None:
        """A call brought a usable answer."""
        self._in_a_row = 0

    def failed(self, error: CallError) -> None:
        """A request ended with this error, all retries used."""
        if error.fatal:
            self.given_up = error
        elif error.transient or error.error_class == "wrong_model":
            self._in_a_row += 1
            if self._in_a_row >= GIVE_UP_AFTER:
                self.given_up = error
