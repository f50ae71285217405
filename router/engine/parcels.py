"""What is at a provider: the requests of one batch, and what earlier sittings left there."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.errors import InputError
from ledger.keys import now_us
from ledger.prompts import Prompt
from ledger.store import Ledger
from router.engine.recording import Context
from router.engine.requests import Request, Work
from router.teachers.batch_api import Batch
from router.teachers.errors import CallError
from router.teachers.protocol import Sampling, Teacher


class BatchesOpen(InputError):
    """Requests that are in a batch at the provider are about to be bought by calls as well."""


@dataclass(slots=True)
class Parcel:
    """The requests of one batch, and how far it is: `prepared`, `uploaded`, `started` or `over`."""

    key: str
    works: dict[str, Work]
    context: Context
    state: str = "prepared"
    file: str | None = None
    batch: str | None = None
    started_at: int = field(default_factory=now_us)

    @property
    def name(self) -> str:
        """What the uploaded file is called."""
        return f"tutelage-{self.key}.jsonl"


def open_parcels(ledger: Ledger, teacher: Teacher, finished: Mapping[str, Any]) -> list[Parcel]:
    """What earlier sittings left at a teacher's provider, without the requests that are `finished`."""
    rows = ledger.rows(
        "SELECT b.key, arg_max(b.state, b.id), arg_max(b.file, b.id), arg_max(b.provider_id, b.id), "
        "max(b.requests), max(b.sampling), max(b.stage), max(b.run), "
        "epoch_us(min(b.recorded_at)) FROM provider_batch b JOIN teacher t ON b.teacher = t.id "
        "WHERE t.key = ? GROUP BY b.key HAVING arg_max(b.state, b.id) <> 'over' "
        "ORDER BY min(b.id)",
        [teacher.key],
    )
    parcels = []
    for key, state, file, batch, requests, sampling, stage, run, at in rows:
        context = Context(Sampling(**json.loads(sampling)), stage, run, at)
        works = {}
        wanted = [entry for entry in json.loads(requests) if entry[0] not in finished]
        prompts = _prompts(ledger, [entry[1] for entry in wanted])
        for request, prompt, n, task in wanted:
            works[request] = Work(request, Request(prompts[prompt], teacher.name, n, task))
        parcels.append(Parcel(key, works, context, state, file, batch, at))
    return parcels


def _prompts(ledger: Ledger, keys: Sequence[str]) -> dict[str, Prompt]:
    rows = ledger.rows(
        "SELECT p.key, x.messages, x.tools, x.json_schema FROM prompt p "
        "JOIN prompt_text x ON x.prompt = p.id "
        "WHERE p.key IN (SELECT unnest(?::VARCHAR[]))",
        [list(keys)],
    )
    return {key: Prompt.from_row(*texts) for key, *texts in rows}


def refuse_open(ledger: Ledger, teachers: Iterable[Teacher]) -> None:
    """Raises BatchesOpen where a teacher that is asked by calls has batches at its provider."""
    for teacher in teachers:
        if not teacher.by_batch and (parcels := open_parcels(ledger, teacher, {})):
            waiting = sum(len(parcel.works) for parcel in parcels)
            raise BatchesOpen(
                f"teacher `{teacher.name}` has {waiting:,} requests in a batch at its provider, and its "
                "recipe does not say `batch: true` any more: calls would buy them again. Bring it back "
                "until they are taken in, or call them off: `tutelage batches RUN --cancel`"
            )


@dataclass(frozen=True, slots=True)
class AtProvider:
    """One batch of a teacher's as the ledger and, where it was started, the provider show it."""

    teacher: str
    parcel: Parcel
    batch: Batch | None


async def at_providers(
    ledger: Ledger, teachers: Iterable[Teacher], *, deadline_s: float, cancel: bool = False
) -> list[AtProvider]:
    """The batches that these teachers' providers have; `cancel` asks for an end of those under way.

    Raises TeacherUnavailable, or CallError where a provider cannot be asked.
    """
    found = []
    for teacher in teachers:
        api = teacher.batch_api
        if api is None or not (parcels := open_parcels(ledger, teacher, {})):
            continue
        try:
            for parcel in parcels:
                async with asyncio.timeout(deadline_s):
                    batch = await api.look(parcel.batch) if parcel.batch else None
                    if cancel and batch and not batch.is_over:
                        batch = await api.cancel(batch.id)
                found.append(AtProvider(teacher.name, parcel, batch))
        except TimeoutError as error:
            told = f"the provider of `{teacher.name}` did not answer within {deadline_s:.0f} s"
            raise CallError("deadline", told, transient=True) from error
        finally:
            await teacher.close()
    return found
