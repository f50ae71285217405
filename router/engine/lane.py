"""One teacher's part of a purchase: its requests, and what is known of their ends.

`CallLane` (calls.py) asks a teacher call by call, `BatchLane` (batches.py) by a provider's batch API.
What is left when a purchase is cut short ends `cancelled`.
"""

import asyncio
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import groupby

from router.engine.budget import Budget
from router.engine.config import GenerateConfig
from router.engine.progress import TeacherProgress
from router.engine.recording import Commits, Context, Outcome, ended
from router.engine.requests import Work
from router.teachers.errors import CallError
from router.teachers.protocol import Sampling, Teacher

OVER_BUDGET = (
    "its worst cost does not fit under a cap any more: raise `budget_usd` (in `generate:` or at the "
    "teacher) or `task_budget_usd`, or lower `generate: max_tokens`"
)
STOPPED = "the run was stopped"


@dataclass(frozen=True, slots=True)
class Terms:
    """What all lanes of a purchase share."""

    sampling: Sampling
    settings: GenerateConfig
    budget: Budget
    commits: Commits


class Lane:
    """Buys from one teacher."""

    def __init__(self, teacher: Teacher, works: Sequence[Work], terms: Terms) -> None:
        self.teacher, self.terms = teacher, terms
        self.progress = TeacherProgress(total=len(works), cap_usd=teacher.budget_usd)
        self.left = {work.key: work for work in works}
        self._stop = asyncio.Event()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    @property
    def first(self) -> Work:
        """A request that is still to be bought."""
        return next(iter(self.left.values()))

    async def start(self) -> bool:
        """Has the teacher's own server run; False where there is none, or the lane was stopped."""
        server = self.teacher.server
        if server is None or self.stopped:
            return server is None
        self.progress.starting = True
        starting = asyncio.ensure_future(server.start())
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
            if starting.done() and not starting.cancelled():
                starting.result()
                return True
        except CallError as error:
            self.give_up(error)
        finally:
            self.progress.starting = False
            stopping.cancel()
            starting.cancel()
            await asyncio.wait([starting, stopping])
        return False

    async def buy(self) -> None:
        """Buys until every request has ended, or `stop`."""
        raise NotImplementedError

    def stop(self) -> None:
        """Sends nothing any more; calls in flight may end."""
        self._stop.set()
        self.terms.budget.stop()

    def give_up(self, error: CallError) -> None:
        """Ends what is left with the error that keeps the teacher from being asked."""
        self.progress.paused = str(error)
        self.record([ended(work, error) for work in list(self.left.values())])

    def refresh(self) -> None:
        """Brings `progress` up to date with what no outcome tells."""
        self.progress.mark()
        self.progress.left_usd = self.terms.budget.left_usd(("teacher", self.teacher.name))

    def cancel_the_rest(self) -> None:
        """Records what is left as `cancelled`, with what its calls may have cost."""
        if self.left:
            self.record([self.cancelled(work) for work in list(self.left.values())])

    def cancelled(self, work: Work) -> Outcome:
        """The end of a request that the purchase did not come to."""
        return Outcome(work, "cancelled", STOPPED)

    def record(self, outcomes: Sequence[Outcome], context: Context | None = None) -> None:
        """Hands outcomes to the ledger, which makes them durable meanwhile."""
        for outcome in outcomes:
            if self.left.pop(outcome.work.key, None) is not None:
                self.progress.add(outcome)
        self.terms.commits.put(outcomes, self.teacher, context)


def as_call_error(teacher: Teacher, error: Exception) -> CallError:
    """Whatever a teacher raises, as the error of its call."""
    if isinstance(error, CallError):
        return error
    return CallError(
        f"internal_{type(error).__name__}",
        f"teacher `{teacher.name}` raised {type(error).__name__}: {error}",
        charged_usd=None,
    )


def cut_into_chunks(teacher: Teacher, works: Sequence[Work], have: Set[str]) -> list[list[Work]]:
    """A teacher's requests in chunks of its batch size, without those that are finished.

    Chunks are cut before the finished ones are left out, so that a run that was cut off asks in
    the same batches when it goes on. Answers of one chunk share n, which moves the seed.
    """
    own = sorted(
        (work for work in works if work.request.teacher == teacher.name),
        key=lambda work: work.request.n,
    )
    chunks = []
    for _, same_n in groupby(own, key=lambda work: work.request.n):
        group = list(same_n)
        for start in range(0, len(group), teacher.batch_size):
            chunk = [w for w in group[start : start + teacher.batch_size] if w.key not in have]
            if chunk:
                chunks.append(chunk)
    return chunks
