"""The gate in front of one teacher: when the next call may start, and when to stop asking.

    ticket = await gate.enter(tokens)      # None: the teacher is given up, or the purchase stops
    …                                      # the call
    gate.succeeded(ticket, …)              # or gate.failed(ticket, error), or gate.leave(ticket)

Calls wait for their turn in the order in which they came. What holds them back: the concurrency that
was found (`Concurrency`), the circuit breaker, `Retry-After` at any length, what the provider's
headers leave, and the recipe's `rpm` and `tpm`. All of it is counted on the monotonic clock, so a
clock that jumps changes nothing.
"""

import asyncio
import random
import time
from collections import deque
from dataclasses import dataclass

from router.engine.breaker import Breaker
from router.engine.concurrency import Concurrency
from router.teachers.allowance import Allowance
from router.teachers.errors import CallError

BACKOFF_FLOOR_S, BACKOFF_CEILING_S = 0.5, 60.0
CATCH_UP_S = 0.05  # how late a timer may ring
# A teacher that never answered is likelier to be wrong in the recipe than out of order.
FIRST_ANSWER_S = 15.0
WRONG_IN_A_ROW = 10  # answers by another model, until it is plain that all will be


@dataclass(frozen=True, slots=True)
class Pace:
    """What bounds a teacher's calls: at once, a minute, and how long it may be out of order."""

    start: int
    ceiling: int
    rpm: float | None = None
    tpm: float | None = None
    patience_s: float = 300.0


@dataclass(slots=True)
class Ticket:
    """A call under way."""

    started: float
    tokens: int
    mark: int


class Gate:
    """All calls of one teacher pass here; they come from one event loop."""

    def __init__(self, pace: Pace, dice: random.Random | None = None) -> None:
        self.given_up: CallError | None = None
        self.in_flight = 0
        self._pace, self._dice = pace, dice or random.Random()
        self._concurrency = Concurrency(pace.start, pace.ceiling)
        self._breaker = Breaker()
        self._waiting: deque[tuple[asyncio.Future[Ticket | None], int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._answered = False
        self._wrong = 0
        self._tokens_in_flight = 0
        self._held_until = 0.0  # by Retry-After, or by refusals for load without one
        self._backoff_s = 0.0
        self._quota_until = 0.0  # by the provider's headers; the newest word counts
        self._next_call_at = self._next_token_at = 0.0  # by rpm and tpm
        self._trouble_since: float | None = None

    @property
    def limit(self) -> int:
        """Calls that may be in flight now."""
        return 1 if self._breaker.tripped else self._concurrency.limit

    @property
    def held_s(self) -> float:
        """For how long no call may start, as things stand."""
        return max(0.0, self._opens_at() - time.monotonic())

    async def enter(self, tokens: int) -> Ticket | None:
        """Returns when a call of about `tokens` may start; None when none may any more."""
        if self._is_closed:
            return None
        if not self._waiting and self._delay_s() == 0:
            return self._start(tokens)
        waiter: asyncio.Future[Ticket | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((waiter, tokens))
        self._admit()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and (ticket := waiter.result()):
                self.leave(ticket)
            raise

    def succeeded(self, ticket: Ticket, tokens: int, allowance: Allowance | None) -> None:
        """The call was answered with `tokens` in all."""
        self._answered = True
        self._trouble_since, self._backoff_s, self._wrong = None, 0.0, 0
        self._breaker.worked()
        seconds = time.monotonic() - ticket.started
        saturated = self.in_flight >= self._concurrency.limit
        self._concurrency.succeeded(ticket.mark, seconds, tokens, saturated=saturated)
        if self._pace.tpm:
            self._next_token_at += (tokens - ticket.tokens) * 60.0 / self._pace.tpm
        self._heed(allowance)
        self.leave(ticket)

    def failed(self, ticket: Ticket, error: CallError) -> None:
        """The call raised `error`."""
        if error.fatal:
            self.given_up = error
        if error.load:
            self._concurrency.refused(ticket.mark, self.in_flight)
        if error.retry_after_s:  # 0 says no more than the refusal does
            self._hold(error.retry_after_s)
        elif error.error_class == "rate_limited":
            self._back_off(ticket)
        elif error.transient:
            self._breaker.failed(ticket.started)
        elif error.error_class == "wrong_model":
            self._wrong += 1
        else:
            self._breaker.worked()
        self._lose_patience(error)
        self._heed(error.allowance)
        self.leave(ticket)

    def leave(self, ticket: Ticket) -> None:
        """The call is over, however it ended."""
        self.in_flight -= 1
        self._tokens_in_flight -= ticket.tokens
        self._admit()

    def stop(self) -> None:
        """Lets no call start any more."""
        self._stopped = True
        self._admit()

    def backoff_s(self, previous_s: float) -> float:
        """How long one request waits before it is repeated: decorrelated jitter (M. Brooker,
        "Exponential Backoff and Jitter", AWS, 2015)."""
        ceiling = max(BACKOFF_FLOOR_S, min(BACKOFF_CEILING_S, previous_s * 3))
        return self._dice.uniform(BACKOFF_FLOOR_S, ceiling)

    @property
    def _is_closed(self) -> bool:
        return self._stopped or self.given_up is not None

    def _opens_at(self) -> float:
        return max(
            self._held_until,
            self._quota_until,
            self._breaker.closed_until,
            self._next_call_at,
            self._next_token_at,
        )

    def _delay_s(self) -> float | None:
        """Seconds until the next call may start; None where one in flight must end first."""
        if self.in_flight >= self.limit:
            return None
        return self.held_s

    def _admit(self) -> None:
        """Lets in whoever may start now, and sees to it that the next one is not forgotten."""
        while self._waiting:
            delay_s = 0.0 if self._is_closed else self._delay_s()
            if delay_s is None:
                return
            if delay_s > 0:
                self._wake_in(delay_s)
                return
            waiter, tokens = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None if self._is_closed else self._start(tokens))

    def _wake_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._admit)

    def _start(self, tokens: int) -> Ticket:
        now = time.monotonic()
        self.in_flight += 1
        self._tokens_in_flight += tokens
        if self._pace.rpm:
            self._next_call_at = _since(self._next_call_at, now) + 60.0 / self._pace.rpm
        if self._pace.tpm:
            self._next_token_at = _since(self._next_token_at, now) + tokens * 60.0 / self._pace.tpm
        return Ticket(now, tokens, self._concurrency.mark)

    def _hold(self, seconds: float) -> None:
        now = time.monotonic()
        self._held_until = max(self._held_until, now + seconds)
        # What the server asked for is not held against it.
        self._trouble_since = max(self._trouble_since or now, self._held_until)

    def _back_off(self, ticket: Ticket) -> None:
        """Refused for load, nobody said for how long: once for all calls that are under way."""
        if ticket.started >= self._held_until:
            self._backoff_s = self.backoff_s(self._backoff_s)
            self._held_until = time.monotonic() + self._backoff_s

    def _heed(self, allowance: Allowance | None) -> None:
        """Calls in flight may not have been counted yet, so they are taken off what is left."""
        if allowance is None:
            return
        wait_s = 0.0
        if allowance.requests and allowance.requests.left < self.in_flight:
            wait_s = allowance.requests.reset_s
        if allowance.tokens and allowance.tokens.left < self._tokens_in_flight:
            wait_s = max(wait_s, allowance.tokens.reset_s)
        self._quota_until = time.monotonic() + wait_s if wait_s else 0.0

    def _lose_patience(self, error: CallError) -> None:
        """Gives the teacher up once it was out of order for too long."""
        now = time.monotonic()
        if self._wrong >= WRONG_IN_A_ROW:
            self.given_up = error
        elif error.transient:
            self._trouble_since = self._trouble_since or now
            patience_s = self._pace.patience_s
            if not self._answered:
                patience_s = min(patience_s, FIRST_ANSWER_S)
            in_trouble = self._breaker.tripped or error.error_class == "rate_limited"
            if in_trouble and now - self._trouble_since > patience_s:
                self.given_up = error


def _since(due: float, now: float) -> float:
    """When a call that starts now was due: a timer's delay is made up for, idle time is not."""
    return due if due > now - CATCH_UP_S else now
