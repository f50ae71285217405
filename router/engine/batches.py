"""Buying through a provider's batch API: prepared, uploaded, started, looked after, taken in.

Each step leaves a durable row in `provider_batch` before the next begins, and what a step made is found
again by its name: killed between any two steps, a run goes on where it was, and no request is billed
twice. Batches that an earlier sitting left at the provider are taken in first, whatever the recipe asks
for now. Only what failed for a passing reason is sent again, in a batch of its own.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ledger.keys import content_key, now_us
from router.engine.billing import scopes
from router.engine.budget import Scope
from router.engine.gate import BACKOFF_CEILING_S, BACKOFF_FLOOR_S
from router.engine.lane import OVER_BUDGET, STOPPED, Lane, Terms
from router.engine.loop import wait
from router.engine.parcels import Parcel
from router.engine.recording import Outcome, answered, ended
from router.engine.requests import Work
from router.teachers.batch_api import Batch, BatchApi
from router.teachers.errors import CallError
from router.teachers.protocol import Teacher

MAX_REQUESTS, MAX_BYTES = 20_000, 90 * 2**20
POLL_S, POLL_CEILING_S = 2.0, 60.0
AT_PROVIDER = "it stays in a batch at the provider, and the next run takes its answer in"


class BatchLane(Lane):
    """Asks a teacher by its batch API."""

    def __init__(
        self, teacher: Teacher, works: Sequence[Work], terms: Terms, parcels: Sequence[Parcel]
    ) -> None:
        """`parcels` are what earlier sittings left at the provider."""
        super().__init__(teacher, works, terms)
        assert teacher.batch_api is not None
        self._api: BatchApi = teacher.batch_api
        self._parcels = list(parcels)
        self._tries: Counter[str] = Counter()  # by request key, how often it was sent

    async def buy(self) -> None:
        under_way = self._hold()
        try:
            for parcel in self._parcels:
                await self._see_through(parcel)
            queue = [work for work in self.left.values() if work.key not in under_way]
            queue += [work for work in self.left.values() if work.key in under_way]
            while queue and not self.stopped:
                filled, queue = await self._fill(queue)
                if filled is not None:
                    queue += await self._see_through(filled)
        except CallError as error:
            self.give_up(error)

    def _hold(self) -> set[str]:
        """Sets aside what earlier sittings' batches may cost; gives their requests' keys."""
        under_way = {work.key: work for p in self._parcels for work in p.works.values()}
        self.terms.budget.hold(map(self._cost, under_way.values()))
        return set(under_way)

    def cancelled(self, work: Work) -> Outcome:
        reason = AT_PROVIDER if self._tries[work.key] else STOPPED
        return Outcome(work, "cancelled", reason)

    async def _fill(self, queue: Sequence[Work]) -> tuple[Parcel | None, list[Work]]:
        """A parcel of what may be paid for now, and what is left for later ones."""
        works: dict[str, Work] = {}
        later: list[Work] = []
        size = 0
        sampling = self.terms.sampling
        problems = await self.teacher.check([w.request.prompt for w in queue], sampling)
        for work, problem in zip(queue, problems, strict=True):
            if problem is not None:
                self.record([ended(work, problem)])
                continue
            line = self._api.line(work.key, work.request.prompt, sampling)
            size += len(json.dumps(line, ensure_ascii=False).encode("utf-8"))
            if works and (len(works) >= MAX_REQUESTS or size > MAX_BYTES):
                later.append(work)
                continue
            fits = self.terms.budget.take([self._cost(work)])
            if fits:
                works[work.key] = work
            elif fits is None:
                later.append(work)
            else:
                self.record([Outcome(work, "over_budget", OVER_BUDGET)])
        if not works and later:  # other lanes' calls in flight may give enough back
            work = later.pop(0)
            if await self.terms.budget.reserve([self._cost(work)]):
                works[work.key] = work
            else:
                self.record([Outcome(work, "over_budget", OVER_BUDGET)])
        if not works:
            return None, later
        rounds = max(self._tries[key] for key in works)
        context = self.terms.commits.context
        key = content_key([self.teacher.key, sorted(works), rounds, context.queued_at])
        parcel = Parcel(key, works, context)
        await self._note(parcel)
        return parcel, later

    async def _see_through(self, parcel: Parcel) -> list[Work]:
        """Takes a parcel from where it is to its end; gives what may be sent again."""
        self._tries.update(parcel.works.keys())
        self.progress.in_flight += len(parcel.works)
        try:
            if parcel.state == "prepared":
                parcel.file = await self._calmly(self._upload, parcel)
                parcel.state = "uploaded"
                await self._note(parcel)
            if parcel.state == "uploaded":
                parcel.batch = (await self._calmly(self._start, parcel)).id
                parcel.state = "started"
                await self._note(parcel)
            return await self._take_in(parcel)
        finally:
            self.progress.in_flight -= len(parcel.works)

    async def _upload(self, parcel: Parcel) -> str:
        found = await self._api.find_file(parcel.name)
        if found is not None:
            return found
        sampling = parcel.context.sampling
        works = parcel.works.values()
        lines = [self._api.line(work.key, work.request.prompt, sampling) for work in works]
        return await self._api.upload(parcel.name, lines)

    async def _start(self, parcel: Parcel) -> Batch:
        assert parcel.file is not None
        found = await self._api.find(parcel.file)
        return found or await self._api.create(parcel.file, parcel.key)

    async def _take_in(self, parcel: Parcel) -> list[Work]:
        """Looks after a started batch, and records its results as they come."""
        assert parcel.batch is not None
        open_, again = dict(parcel.works), list[Work]()
        wait_s, read = POLL_S, 0  # results that were there when the files were last read
        while True:
            batch = await self._calmly(self._api.look, parcel.batch)
            if batch.is_over or batch.answered + batch.failed > read:
                read = batch.answered + batch.failed
                for file in filter(None, (batch.output_file, batch.error_file)):
                    again += await self._record_file(parcel, file, open_)
                wait_s = POLL_S
            if batch.is_over:
                break
            if self.stopped:
                return []
            await wait(self._stop, wait_s)
            wait_s = min(POLL_CEILING_S, wait_s * 1.5)
        again += self._record_silent(parcel, batch, list(open_.values()))
        parcel.state = "over"
        await self._note(parcel)
        return again

    async def _record_file(self, parcel: Parcel, file: str, open_: dict[str, Work]) -> list[Work]:
        """Records the lines of a result file that are new; gives what may be sent again."""
        again, outcomes = [], []
        for line in await self._calmly(self._api.lines, file):
            work = open_.pop(line.key, None)
            if work is None:
                continue
            outcome = self._outcome(parcel, work, line.payload, line.error)
            if outcome is None:
                again.append(work)
            else:
                outcomes.append(outcome)
        if outcomes:
            self.record(outcomes, parcel.context)
        return again

    def _outcome(
        self, parcel: Parcel, work: Work, payload: Any, error: CallError | None
    ) -> Outcome | None:
        """How a request ended, its reservation settled; None where it may be sent again."""
        cost = self._cost(work)
        try:
            if error is not None:
                raise error
            answer = self._api.read(payload, work.request.prompt, parcel.context.sampling)
        except CallError as raised:
            charged = cost[1] if raised.charged_usd is None else raised.charged_usd
            self.terms.budget.settle([cost], [(cost[0], charged)])
            if raised.transient and self._may_go_again(work):
                return None
            outcome = ended(work, raised)
            outcome.cost_usd = charged
        else:
            self.terms.budget.settle([cost], [(cost[0], answer.cost_usd or 0.0)])
            outcome = answered(work, answer)
            outcome.cost_usd, outcome.price_source = answer.cost_usd, answer.price_source
        outcome.attempts, outcome.started_at = self._tries[work.key], parcel.started_at
        return outcome

    def _record_silent(self, parcel: Parcel, batch: Batch, works: Sequence[Work]) -> list[Work]:
        """Ends the requests that a batch, now over, says nothing of; gives what may be sent again."""
        again, outcomes = [], []
        for work in works:
            cost = self._cost(work)
            self.terms.budget.settle([cost], [])
            if batch.state == "cancelled":
                outcome = Outcome(work, "cancelled", "its batch was cancelled at the provider")
            elif batch.state == "failed":
                told = f"the provider refused the batch: {batch.problem or 'it says no more'}"
                outcome = ended(work, CallError("batch_refused", told))
            elif self._may_go_again(work):
                again.append(work)
                continue
            else:
                told = f"batch {batch.id} ended ({batch.state}) without a line for it"
                outcome = ended(work, CallError("expired", told))
            outcome.attempts, outcome.started_at = self._tries[work.key], parcel.started_at
            outcomes.append(outcome)
        if outcomes:
            self.record(outcomes, parcel.context)
        return again

    def _may_go_again(self, work: Work) -> bool:
        wanted = work.key in self.left and not self.stopped
        return wanted and self._tries[work.key] <= self.terms.settings.retries

    async def _calmly(self, step: Any, *arguments: Any) -> Any:
        """Makes one call of the batch API, again after passing errors, for as long as patience lasts."""
        loop = asyncio.get_running_loop()
        until, wait_s = loop.time() + self.terms.settings.patience_s, BACKOFF_FLOOR_S
        while True:
            try:
                async with asyncio.timeout(self.terms.settings.deadline_s):
                    return await step(*arguments)
            except TimeoutError as error:
                told = f"the batch API did not answer within {self.terms.settings.deadline_s} s"
                failed = CallError("deadline", told, transient=True)
                failed.__cause__ = error
            except CallError as error:
                failed = error
            pause_s = failed.retry_after_s or wait_s
            if not failed.transient or loop.time() > until or self.stopped:
                raise failed
            until += failed.retry_after_s or 0.0
            await wait(self._stop, pause_s)
            wait_s = min(BACKOFF_CEILING_S, wait_s * 2)

    def _cost(self, work: Work) -> tuple[tuple[Scope, ...], float]:
        worst = self.teacher.worst_cost_usd(work.request.prompt, self.terms.sampling) or 0.0
        return scopes(self.teacher, work.request), worst

    async def _note(self, parcel: Parcel) -> None:
        """Makes a parcel's state durable, and with it every outcome that was recorded before."""
        context, works = parcel.context, None
        if parcel.state == "prepared":
            works = json.dumps(
                [
                    [w.key, w.request.prompt.key, w.request.n, w.request.task]
                    for w in parcel.works.values()
                ]
            )
        row = {
            "key": parcel.key,
            "teacher": self.teacher.key,
            "state": parcel.state,
            "file": parcel.file,
            "provider_id": parcel.batch,
            "requests": works,
            "sampling": json.dumps(asdict(context.sampling)),
            "stage": context.stage,
            "run": context.run,
            "recorded_at": now_us(),
        }
        await self.terms.commits.now("provider_batch", row)


class CallingOff(BatchLane):
    """Calls a teacher's batches off at its provider, and takes in what was answered by then."""

    def __init__(self, teacher: Teacher, terms: Terms, parcels: Sequence[Parcel]) -> None:
        works = [work for parcel in parcels for work in parcel.works.values()]
        super().__init__(teacher, works, terms, parcels)

    async def buy(self) -> None:
        self._hold()
        for parcel in self._parcels:
            self._tries.update(parcel.works.keys())
            await self._find(parcel)
            if parcel.batch is not None:
                await self._calmly(self._cancel, parcel.batch)
                await self._take_in(parcel)
            else:
                parcel.state = "over"
                await self._note(parcel)

    async def _find(self, parcel: Parcel) -> None:
        """Looks for what the provider made without our having noted it."""
        if parcel.file is None:
            parcel.file = await self._calmly(self._api.find_file, parcel.name)
        if parcel.file is not None and parcel.batch is None:
            found = await self._calmly(self._api.find, parcel.file)
            parcel.batch = found.id if found else None

    async def _cancel(self, batch: str) -> None:
        if not (await self._api.look(batch)).is_over:
            await self._api.cancel(batch)

    def _may_go_again(self, work: Work) -> bool:
        return False
