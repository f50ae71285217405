"""Buying through a provider's batch API: prepared, uploaded, started, looked after, taken in.

Each step leaves a durable row in `provider_batch` before the next begins, and what a step made is found
again by its name: killed between any two steps, a run goes on where it was, and no request is billed
twice. Batches that an earlier sitting left at the provider are taken in, whatever the recipe asks for now.
Several are under way at once. Only what failed for a passing reason is sent again, in a batch of its own.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ledger import fastjson
from ledger.keys import content_key, now_us
from router.engine.billing import scopes
from router.engine.budget import Scope
from router.engine.gate import BACKOFF_CEILING_S, BACKOFF_FLOOR_S
from router.engine.lane import OVER_BUDGET, STOPPED, Lane, Terms, as_call_error
from router.engine.loop import wait
from router.engine.parcels import Parcel
from router.engine.recording import Outcome, answered, ended
from router.engine.requests import Work
from router.teachers.batch_api import MAX_RESULT_BYTES, Batch, BatchApi
from router.teachers.errors import CallError
from router.teachers.protocol import Sampling, Teacher

MAX_REQUESTS, MAX_BYTES, MAX_BATCHES = 20_000, 90 * 2**20, 8
# A result file must be readable: so many bytes an answer, a token of it, and a log-probability.
ANSWER_BYTES, TOKEN_BYTES, LOGPROB_BYTES = 1500, 8, 60
POLL_S, POLL_CEILING_S = 2.0, 60.0
TRANSFER_S = 900.0  # longest that a file may take
AT_PROVIDER = "it stays in a batch at the provider, and the next run takes its answer in"
CALLED_OFF = "it was called off before it was sent"

Cost = tuple[tuple[Scope, ...], float]


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
        self._held: dict[str, Cost] = {}  # by request key, what is set aside for it

    async def buy(self) -> None:
        self._hold()
        under_way = {key for parcel in self._parcels for key in parcel.works}
        queue = [work for work in self.left.values() if work.key not in under_way]
        running = {asyncio.create_task(self._see_through(parcel)) for parcel in self._parcels}
        try:
            while not self.stopped and (queue or running):
                while queue and len(running) < MAX_BATCHES:
                    filled, queue = await self._fill(queue, patient=not running)
                    if filled is None:
                        break
                    running.add(asyncio.create_task(self._see_through(filled)))
                if running:
                    ended_now, running = await asyncio.wait(
                        running, return_when=asyncio.FIRST_COMPLETED
                    )
                    again = [work for task in ended_now for work in task.result()]
                    queue += [self.left[work.key] for work in again if work.key in self.left]
            for task in running:
                await task
        except CallError as error:
            if not self.stopped:
                self.give_up(error)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            self._let_go()

    def cancelled(self, work: Work) -> Outcome:
        reason = AT_PROVIDER if self._tries[work.key] else STOPPED
        return Outcome(work, "cancelled", reason)

    def _hold(self) -> None:
        """Sets aside what earlier sittings' batches may cost, by what they were asked for."""
        for parcel in self._parcels:
            for work in parcel.works.values():
                cost = self._cost(work, parcel.context.sampling)
                self.terms.budget.hold([cost])
                self._held[work.key] = cost

    def _let_go(self) -> None:
        """Nothing more is settled in this sitting: what may still be charged is taken for spent, so
        that nobody waits for it."""
        for key, cost in list(self._held.items()):
            self._settle(key, cost[1] if self._tries[key] else 0.0)

    def _settle(self, key: str, spent_usd: float) -> None:
        cost = self._held.pop(key)
        self.terms.budget.settle([cost], [(cost[0], spent_usd)])

    async def _fill(
        self, queue: Sequence[Work], *, patient: bool
    ) -> tuple[Parcel | None, list[Work]]:
        """A parcel of what may be paid for now, and what is left for later ones.

        `patient` waits for other lanes' calls, where nothing can be paid for before they end.
        """
        works: dict[str, Work] = {}
        later: list[Work] = []
        size, sampling = 0, self.terms.sampling
        most = min(MAX_REQUESTS, max(1, MAX_RESULT_BYTES // _result_bytes(sampling)))
        problems = await self.teacher.check([w.request.prompt for w in queue], sampling)
        for work, problem in zip(queue, problems, strict=True):
            if problem is not None:
                self.record([ended(work, problem)])
                continue
            size += len(fastjson.dumps(self._line(work, sampling)))
            if works and (len(works) >= most or size > MAX_BYTES):
                later.append(work)
                continue
            fits = self.terms.budget.take([self._cost(work, sampling)])
            if fits:
                works[work.key] = work
            elif fits is None:
                later.append(work)
            else:
                self.record([Outcome(work, "over_budget", OVER_BUDGET)])
        if not works and later and patient:
            work = later.pop(0)
            if await self.terms.budget.reserve([self._cost(work, sampling)]):
                works[work.key] = work
            elif not self.stopped:
                self.record([Outcome(work, "over_budget", OVER_BUDGET)])
        if not works:
            return None, later
        self._held |= {key: self._cost(work, sampling) for key, work in works.items()}
        rounds = max(self._tries[key] for key in works)
        context = self.terms.commits.context
        key = content_key([self.teacher.key, sorted(works), rounds, context.queued_at])
        parcel = Parcel(key, works, context)
        await self._note(parcel)
        return parcel, later

    async def _see_through(self, parcel: Parcel) -> list[Work]:
        """Takes a parcel from where it is to its end; gives what may be sent again."""
        self.progress.in_flight += len(parcel.works)
        try:
            if parcel.state == "prepared":
                parcel.file = await self._calmly(self._upload, parcel, within_s=TRANSFER_S)
                parcel.state = "uploaded"
                await self._note(parcel)
            if parcel.state == "uploaded":
                parcel.batch = (await self._calmly(self._start, parcel)).id
                parcel.state = "started"
                await self._note(parcel)
            self._tries.update(parcel.works.keys())
            return await self._take_in(parcel)
        finally:
            self.progress.in_flight -= len(parcel.works)

    async def _upload(self, parcel: Parcel) -> str:
        found = await self._api.find_file(parcel.name)
        if found is not None:
            return found
        lines = [self._line(work, parcel.context.sampling) for work in parcel.works.values()]
        return await self._api.upload(parcel.name, lines)

    def _line(self, work: Work, sampling: Sampling) -> dict[str, Any]:
        request = work.request
        return self._api.line(work.key, request.prompt, sampling.nth(request.n))

    async def _start(self, parcel: Parcel) -> Batch:
        assert parcel.file is not None
        found = await self._api.find(parcel.file)
        return found or await self._api.create(parcel.file, parcel.key)

    async def _take_in(self, parcel: Parcel) -> list[Work]:
        """Looks after a started batch, and records its results as they come."""
        assert parcel.batch is not None
        again = list[Work]()
        wait_s, read = POLL_S, 0  # results that were there when the files were last read
        try:
            while True:
                batch = await self._calmly(self._api.look, parcel.batch)
                if batch.is_over or batch.answered + batch.failed > read:
                    read = batch.answered + batch.failed
                    for file in filter(None, (batch.output_file, batch.error_file)):
                        again += await self._record_file(parcel, file)
                    wait_s = POLL_S
                if batch.is_over:
                    break
                if self.stopped:
                    return []
                await wait(self._stop, wait_s)
                wait_s = min(POLL_CEILING_S, wait_s * 1.5)
        except CallError as error:
            if error.error_class != "not_found":
                raise
            self._record_gone(parcel)
        else:
            again += self._record_silent(parcel, batch)
        parcel.state = "over"
        await self._note(parcel)
        return again

    async def _record_file(self, parcel: Parcel, file: str) -> list[Work]:
        """Records the lines of a result file that are new; gives what may be sent again."""
        again = []
        for line in await self._calmly(self._api.lines, file, within_s=TRANSFER_S):
            work = self._pop(parcel, line.key)
            if work is None:
                continue
            outcome = self._outcome(parcel, work, line.payload, line.error)
            if outcome is None:
                again.append(work)
            elif self._is_cut_short(parcel, outcome):
                self.terms.commits.put([outcome], self.teacher, parcel.context)
                again.append(work)
            else:
                self.record([outcome], parcel.context)
        return again

    def _pop(self, parcel: Parcel, key: str) -> Work | None:
        work = parcel.works.pop(key, None)
        self.progress.in_flight -= work is not None
        return work

    def _is_cut_short(self, parcel: Parcel, outcome: Outcome) -> bool:
        """Whether an earlier sitting's answer was cut off by a cap that has been raised since."""
        cap, raised = parcel.context.sampling.max_tokens, self.terms.sampling.max_tokens
        wanted = outcome.work.key in self.left
        return outcome.state == "truncated" and cap < raised and wanted

    def _outcome(
        self, parcel: Parcel, work: Work, payload: Any, error: CallError | None
    ) -> Outcome | None:
        """How a request ended, its reservation settled; None where it may be sent again."""
        worst = self._held[work.key][1]
        try:
            if error is not None:
                raise error
            answer = self._api.read(payload, work.request.prompt, parcel.context.sampling)
        except Exception as raised:
            failed = as_call_error(self.teacher, raised)
            charged = worst if failed.charged_usd is None else failed.charged_usd
            self._settle(work.key, charged)
            if failed.transient and self._may_go_again(work):
                return None
            outcome = ended(work, failed)
            outcome.cost_usd = charged
        else:
            self._settle(work.key, answer.cost_usd or 0.0)
            outcome = answered(work, answer)
            outcome.cost_usd, outcome.price_source = answer.cost_usd, answer.price_source
        outcome.attempts, outcome.started_at = self._tries[work.key], parcel.started_at
        return outcome

    def _record_silent(self, parcel: Parcel, batch: Batch) -> list[Work]:
        """Ends the requests that a batch, now over, says nothing of; gives what may be sent again."""
        again = []
        for key in list(parcel.works):
            work = self._pop(parcel, key)
            assert work is not None
            self._settle(key, 0.0)
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
            outcome.attempts, outcome.started_at = self._tries[key], parcel.started_at
            self.record([outcome], parcel.context)
        return again

    def _record_gone(self, parcel: Parcel) -> None:
        """Ends the requests of a batch that its provider does not know any more."""
        told = (
            f"the provider does not know batch {parcel.batch} or its results any more (deleted, kept too "
            "long, or another account's): what it answered is lost, and the next run asks again"
        )
        for key in list(parcel.works):
            work = self._pop(parcel, key)
            assert work is not None
            outcome = ended(work, CallError("batch_gone", told))
            outcome.cost_usd, outcome.price_source = self._held[key][1], "worst_case"
            self._settle(key, self._held[key][1])
            outcome.attempts, outcome.started_at = self._tries[key], parcel.started_at
            self.record([outcome], parcel.context)

    def _may_go_again(self, work: Work) -> bool:
        wanted = work.key in self.left and not self.stopped
        return wanted and self._tries[work.key] <= self.terms.settings.retries

    async def _calmly(self, step: Any, *arguments: Any, within_s: float = 0.0) -> Any:
        """Makes one call of the batch API, again after passing errors, for as long as patience lasts."""
        loop = asyncio.get_running_loop()
        deadline_s = max(within_s, self.terms.settings.deadline_s)
        until, wait_s = loop.time() + self.terms.settings.patience_s, BACKOFF_FLOOR_S
        while True:
            try:
                async with asyncio.timeout(deadline_s):
                    return await step(*arguments)
            except TimeoutError as error:
                told = f"the batch API did not answer within {deadline_s:.0f} s"
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

    def _cost(self, work: Work, sampling: Sampling) -> Cost:
        worst = self.teacher.worst_cost_usd(work.request.prompt, sampling) or 0.0
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
            await self._find(parcel)
            if parcel.batch is not None:
                self._tries.update(parcel.works.keys())
                await self._calmly(self._cancel, parcel.batch)
                await self._take_in(parcel)
                continue
            for key in list(parcel.works):
                self._settle(key, 0.0)
                work = parcel.works.pop(key)
                self.record([Outcome(work, "cancelled", CALLED_OFF)], parcel.context)
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
        try:
            if not (await self._api.look(batch)).is_over:
                await self._api.cancel(batch)
        except CallError as error:  # `_take_in` sees to a batch that is not there any more
            if error.error_class != "not_found":
                raise

    def _may_go_again(self, work: Work) -> bool:
        return False


def _result_bytes(sampling: Sampling) -> int:
    """About how much an answer takes in a result file, at its longest."""
    token = TOKEN_BYTES + LOGPROB_BYTES * sampling.top_logprobs
    return ANSWER_BYTES + sampling.max_tokens * token
