"""Requests: what is asked for, what the ledger has already, and the answers read back.

A request that ended with a sample is finished for good, but for a truncated one, which is bought
again when `max_tokens` rises. Requests that ended without one are tried again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ledger.keys import request_key
from ledger.prompts import Prompt
from ledger.store import Ledger
from router.engine.config import GenerateConfig
from router.teachers.protocol import Sampling, Teacher

FINISHED = ("done", "truncated", "refused", "filtered")


@dataclass(frozen=True, slots=True)
class Request:
    """One answer asked for: the n-th of `teacher` (by its name in the recipe) to `prompt`.

    `task` says on whose account it goes; it is not in the key.
    """

    prompt: Prompt
    teacher: str
    n: int = 0
    task: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """A request with its key."""

    key: str
    request: Request


@dataclass(frozen=True, slots=True)
class BoughtAnswer:
    """A sample as the ledger holds it."""

    sample_key: str
    text: str
    state: str
    completion_tokens: int | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Finished:
    """How a request that has a sample ended, and under which cap."""

    state: str
    max_tokens: int
    top_logprobs: int
    completion_tokens: int | None
    cost_usd: float | None

    def serves(self, sampling: Sampling) -> bool:
        """Whether this answer stands for one under another cap, with as many log-probs."""
        if self.top_logprobs < sampling.top_logprobs:
            return False
        return self.state != "truncated" or self.max_tokens >= sampling.max_tokens


def sampling_of(settings: GenerateConfig) -> Sampling:
    """The sampling that a recipe's `generate:` asks for."""
    return Sampling(
        settings.temperature,
        settings.top_p,
        settings.max_tokens,
        settings.seed,
        settings.top_logprobs or 0,
    )


def keyed(
    requests: Iterable[Request], teachers: Mapping[str, Teacher], sampling: Sampling
) -> list[Work]:
    """The requests with their keys, in order, each key once."""
    works: dict[str, Work] = {}
    for request in requests:
        key = _key(request, teachers, sampling)
        works.setdefault(key, Work(key, request))
    return list(works.values())


def _key(request: Request, teachers: Mapping[str, Teacher], sampling: Sampling) -> str:
    teacher = teachers[request.teacher].key
    return request_key(request.prompt.key, teacher, sampling.key_fields, request.n)


def finished(ledger: Ledger, teachers: Iterable[Teacher]) -> dict[str, Finished]:
    """By request key, what is finished among all that these teachers were ever asked."""
    keys = sorted({teacher.key for teacher in teachers})
    rows = ledger.rows(
        "SELECT r.key, r.state, r.max_tokens, r.top_logprobs, r.completion_tokens, r.cost_usd "
        "FROM request r "
        "JOIN teacher t ON r.teacher = t.id "
        "WHERE t.key IN (SELECT unnest(?::VARCHAR[])) AND r.state IN (SELECT unnest(?::VARCHAR[])) "
        "QUALIFY row_number() OVER (PARTITION BY r.key ORDER BY r.id DESC) = 1",
        [keys, list(FINISHED)],
    )
    return {row[0]: Finished(*row[1:]) for row in rows}


def unbought(
    requests: Iterable[Request], teachers: Mapping[str, Teacher], ledger: Ledger, sampling: Sampling
) -> list[Request]:
    """The requests that `buy` would send, for whoever plans. Reads what is folded."""
    have = finished(ledger, teachers.values())
    return [
        work.request
        for work in keyed(requests, teachers, sampling)
        if work.key not in have or not have[work.key].serves(sampling)
    ]


def answers(
    ledger: Ledger,
    requests: Sequence[Request],
    teachers: Mapping[str, Teacher],
    sampling: Sampling,
) -> dict[tuple[str, str, int], BoughtAnswer]:
    """The answers to those of `requests` that have one, by (prompt key, teacher's name, n).

    Reads what is folded; `buy` folds before it returns.
    """
    have = finished(ledger, teachers.values())
    samples = _samples(ledger, teachers.values())
    bought = {}
    for request in requests:
        key = _key(request, teachers, sampling)
        if (end := have.get(key)) and (sample := samples.get(key)):
            bought[request.prompt.key, request.teacher, request.n] = BoughtAnswer(
                sample[0], sample[1], end.state, end.completion_tokens, end.cost_usd
            )
    return bought


def came_to_nothing(
    ledger: Ledger,
    requests: Sequence[Request],
    teachers: Mapping[str, Teacher],
    sampling: Sampling,
) -> set[tuple[str, str, int]]:
    """Those of `requests` whose last answer held nothing, or not what its JSON schema asks for: no sample, yet
    a model's answer to grade."""
    keys = sorted({teacher.key for teacher in teachers.values()})
    rows = ledger.rows(
        "SELECT r.key FROM request r JOIN teacher t ON r.teacher = t.id "
        "WHERE t.key IN (SELECT unnest(?::VARCHAR[])) GROUP BY r.key "
        "HAVING arg_max(r.error_class, r.id) IN ('empty', 'schema') AND arg_max(r.state, r.id) = 'invalid'",
        [keys],
    )
    empty = {row[0] for row in rows}
    return {
        (request.prompt.key, request.teacher, request.n)
        for request in requests
        if _key(request, teachers, sampling) in empty
    }


def _samples(ledger: Ledger, teachers: Iterable[Teacher]) -> dict[str, tuple[str, str]]:
    """By request key, the newest sample's key and text."""
    rows = ledger.rows(
        "SELECT r.key, s.key, x.text FROM sample s JOIN teacher t ON s.teacher = t.id "
        "JOIN request r ON s.request = r.id JOIN sample_text x ON x.sample = s.id "
        "WHERE t.key IN (SELECT unnest(?::VARCHAR[])) "
        "QUALIFY row_number() OVER (PARTITION BY r.key ORDER BY s.id DESC) = 1",
        [sorted({teacher.key for teacher in teachers})],
    )
    return {request: (sample, text) for request, sample, text in rows}
