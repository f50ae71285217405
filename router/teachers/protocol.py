"""The one protocol that all teachers speak: prompts and sampling in, answers out.

Kinds: `local` (weights in this process), `vllm` and `http` (an OpenAI-compatible URL), `litellm`
(hosted providers). The engine knows only this protocol.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from ledger.keys import now_us
from ledger.prompts import Message, Prompt
from ledger.store import Ledger
from router.teachers.allowance import Allowance
from router.teachers.errors import CallError

if TYPE_CHECKING:
    from router.teachers.batch_api import BatchApi
    from router.teachers.server import ModelServer

# How an answer ended, and the state that its request ends in.
STATE_OF_FINISH = {
    "stop": "done",
    "tool_calls": "done",
    "length": "truncated",
    "refusal": "refused",
    "content_filter": "filtered",
}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn. Temperature 0 is greedy. `top_logprobs` 0: none are asked for."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int | None = None
    top_logprobs: int = 0

    def nth(self, n: int) -> "Sampling":
        """The same for the n-th answer to a prompt: its seed is moved by n."""
        return self if self.seed is None or n == 0 else replace(self, seed=self.seed + n)

    @property
    def key_fields(self) -> dict[str, Any]:
        """What enters a request's key: what changes an answer. No cap, and no dice where none are thrown."""
        if self.temperature == 0:
            return {"temperature": 0.0}
        return {
            "temperature": float(self.temperature),
            "top_p": float(self.top_p),
            "seed": self.seed,
        }


@dataclass(slots=True)
class Answer:
    """One answer as the teacher gave it. Token counts and cost are None where nobody told them.

    `model` is as the server calls it. `tool_calls` is JSON. `finish_reason` is a key of
    STATE_OF_FINISH. `price_source` is `recipe`, `litellm`, `none` (nobody charges for this teacher) or
    `unknown`. `allowance` is what the provider's headers leave to be sent.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str
    cost_usd: float | None
    price_source: str
    reasoning: str | None = None
    tool_calls: str | None = None
    raw: str | None = None
    allowance: Allowance | None = None


class Teacher(Protocol):
    """A model behind an endpoint with fixed settings, named by the recipe."""

    name: str
    kind: str
    key: str
    model: str
    revision: str
    licence: str
    settings: dict[str, Any]  # for the ledger
    budget_usd: float | None
    batch_size: int  # prompts in one call
    start_in_flight: int  # calls at once, to begin with
    max_in_flight: int  # calls at once, at most
    rpm: float | None  # calls a minute, at most
    tpm: float | None  # tokens a minute, at most
    remote: bool  # a call can hang: the engine puts a deadline on it
    by_batch: bool  # answers come by batches, not by calls
    context: int | None  # tokens of prompt and answer together, at most; None: nobody knows
    lacks: Sequence[str]  # of `tools` and `json`, what it cannot do

    @property
    def server(self) -> "ModelServer | None":
        """The server that must run before `answer`, where it is ours to start."""
        ...

    @property
    def batch_api(self) -> "BatchApi | None":
        """The provider's batch API, for teachers of a kind that may have one."""
        ...

    def require_ready(self) -> None:
        """Raises TeacherUnavailable where something that answering takes, such as a key, is not set."""
        ...

    async def check(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[CallError | None]:
        """For each prompt, why it cannot be sent (too long, not text), or None. Costs nothing."""
        ...

    async def answer(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Answer]:
        """One answer per prompt, in order. Raises CallError for the call as a whole."""
        ...

    def size(self, prompt: Prompt, sampling: Sampling) -> int:
        """Tokens that a call may take, as rate limits count them; an estimate."""
        ...

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What an answer of this size costs; None where no price is known."""
        ...

    def worst_cost_usd(self, prompt: Prompt, sampling: Sampling) -> float | None:
        """The most that one call can cost; 0 where nobody charges, None where no price is known."""
        ...

    async def close(self) -> None:
        """Lets go of weights and connections; the next `answer` takes them up again."""
        ...


def with_system(prompt: Prompt, system: str | None) -> list[Message]:
    """The messages a teacher gets: the prompt's own, behind the teacher's system prompt."""
    own = list(prompt.messages)
    return [{"role": "system", "content": system}, *own] if system else own


def too_long(tokens: int, sampling: Sampling, context: int, *, estimated: bool) -> CallError | None:
    """An error where a prompt and the answer it may get do not fit into `context` tokens."""
    if tokens + sampling.max_tokens <= context:
        return None
    about = "about " if estimated else ""
    return CallError(
        "prompt_too_long",
        f"the prompt has {about}{tokens} tokens and may be answered with {sampling.max_tokens}, "
        f"but the teacher's context is {context}: shorten it or lower `generate: max_tokens`.",
    )


def lacking(prompt: Prompt, lacks: Sequence[str]) -> CallError | None:
    """An error where a prompt asks for what a teacher cannot do."""
    for ability, asked in (("tools", prompt.tools), ("json", prompt.json_schema)):
        if asked is not None and ability in lacks:
            return CallError(
                f"lacks_{ability}",
                f"the prompt asks for {ability}, which the recipe says the teacher `lacks`: "
                "no other teacher that can was found for it.",
            )
    return None


def register(ledger: Ledger, teacher: Teacher) -> None:
    """Puts the teacher and its licence into the ledger, where they are not there yet."""
    row = {
        "key": teacher.key,
        "name": teacher.name,
        "kind": teacher.kind,
        "model": teacher.model,
        "revision": teacher.revision,
        "settings": json.dumps(teacher.settings, sort_keys=True, ensure_ascii=False),
    }
    ledger.put("teacher", [row])
    known = ledger.rows(
        "SELECT licence FROM licence WHERE kind = 'teacher' AND subject = ? "
        "ORDER BY id DESC LIMIT 1",
        [teacher.key],
    )
    if known != [(teacher.licence,)]:
        licence = {"kind": "teacher", "subject": teacher.key, "licence": teacher.licence}
        ledger.put("licence", [{**licence, "recorded_at": now_us()}])
