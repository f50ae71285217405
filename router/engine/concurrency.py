"""How many calls at once: found by additive increase and multiplicative decrease.

The limit starts at `start`, doubles each round (as many answers as the limit) until something speaks
against it, then grows by one a round. Refusals for load (429, 503, 529) and missed deadlines cut it to 0.7,
once a round, where they are a tenth of the round and more than one: a server that refuses by chance is not
asked less for it. Where latency doubled and no more came out, it goes back to where more still did
(D.-M. Chiu and R. Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance",
1989; slow start after V. Jacobson, 1988; latency as a signal after L. Brakmo, "TCP Vegas", 1995).
"""

from dataclasses import dataclass

FLOOR = 1
CUT = 0.7
TOLERATED = 0.1  # of a round may be refused
SHORTEST_ROUND = 10  # answers that a look at latency stands on at least
QUEUEING = 2.0  # times the fastest round's latency
TRIAL, GAIN = 1.1, 1.05  # so many times the calls must bring so many times the output
REST = 30  # rounds without growth after growth that brought nothing


class Concurrency:
    """The limit of one teacher, between FLOOR and `ceiling`."""

    def __init__(self, start: int, ceiling: int) -> None:
        self._limit, self._ceiling = float(min(start, ceiling)), ceiling
        self._doubling = True
        self._changes = self._resting = 0
        self._now = _Round(self.limit)
        self._fastest: _Round | None = None
        self._best: _Round | None = None  # the last one in which more calls brought more

    @property
    def limit(self) -> int:
        """Calls that may be in flight now."""
        return int(self._limit)

    @property
    def mark(self) -> int:
        """For calls that start now: those that started under another limit say nothing of this one."""
        return self._changes

    def succeeded(self, mark: int, seconds: float, tokens: int, *, saturated: bool) -> None:
        """A call that started at `mark` was answered after `seconds`; `saturated`: all that the limit
        allows were in flight."""
        if mark == self._changes:
            self._now.add(seconds, tokens, saturated)
            if self._now.answers >= max(SHORTEST_ROUND, self.limit):
                self._end_round()

    def refused(self, mark: int, in_flight: int) -> None:
        """A call that started at `mark` was refused for load, or ran into its deadline."""
        if mark != self._changes:
            return
        self._now.refused += 1
        if self._now.refused >= min(max(2.0, TOLERATED * self._limit), self._limit):
            self._doubling, self._best = False, None
            asked = in_flight + self._now.refused - 1  # those refused before have left
            self._set(min(self._limit, asked) * CUT)

    def _end_round(self) -> None:
        now = self._now
        self._now = _Round(self.limit)
        if self._fastest is None or now.mean_s < self._fastest.mean_s:
            self._fastest = now
        if not now.saturated:
            return
        if self._best is None or now.output_over(self._best) >= GAIN:
            self._best = now
        elif now.limit >= TRIAL * self._best.limit and now.queues(self._fastest):
            self._doubling, self._resting = False, REST
            self._set(self._best.limit)
        elif self._resting:
            self._resting -= 1
        else:
            self._set(self._limit * 2 if self._doubling else self._limit + 1)

    def _set(self, limit: float) -> None:
        limit = max(float(FLOOR), min(float(self._ceiling), limit))
        if limit != self._limit:
            self._limit = limit
            self._changes += 1
            self._now = _Round(self.limit)


@dataclass(slots=True)
class _Round:
    """Answers that came in a row: how long they took, and how much came out a second."""

    limit: int
    answers: int = 0
    tokens: int = 0
    seconds: float = 0.0
    refused: int = 0
    saturated: bool = True

    def add(self, seconds: float, tokens: int, saturated: bool) -> None:
        self.answers += 1
        self.tokens += tokens
        self.seconds += seconds
        self.saturated &= saturated

    @property
    def mean_s(self) -> float:
        return max(self.seconds, 1e-9) / self.answers

    def queues(self, fastest: "_Round") -> bool:
        """Whether answers wait, by the answer and by the token: long answers take long, and in short
        ones few tokens share a call's fixed part."""
        by_token = self.seconds / max(self.tokens, 1)
        then = fastest.seconds / max(fastest.tokens, 1)
        return self.mean_s > QUEUEING * fastest.mean_s and by_token > QUEUEING * then

    def output_over(self, other: "_Round") -> float:
        """Output a second over another round's, in answers or in tokens, whichever rose more.

        By Little's law: as many calls as the limit, each for so long.
        """
        answers = (self.limit / self.mean_s) / (other.limit / other.mean_s)
        return answers * max(1.0, self.tokens * other.answers / max(self.answers * other.tokens, 1))
