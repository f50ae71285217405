"""Buying answers: each request once, bounded per teacher, in the ledger as they arrive.

    with ledger.writing("run"):
        purchase = buy(requests, teachers, ledger, sampling, settings, stage="generate", run="r")

Servers are asked side by side, each with its own limits; teachers on this machine take turns where they
do not fit it together. A local batch is fixed by the order of the requests and committed as a whole.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from ledger.errors import TutelageError
from ledger.keys import now_us
from ledger.store import Ledger
from router.engine.batches import BatchLane, CallingOff
from router.engine.budget import RUN, Budget, NoBudget, Scope, UnknownPrice
from router.engine.calls import CallLane
from router.engine.config import GenerateConfig
from router.engine.lane import Lane, Terms, cut_into_chunks
from router.engine.loop import run_to_end, wait
from router.engine.parcels import Parcel, open_parcels, refuse_open
from router.engine.progress import Progress, Purchase, summary
from router.engine.recording import Commits, Context
from router.engine.requests import Request, Work, finished, keyed
from router.engine.room import Room, in_turn, needs_room
from router.teachers.protocol import Sampling, Teacher, register

OnProgress = Callable[[Progress], None]
TICK_S = 0.2
FOLD_S = 5.0  # between two folds while a purchase goes on


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
    returns. Ctrl-C lets the calls in flight end, a second one does not; either way what did not end
    is recorded as `cancelled` and KeyboardInterrupt is raised. Raises NoBudget, UnknownPrice or
    TeacherUnavailable before anything is spent.
    """
    ledger.fold()  # what is not folded could not be found, and would be bought again
    asked = {name: teachers[name] for name in dict.fromkeys(r.teacher for r in requests)}
    assert all(name == teacher.name for name, teacher in asked.items())
    works = keyed(requests, asked, sampling)
    with ledger.reading():
        have = finished(ledger, asked.values())
        spent = _spent(ledger, run, asked)
        parcels = {
            name: open_parcels(ledger, teacher, have)
            for name, teacher in asked.items()
            if teacher.by_batch
        }
        refuse_open(ledger, asked.values())
        fit = {key for key, end in have.items() if end.serves(sampling)}
        chunks = {name: cut_into_chunks(teacher, works, fit) for name, teacher in asked.items()}
        budget = Budget(_caps(asked, settings), spent)
        commits = Commits(ledger, Context(sampling, stage, run, now_us()))
        terms = Terms(sampling, settings, budget, commits)
        lanes = list(_lanes(asked, chunks, parcels, terms))
        _check_prices(lanes, settings, sampling)
        _admit(lanes, ledger)
    reused = Counter(have[work.key].state for work in works if work.key in fit)
    return _buy_from(lanes, ledger, commits, reused, on_progress)


def call_off(
    teachers: Mapping[str, Teacher],
    ledger: Ledger,
    sampling: Sampling,
    settings: GenerateConfig,
    *,
    run: str,
    on_progress: OnProgress | None = None,
) -> Purchase:
    """Cancels the batches that teachers' providers have, and takes in what they answered by then.

    Call it inside `ledger.writing()`. Each request ends as it did at the provider, or `cancelled`.
    Raises TeacherUnavailable, or CallError where a provider cannot be asked.
    """
    ledger.fold()
    commits = Commits(ledger, Context(sampling, "generate", run, now_us()))
    terms = Terms(sampling, settings, Budget({}, {}), commits)
    with ledger.reading():
        parcels = {teacher: open_parcels(ledger, teacher, {}) for teacher in teachers.values()}
        lanes = [CallingOff(teacher, terms, found) for teacher, found in parcels.items() if found]
        _admit(lanes, ledger)
    return _buy_from(lanes, ledger, commits, Counter(), on_progress)


def _admit(lanes: Sequence[Lane], ledger: Ledger) -> None:
    """Registers the teachers that will be asked, once each of them can be."""
    for lane in lanes:
        lane.teacher.require_ready()
    for lane in lanes:
        register(ledger, lane.teacher)


def _buy_from(
    lanes: Sequence[Lane],
    ledger: Ledger,
    commits: Commits,
    reused: Counter[str],
    on_progress: OnProgress | None,
) -> Purchase:
    progress = Progress({lane.teacher.name: lane.progress for lane in lanes}, reused.total())
    if lanes:
        buyer = _Buyer(lanes, ledger, commits, progress, on_progress)
        try:
            run_to_end(buyer.buy_all, buyer.drain, buyer.abort)
        finally:
            ledger.fold()
    return summary(progress, reused)


def _lanes(
    teachers: Mapping[str, Teacher],
    chunks: Mapping[str, list[list[Work]]],
    parcels: Mapping[str, list[Parcel]],
    terms: Terms,
) -> Iterator[Lane]:
    """One for each teacher that has something to do."""
    for name, teacher in teachers.items():
        if teacher.by_batch and (chunks[name] or parcels[name]):
            works = [work for chunk in chunks[name] for work in chunk]
            yield BatchLane(teacher, works, terms, parcels[name])
        elif chunks[name]:
            yield CallLane(teacher, chunks[name], terms)


class _Buyer:
    """One purchase under way."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        ledger: Ledger,
        commits: Commits,
        progress: Progress,
        on_progress: OnProgress | None,
    ) -> None:
        self.lanes, self.ledger, self.commits = lanes, ledger, commits
        self.progress, self.on_progress = progress, on_progress
        self.buying: asyncio.Task[None] | None = None

    async def buy_all(self) -> None:
        """Buys from all teachers; whatever is left when it is cut short ends `cancelled`."""
        over = asyncio.Event()
        self.progress.began = time.monotonic()
        beside = [asyncio.create_task(self._fold_now_and_then(over))]
        if self.on_progress:
            beside.append(asyncio.create_task(self._tick(self.on_progress, over)))
        self.buying = asyncio.create_task(self._buy_side_by_side())
        try:
            # Only the buying can be aborted: what came of it is recorded in any case.
            await asyncio.wait([self.buying])
            if not self.buying.cancelled():
                self.buying.result()
        finally:
            over.set()
            for lane in self.lanes:
                lane.refresh()
                lane.cancel_the_rest()
            try:
                await self.commits.all_done()
                self.progress.ended = time.monotonic()
                await asyncio.gather(*beside)
            finally:
                for lane in self.lanes:
                    await lane.teacher.close()

    async def _buy_side_by_side(self) -> None:
        room = Room()
        elsewhere = [lane for lane in self.lanes if not needs_room(lane.teacher)]
        here = {lane.teacher: lane for lane in self.lanes if needs_room(lane.teacher)}
        async with asyncio.TaskGroup() as group:
            for lane in elsewhere:
                group.create_task(lane.buy())
            for teacher in in_turn(list(here)):
                group.create_task(self._buy_in_turn(here[teacher], room))

    async def _buy_in_turn(self, lane: Lane, room: Room) -> None:
        async with room.turn(lane.teacher):
            if await lane.start():
                await lane.buy()
            await lane.teacher.close()

    def abort(self) -> None:
        """Waits for no call any more."""
        if self.buying is not None:
            self.buying.cancel()

    def drain(self) -> None:
        """Starts no call any more, and lets those in flight end."""
        self.progress.draining = True
        for lane in self.lanes:
            lane.stop()

    async def _tick(self, on_progress: OnProgress, over: asyncio.Event) -> None:
        while not over.is_set():
            for lane in self.lanes:
                lane.refresh()
            on_progress(self.progress)
            await wait(over, TICK_S)
        on_progress(self.progress)

    async def _fold_now_and_then(self, over: asyncio.Event) -> None:
        """Keeps the inbox small, and lets others see how far the purchase is."""
        while not await wait(over, FOLD_S):
            try:
                await asyncio.to_thread(self.ledger.fold)
            except TutelageError as error:
                self.commits.fail(error)
                return


def _check_prices(lanes: Sequence[Lane], settings: GenerateConfig, sampling: Sampling) -> None:
    """Raises before anything is spent that nobody bounded."""
    for lane in lanes:
        if not lane.left:
            continue  # only batches that an earlier sitting paid for
        name = lane.teacher.name
        worst = lane.teacher.worst_cost_usd(lane.first.request.prompt, sampling)
        if worst is None and settings.on_unknown_price == "stop":
            raise UnknownPrice(
                f"teacher `{name}` has no known price: give it `price: {{input_usd_per_million: …, "
                "output_usd_per_million: …}`, or write `generate: {on_unknown_price: allow}`."
            )
        if worst and settings.budget_usd is None and lane.teacher.budget_usd is None:
            raise NoBudget(
                f"teacher `{name}` costs money and nothing caps it: give `budget_usd:` to "
                "`generate:` or to the teacher."
            )


def _caps(teachers: Mapping[str, Teacher], settings: GenerateConfig) -> dict[Scope, float | None]:
    """The caps of the run, of its teachers and of its tasks."""
    caps: dict[Scope, float | None] = {RUN: settings.budget_usd}
    caps |= {("teacher", name): teacher.budget_usd for name, teacher in teachers.items()}
    return caps | {("task", task): usd for task, usd in settings.task_budget_usd.items()}


def _spent(ledger: Ledger, run: str, teachers: Mapping[str, Teacher]) -> dict[Scope, float]:
    """What this run has spent already, in all, by teacher (whatever it was called) and by task."""
    rows = ledger.rows(
        "SELECT t.key, r.task, sum(r.cost_usd) FROM request r JOIN teacher t ON r.teacher = t.id "
        "WHERE r.run = ? AND r.cost_usd > 0 GROUP BY t.key, r.task",
        [run],
    )
    names = {teacher.key: name for name, teacher in teachers.items()}
    spent: Counter[Scope] = Counter()
    for key, task, usd in rows:
        for scope in (RUN, ("teacher", names.get(key, key)), ("task", task or "")):
            spent[scope] += usd
    return dict(spent)
