"""What a purchase tells while it goes on, and when it is over."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field

from router.engine.recording import Outcome

LATELY = 50  # marks that a rate is taken over


@dataclass(slots=True)
class Failure:
    """Requests that ended alike: of which teacher, how many, and one of their reasons."""

    teacher: str
    state: str
    count: int
    example: str


@dataclass(slots=True)
class TeacherProgress:
    """One teacher's part. `done` ended with a sample, `failed` without; `tokens` are answers'.

    No call may start for `held_s` seconds, as things stand. `starting`: its own server is. `paused`:
    why it was given up, and the rest was not asked. `left_usd` of its own cap `cap_usd` is not spent.
    """

    total: int
    done: int = 0
    failed: int = 0
    in_flight: int = 0
    held_s: float = 0.0
    starting: bool = False
    paused: str = ""
    cap_usd: float | None = None
    left_usd: float | None = None
    tokens: int = 0
    cost_usd: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    failures: dict[str, Failure] = field(default_factory=dict)  # by error class
    _lately: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=LATELY))

    @property
    def errors(self) -> dict[str, int]:
        """How many requests ended without a sample, by error class."""
        return {name: failure.count for name, failure in self.failures.items()}

    def mark(self) -> None:
        """Notes how far it is; a few times a second."""
        self._lately.append((time.monotonic(), self.done + self.failed, self.tokens))

    @property
    def rates(self) -> tuple[float, float]:
        """Requests and tokens of answers per second, over the last marks."""
        if len(self._lately) < 2:
            return 0.0, 0.0
        (then, ended, tokens), (now, *counts) = self._lately[0], self._lately[-1]
        seconds = max(now - then, 1e-3)
        return (counts[0] - ended) / seconds, (counts[1] - tokens) / seconds

    @property
    def eta_s(self) -> float | None:
        """Seconds until its last request ends, at the present rate; None where there is none."""
        rate = self.rates[0]
        return (self.total - self.done - self.failed) / rate if rate else None

    def add(self, outcome: Outcome) -> None:
        """Counts one outcome."""
        self.cost_usd += outcome.cost_usd or 0.0
        self.states[outcome.state] += 1
        if outcome.answer is not None:
            self.done += 1
            self.tokens += outcome.answer.completion_tokens or 0
            return
        self.failed += 1
        failure = self.failures.setdefault(
            outcome.error_class or outcome.state,
            Failure(outcome.work.request.teacher, outcome.state, 0, outcome.reason),
        )
        failure.count += 1


@dataclass(slots=True)
class Progress:
    """A purchase as it stands, by teacher's name. `reused` requests were finished before.

    `draining`: somebody pressed Ctrl-C, and only calls in flight are waited for.
    """

    teachers: dict[str, TeacherProgress]
    reused: int
    draining: bool = False
    began: float | None = None
    ended: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first call could start, until all that came is durable."""
        if self.began is None:
            return 0.0
        return (self.ended or time.monotonic()) - self.began


@dataclass(slots=True)
class Purchase:
    """What came of a purchase. `states` counts every request asked for, by its state now.

    `failures` is by error class, over all teachers, with one teacher's example; `failures_of` by teacher
    and class. `paused` says of the teachers that were given up why.
    """

    states: dict[str, int]
    bought: int
    reused: int
    cost_usd: float
    tokens: int
    seconds: float
    failures: dict[str, Failure]
    failures_of: dict[str, dict[str, Failure]]
    paused: dict[str, str]


def summary(progress: Progress, reused_states: Counter[str]) -> Purchase:
    """Counts how a purchase ended."""
    states = Counter(reused_states)
    failures: dict[str, Failure] = {}
    parts = progress.teachers.values()
    for part in parts:
        states.update(part.states)
        for name, failure in part.failures.items():
            total = failures.setdefault(
                name, Failure(failure.teacher, failure.state, 0, failure.example)
            )
            total.count += failure.count
    return Purchase(
        states=dict(states),
        bought=sum(part.done for part in parts),
        reused=progress.reused,
        cost_usd=sum(part.cost_usd for part in parts),
        tokens=sum(part.tokens for part in parts),
        seconds=progress.elapsed_s,
        failures=failures,
        failures_of={name: part.failures for name, part in progress.teachers.items()},
        paused={name: part.paused for name, part in progress.teachers.items() if part.paused},
    )
