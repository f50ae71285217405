"""Buying call by call: workers take chunks in order, wait at the gate, ask, and ask again.

Every outcome goes to the ledger without anybody waiting for it.
"""

import asyncio
from collections.abc import Sequence

from ledger.keys import now_us
from router.engine.billing import Bill
from router.engine.gate import Gate, Pace
from router.engine.lane import OVER_BUDGET, STOPPED, Lane, Terms, as_call_error
from router.engine.recording import Context, Outcome, answered, ended
from router.engine.requests import Work
from router.teachers.errors import CallError
from router.teachers.protocol import Answer, Teacher

# A request that is refused for load while others are answered is too much by itself.
REFUSALS = 20


class CallLane(Lane):
    """Asks a teacher, as many prompts in a call as its batch size."""

    def __init__(self, teacher: Teacher, chunks: list[list[Work]], terms: Terms) -> None:
        super().__init__(teacher, [work for chunk in chunks for work in chunk], terms)
        self._chunks = iter(chunks)
        self._workers = min(teacher.max_in_flight, len(chunks))
        self._bills: dict[str, tuple[Bill, int]] = {}  # by request key, of what is under way
        self.gate = Gate(
            Pace(
                start=teacher.start_in_flight,
                ceiling=teacher.max_in_flight,
                rpm=teacher.rpm,
                tpm=teacher.tpm,
                patience_s=terms.settings.patience_s,
            )
        )

    async def buy(self) -> None:
        """Buys until every request has ended, or `stop`."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(self._workers):
                workers.create_task(self._work())

    def stop(self) -> None:
        super().stop()
        self.gate.stop()

    def refresh(self) -> None:
        super().refresh()
        self.progress.held_s = self.gate.held_s
        if self.gate.given_up is not None:
            self.progress.paused = str(self.gate.given_up)

    def cancelled(self, work: Work) -> Outcome:
        outcome = super().cancelled(work)
        if work.key in self._bills:
            bill, position = self._bills[work.key]
            outcome.cost_usd, outcome.price_source = bill.costs[position], bill.price_source
        return outcome

    async def _work(self) -> None:
        for chunk in self._chunks:
            if self.stopped:
                return
            await self._buy_chunk(chunk)

    async def _buy_chunk(self, chunk: list[Work]) -> None:
        """Buys one chunk and has it recorded, in one commit."""
        self.terms.commits.check()
        if self.gate.given_up is not None:
            error = not_asked(self.gate.given_up)
            self.record([ended(work, error) for work in chunk])
            return
        prompts = [work.request.prompt for work in chunk]
        problems = await self.teacher.check(prompts, self.terms.sampling)
        pairs = list(zip(chunk, problems, strict=True))
        outcomes = [ended(work, problem) for work, problem in pairs if problem is not None]
        fine = [work for work, problem in pairs if problem is None]
        if fine:
            outcomes += await self._ask_until_it_ends(fine)
        self.record(outcomes)

    async def _ask_until_it_ends(self, works: list[Work]) -> list[Outcome]:
        """Asks, and asks again after passing errors, until every request of `works` has ended."""
        terms, gate = self.terms, self.gate
        bill = Bill(terms.budget, self.teacher, [work.request for work in works], terms.sampling)
        self._bills.update((work.key, (bill, i)) for i, work in enumerate(works))
        size = sum(self.teacher.size(work.request.prompt, terms.sampling) for work in works)
        started_at: int | None = None
        wait_s, calls, failures, refusals = 0.0, 0, 0, 0
        while True:
            if not await bill.open():
                state, why = (
                    ("cancelled", STOPPED) if self.stopped else ("over_budget", OVER_BUDGET)
                )
                outcomes = [Outcome(work, state, why) for work in works]
                break
            ticket = await gate.enter(size)
            if ticket is None:
                bill.cancel()
                outcomes = [self._not_sent(work) for work in works]
                break
            calls += 1
            started_at = started_at or now_us()
            try:
                answers = await self._ask(works)
            except CallError as error:
                bill.close_failed(error)
                gate.failed(ticket, error)
                refused = error.error_class == "rate_limited" or error.retry_after_s is not None
                refusals, failures = refusals + refused, failures + (not refused)
                again = failures <= terms.settings.retries and refusals < REFUSALS
                if error.transient and again and not self.stopped:
                    if not refused:
                        wait_s = gate.backoff_s(wait_s)
                        await asyncio.sleep(wait_s)
                    continue
                outcomes = [ended(work, error) for work in works]
                break
            except BaseException:
                bill.close_failed(None)
                gate.leave(ticket)
                raise
            bill.close(answers)
            gate.succeeded(ticket, sum(map(_tokens, answers)), answers[-1].allowance)
            outcomes = [answered(work, a) for work, a in zip(works, answers, strict=True)]
            break
        for outcome, cost in zip(outcomes, bill.costs, strict=True):
            outcome.attempts, outcome.started_at = calls, started_at
            outcome.cost_usd, outcome.price_source = cost, bill.price_source
        return outcomes

    async def _ask(self, works: list[Work]) -> list[Answer]:
        """One call, within its deadline. Raises CallError, whatever the teacher raises."""
        teacher = self.teacher
        deadline_s = self.terms.settings.deadline_s if teacher.remote else None
        sampling = self.terms.sampling.nth(works[0].request.n)
        self.progress.in_flight += len(works)
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
            raise as_call_error(teacher, error) from error
        finally:
            self.progress.in_flight -= len(works)

    def record(self, outcomes: Sequence[Outcome], context: Context | None = None) -> None:
        for outcome in outcomes:
            self._bills.pop(outcome.work.key, None)
        super().record(outcomes, context)

    def _not_sent(self, work: Work) -> Outcome:
        if self.gate.given_up is not None:
            return ended(work, not_asked(self.gate.given_up))
        return Outcome(work, "cancelled", STOPPED)


def not_asked(reason: CallError) -> CallError:
    """The error of a request to a teacher that was given up for `reason`."""
    message = f"not asked, since the teacher failed before: {reason}"
    return CallError(reason.error_class, message)


def _tokens(answer: Answer) -> int:
    return (answer.prompt_tokens or 0) + (answer.completion_tokens or 0)
