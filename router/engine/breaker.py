"""A circuit breaker: after failures in a row it keeps calls back, and tries one from time to time.

    closed ── TRIP failures in a row ──▶ open ── cooled ──▶ half-open ── one call works ──▶ closed
                                           ▲                    │
                                           └── that call fails ─┘  (cooling twice as long)

After M. Nygard, "Release It!", 2007. Times are on the monotonic clock.
"""

import time

TRIP = 5
COOL_S, COOLEST_S = 1.0, 60.0


class Breaker:
    """The circuit in front of one teacher."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._cool_s = COOL_S
        self._opened_at = float("-inf")
        self.tripped = False  # open or half-open: one call at a time
        self.closed_until = 0.0  # no call before

    def failed(self, started_at: float) -> None:
        """A call that started at `started_at` failed for a reason that lies with the teacher."""
        self._in_a_row += 1
        if self._in_a_row < TRIP or started_at < self._opened_at:
            return
        if self.tripped:
            self._cool_s = min(COOLEST_S, self._cool_s * 2)
        self.tripped = True
        self._opened_at = time.monotonic()
        self.closed_until = self._opened_at + self._cool_s

    def worked(self) -> None:
        """The teacher answered, if only to refuse a prompt."""
        self._in_a_row, self._cool_s = 0, COOL_S
        self.tripped, self.closed_until = False, 0.0
