"""Buying answers: each request once, bounded per teacher, in the ledger as they arrive.

    with ledger.writing("run"):
        purchase = buy(requests, teachers, ledger, sampling, settings, stage="generate", run="r")

Servers are asked side by side, each with its own limit; local teachers take turns, since they share
the machine. A local batch is fixed by the order of the requests and committed as a whole.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import groupby

from ledger.keys import now_us
from ledger.store import Ledger
from router.engine.billing import Bill
from router.engine.budget import Budget, NoBudget, UnknownPrice
from router.engine.config import GenerateConfig
from router.engine.loop import run_to_end
from router.engine.pacing import Pacer
from router.engine.progress import Progress, Purchase, TeacherProgress, summary
from router.engine.recording import Commits, Context, Outcome, answered, batch_of, ended
from router.engine.requests import Finished, Request, Work, finished, keyed
from router.teachers.errors import CallError
from router.teachers.protocol import Answer, Sampling, Teacher, register

OnProgress = Callable[[Progress], None]
TICK_S = 0.2
OVER_BUDGET = (
    "its worst cost does not fit under `budget_usd` any more: raise it (in `generate:` or at the "
    "teacher), or lower `generate: max_tokens`"
)


def buy(
    requests: Sequence[Request],
    teachers: Mapping[str, Teacher],
    ledger: Ledger,
    sampling: Sampling,
    settings: GenerateConfig,
    *,
    stage: str,
    run: str,
    on_progress: OnProgress | None = None,
) -> Purchase:
    """Buys what the ledger does not have yet; every request ends in one state with a reason.

    Call it inside `ledger.writing()`, with the prompts' rows put before; it folds before it
    returns. Ctrl-C cancels what is in flight, records that, and raises KeyboardInterrupt. Raises
    NoBudget, UnknownPrice or TeacherUnavailable before anything is spent.
    """
    ledger.fold()  # what is not folded could not be found, and would be bought again
    asked = {name: teachers[name] for name in dict.fromkeys(r.teacher for r in requests)}
    assert all(name == teacher.name for name, teacher in asked.items())
    works = keyed(requests, asked, sampling)
    have = finished(ledger, asked.values())
    buyer = _Buyer(asked, works, have, ledger, sampling, settings, stage, run)
    if not buyer.lanes:
        return buyer.purchase()
    _check_prices(buyer.lanes, settings, sampling)
    for lane in buyer.lanes:
        lane.teacher.require_ready()
        register(ledger, lane.teacher)
    try:
        run_to_end(lambda: buyer.buy_all(on_progress))
    finally:
        ledger.fold()
    return buyer.purchase()


class _Lane:
    """One teacher's requests that are still to be bought, in chunks of its batch size."""

    def __init__(self, teacher: Teacher, chunks: list[list[Work]]) -> None:
        self.teacher = teacher
        self.chunks = chunks
        self.pacer = Pacer()
        self.progress = TeacherProgress(total=sum(map(len, chunks)))

    @property
    def works(self) -> Iterator[Work]:
        return (work for chunk in self.chunks for work in chunk)


class _Buyer:
    """One purchase under way."""

    def __init__(
        self,
        teachers: Mapping[str, Teacher],
        works: Sequence[Work],
        have: Mapping[str, Finished],
        ledger: Ledger,
        sampling: Sampling,
        settings: GenerateConfig,
        stage: str,
        run: str,
    ) -> None:
        self.ledger, self.settings, self.sampling = ledger, settings, sampling
        self.context = Context(sampling, stage, run, now_us())
        self.ended: set[str] = set()  # request keys
        self.commits = Commits(ledger)
        self.bills: dict[str, tuple[Bill, int]] = {}  # by request key, of what is under way
        fit = {key for key, end in have.items() if end.serves(sampling.max_tokens)}
        self.reused = Counter(have[work.key].state for work in works if work.key in fit)
        lanes = [_Lane(t, _chunks(t, works, fit)) for t in teachers.values()]
        self.lanes = [lane for lane in lanes if lane.chunks]
        self.progress = Progress(
            {lane.teacher.name: lane.progress for lane in self.lanes}, self.reused.total()
        )
        caps = {lane.teacher.name: lane.teacher.budget_usd for lane in self.lanes}
        self.budget = Budget(
            settings.budget_usd, caps, _spent(ledger, run, teachers) if self.lanes else {}
        )

    def purchase(self) -> Purchase:
        """What came of it."""
        return summary(self.progress, self.reused)

    async def buy_all(self, on_progress: OnProgress | None) -> None:
        """Buys from all teachers; whatever is left when it is cut short ends `cancelled`."""
        ticker = asyncio.create_task(self._tick(on_progress)) if on_progress else None
        try:
            async with asyncio.TaskGroup() as group:
                for lane in self.lanes:
                    if lane.teacher.remote:
                        group.create_task(self._buy_from(lane))
                group.create_task(self._take_turns())
        finally:
            if ticker:
                ticker.cancel()
            self._cancel_the_rest()
            try:
                await self.commits.all_done()
            finally:
                for lane in self.lanes:
                    await lane.teacher.close()
        if on_progress:
            on_progress(self.progress)

    async def _tick(self, on_progress: OnProgress) -> None:
        while True:
            on_progress(self.progress)
            await asyncio.sleep(TICK_S)

    async def _take_turns(self) -> None:
        for lane in self.lanes:
            if not lane.teacher.remote:
                await self._buy_from(lane)
                await lane.teacher.close()

    async def _buy_from(self, lane: _Lane) -> None:
        queue = iter(lane.chunks)

        async def work_through() -> None:
            for chunk in queue:
                await self._buy_chunk(lane, chunk)

        async with asyncio.TaskGroup() as workers:
            for _ in range(min(lane.teacher.max_in_flight, len(lane.chunks))):
                workers.create_task(work_through())

    async def _buy_chunk(self, lane: _Lane, chunk: list[Work]) -> None:
        """Buys one chunk and has it recorded, in one commit."""
        self.commits.check()
        if lane.pacer.given_up is not None:
            error = _not_asked(lane.pacer.given_up)
            self._record(lane, [ended(work, error) for work in chunk])
            return
        prompts = [work.request.prompt for work in chunk]
        problems = await lane.teacher.check(prompts, self.sampling)
        outcomes = [
            ended(work, problem)
            for work, problem in zip(chunk, problems, strict=True)
            if problem is not None
        ]
        fine = [work for work, problem in zip(chunk, problems, strict=True) if problem is None]
        for problem in problems:
            if problem is not None:
                lane.pacer.failed(problem)
        if fine:
            outcomes += await self._ask_until_it_ends(lane, fine)
        self._record(lane, outcomes)

    async def _ask_until_it_ends(self, lane: _Lane, works: list[Work]) -> list[Outcome]:
        """Asks, and asks again after passing errors, until every request of `works` has ended."""
        bill = Bill(self.budget, lane.teacher, [w.request for w in works], self.sampling)
        self.bills.update({work.key: (bill, i) for i, work in enumerate(works)})
        started_at = now_us()
        wait_s, attempts = 0.0, 0
        while True:
            await lane.pacer.ready()
            if lane.pacer.given_up is not None:
                outcomes = [ended(work, _not_asked(lane.pacer.given_up)) for work in works]
                break
            if not await bill.open():
                outcomes = [Outcome(work, "over_budget", OVER_BUDGET) for work in works]
                break
            attempts += 1
            try:
                answers = await self._ask(lane, works)
            except CallError as error:
                bill.close_failed(error)
                lane.pacer.hold_back(error)
                if error.transient and attempts <= self.settings.retries:
                    wait_s = await lane.pacer.back_off(error, wait_s)
                    continue
                lane.pacer.failed(error)
                outcomes = [ended(work, error) for work in works]
                break
            except BaseException:
                bill.close_failed(None)
                raise
            bill.close(answers)
            lane.pacer.succeeded()
            outcomes = [answered(work, a) for work, a in zip(works, answers, strict=True)]
            break
        for outcome, cost in zip(outcomes, bill.costs, strict=True):
            outcome.attempts, outcome.started_at = attempts, started_at if attempts else None
            outcome.cost_usd, outcome.price_source = cost, bill.price_source
        return outcomes

    async def _ask(self, lane: _Lane, works: list[Work]) -> list[Answer]:
        """One call, within its deadline. Raises CallError, whatever the teacher raises."""
        teacher = lane.teacher
        deadline_s = self.settings.deadline_s if teacher.remote else None
        sampling = self.sampling
        if sampling.seed is not None:
            sampling = replace(sampling, seed=sampling.seed + works[0].request.n)
        lane.progress.in_flight += len(works)
        try:
            async with asyncio.timeout(deadline_s):
                return await teacher.answer([work.request.prompt for work in works], sampling)
        except CallError:
            raise
        except TimeoutError as error:
            raise CallError(
                "deadline",
                f"no whole answer within {deadline_s} s (`generate: deadline_s`)",
                transient=True,
                charged_usd=None,
            ) from error
        except Exception as error:
            raise CallError(
                f"internal_{type(error).__name__}",
                f"teacher `{teacher.name}` raised {type(error).__name__}: {error}",
                charged_usd=None,
            ) from error
        finally:
            lane.progress.in_flight -= len(works)

    def _record(self, lane: _Lane, outcomes: list[Outcome]) -> None:
        """Hands the outcomes to the ledger; the slot is free for the next call meanwhile."""
        for outcome in outcomes:
            self.ended.add(outcome.work.key)
            self.bills.pop(outcome.work.key, None)
            lane.progress.add(outcome)
        self.commits.put(batch_of(outcomes, lane.teacher, self.context))

    def _cancel_the_rest(self) -> None:
        for lane in self.lanes:
            rest = [work for work in lane.works if work.key not in self.ended]
            if rest:
                self._record(lane, [self._cancelled(work) for work in rest])

    def _cancelled(self, work: Work) -> Outcome:
        outcome = Outcome(work, "cancelled", "the run was stopped")
        if work.key in self.bills:
            bill, position = self.bills[work.key]
            outcome.cost_usd, outcome.price_source = bill.costs[position], bill.price_source
        return outcome


def _chunks(teacher: Teacher, works: Sequence[Work], have: Set[str]) -> list[list[Work]]:
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


def _check_prices(lanes: Sequence[_Lane], settings: GenerateConfig, sampling: Sampling) -> None:
    """Raises before anything is spent that nobody bounded."""
    for lane in lanes:
        name = lane.teacher.name
        worst = lane.teacher.worst_cost_usd(next(lane.works).request.prompt, sampling)
        if worst is None and settings.on_unknown_price == "stop":
            raise UnknownPrice(
                f"teacher `{name}` has no known price: give it `price: {{input_usd_per_million: …, "
                "output_usd_per_million: …}}`, or write `generate: {on_unknown_price: allow}`."
            )
        if worst and settings.budget_usd is None and lane.teacher.budget_usd is None:
            raise NoBudget(
                f"teacher `{name}` costs money and nothing caps it: give `budget_usd:` to "
                "`generate:` or to the teacher."
            )


def _spent(ledger: Ledger, run: str, teachers: Mapping[str, Teacher]) -> dict[str, float]:
    """What this run has spent already: by name for `teachers`, under whatever name it was, else by key."""
    rows = ledger.rows(
        "SELECT t.key, sum(r.cost_usd) FROM request r JOIN teacher t ON r.teacher = t.id "
        "WHERE r.run = ? AND r.cost_usd > 0 GROUP BY t.key",
        [run],
    )
    names = {teacher.key: name for name, teacher in teachers.items()}
    return {names.get(key, key): usd for key, usd in rows}


def _not_asked(reason: CallError) -> CallError:
    message = f"not asked, since the teacher failed before: {reason}"
    return CallError(reason.error_class, message, state="failed")
