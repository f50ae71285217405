"""Outcomes: how each request ended, and the ledger rows that say so.

An answer's text is stored exactly, NUL, ESC and bidi marks included. Text with a lone surrogate
(half of a character) is not Unicode and no ledger can hold it: such a request ends `invalid`, class
`not_unicode`, without a sample.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ledger.keys import now_us, sample_key, text_hash
from ledger.store import Ledger
from ledger.structure import answer_problem
from router.engine.requests import Work
from router.teachers.errors import CallError
from router.teachers.protocol import STATE_OF_FINISH, Answer, Sampling, Teacher

Row = dict[str, Any]
MAX_REASON = 500
GROUP_S = 0.02


@dataclass(slots=True)
class Outcome:
    """The end of one request, with all that its attempts cost."""

    work: Work
    state: str
    reason: str = ""
    error_class: str | None = None
    answer: Answer | None = None
    attempts: int = 0
    started_at: int | None = None
    cost_usd: float | None = 0.0
    price_source: str | None = None


@dataclass(frozen=True)
class Context:
    """What all rows of one purchase share."""

    sampling: Sampling
    stage: str
    run: str
    queued_at: int

    @cached_property
    def sampling_json(self) -> str:
        """What of the sampling is in a request's key."""
        return json.dumps(self.sampling.key_fields, sort_keys=True)


class Commits:
    """Puts outcomes into the ledger without making the caller wait, in groups of 20 ms.

    A group costs one encoding and one sync, however many outcomes it has. Commits are not cancelled
    when the purchase is: what arrived is kept.
    """

    def __init__(self, ledger: Ledger, context: Context) -> None:
        self._ledger, self.context = ledger, context
        self._group: dict[str, list[Row]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pending: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None

    def put(
        self, outcomes: Sequence[Outcome], teacher: Teacher, context: Context | None = None
    ) -> None:
        """Adds outcomes to the group that is gathered now; all of them go into one commit.

        `context` is theirs where it is not the purchase's.
        """
        for table, rows in batch_of(outcomes, teacher, context or self.context):
            self._group.setdefault(table, []).extend(rows)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GROUP_S, self._commit)

    def check(self) -> None:
        """Raises what a commit raised, so that nothing more is bought that cannot be kept."""
        if self._error is not None:
            raise self._error

    async def now(self, table: str, row: Row) -> None:
        """Puts one row, and returns when it and all that was put before are durable."""
        self._group.setdefault(table, []).append(row)
        if self._timer is not None:
            self._timer.cancel()
        self._commit()
        await self.all_done()

    def fail(self, error: BaseException) -> None:
        """Has `check` raise this from now on."""
        self._error = self._error or error

    async def all_done(self) -> None:
        """Waits until everything is durable. Raises what a commit raised."""
        if self._timer is not None:
            self._timer.cancel()
            self._commit()
        while self._pending:
            await asyncio.wait(self._pending)
        self.check()

    def _commit(self) -> None:
        self._timer = None
        group, self._group = list(self._group.items()), {}
        task = asyncio.create_task(self._ledger.aput_all(group))
        self._pending.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._pending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)


def ended(work: Work, error: CallError) -> Outcome:
    """The outcome of a request whose last attempt raised `error`."""
    return Outcome(work, error.state, str(error), error.error_class)


def answered(work: Work, answer: Answer) -> Outcome:
    """The outcome of an answer: one of the states with a sample, or `invalid`."""
    if not _is_unicode(answer):
        reason = "the answer holds half of a character (a lone surrogate)"
        return Outcome(work, "invalid", reason, "not_unicode")
    state = STATE_OF_FINISH.get(answer.finish_reason)
    if state is None:
        reason = f"the answer ended with finish reason {answer.finish_reason!r}"
        return Outcome(work, "invalid", reason, "finish_reason")
    schema = work.request.prompt.json_schema
    if schema is not None and answer.finish_reason == "stop":
        problem = answer_problem(answer.text, schema)
        if problem is not None:
            return Outcome(work, "invalid", f"against its JSON schema: {problem}", "schema")
    return Outcome(work, state, f"finish reason {answer.finish_reason}", answer=answer)


def batch_of(
    outcomes: Sequence[Outcome], teacher: Teacher, context: Context
) -> list[tuple[str, list[Row]]]:
    """The rows of several outcomes of one teacher, ready for `Ledger.put_all`."""
    at = now_us()
    requests = [_request_row(outcome, teacher, context, at) for outcome in outcomes]
    samples: list[Row] = []
    texts: list[Row] = []
    for outcome in outcomes:
        if outcome.answer is not None:
            sample = _sample_row(outcome, outcome.answer, teacher, at)
            samples.append(sample)
            texts.append(_text_row(sample["key"], outcome.answer))
    tables = [("request", requests), ("sample", samples), ("sample_text", texts)]
    return [(table, rows) for table, rows in tables if rows]


def _request_row(outcome: Outcome, teacher: Teacher, context: Context, at: int) -> Row:
    answer = outcome.answer
    return {
        "key": outcome.work.key,
        "prompt": outcome.work.request.prompt.key,
        "teacher": teacher.key,
        "task": outcome.work.request.task,
        "n": outcome.work.request.n,
        "sampling": context.sampling_json,
        "max_tokens": context.sampling.max_tokens,
        "top_logprobs": context.sampling.top_logprobs,
        "state": outcome.state,
        "reason": _storable(outcome.reason)[:MAX_REASON],
        "error_class": outcome.error_class,
        "attempts": outcome.attempts,
        "queued_at": context.queued_at,
        "started_at": outcome.started_at,
        "ended_at": at,
        "prompt_tokens": answer.prompt_tokens if answer else None,
        "completion_tokens": answer.completion_tokens if answer else None,
        "cost_usd": outcome.cost_usd,
        "price_source": outcome.price_source,
        "stage": context.stage,
        "run": context.run,
    }


def _sample_row(outcome: Outcome, answer: Answer, teacher: Teacher, at: int) -> Row:
    return {
        "key": sample_key(outcome.work.key, answer.text),
        "request": outcome.work.key,
        "prompt": outcome.work.request.prompt.key,
        "teacher": teacher.key,
        "model": answer.model,
        "text_sha": text_hash(answer.text),
        "finish_reason": answer.finish_reason,
        "completion_tokens": answer.completion_tokens,
        "recorded_at": at,
    }


def _text_row(sample: str, answer: Answer) -> Row:
    return {
        "sample": sample,
        "text": answer.text,
        "reasoning": answer.reasoning,
        "tool_calls": answer.tool_calls,
        "raw": answer.raw,
    }


def _is_unicode(answer: Answer) -> bool:
    try:
        for text in (answer.text, answer.reasoning, answer.tool_calls, answer.model, answer.raw):
            if text and not text.isascii():
                text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _storable(text: str) -> str:
    return text.encode("utf-8", errors="replace").decode("utf-8")
