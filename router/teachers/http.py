"""Teachers behind an OpenAI-compatible `/chat/completions`: kinds `http`, and `vllm` with `url:`.

Redirects are not followed, TLS is checked, bodies are capped after decompression, and the API key goes
into one header and nowhere else.
"""

import json
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ledger import fastjson
from ledger.keys import teacher_key
from ledger.prompts import Prompt
from ledger.structure import is_closed
from router.teachers import completions
from router.teachers.allowance import allowance
from router.teachers.batch_api import MAX_RESULT_BYTES, BatchApi
from router.teachers.body import MAX_BODY_BYTES
from router.teachers.config import TeacherConfig
from router.teachers.connections import Arrival, Client
from router.teachers.errors import CallError, TeacherUnavailable
from router.teachers.prices import (
    FREE,
    UNKNOWN,
    HalfPrice,
    Price,
    charged_usd,
    from_recipe,
    likely_tokens,
    worst_usd,
)
from router.teachers.protocol import Answer, Sampling, lacking, too_long, with_system
from router.teachers.secrets import Secret, secret_from
from router.teachers.server import ModelServer
from router.teachers.statuses import status_error
from router.teachers.streaming import Streamed, hidden_tokens, read_stream


class HttpTeacher:
    """A model that a server answers for, one prompt a call."""

    remote = True
    batch_size = 1

    def __init__(self, name: str, config: TeacherConfig, base_dir: Path = Path()) -> None:
        self.name, self.kind, self.model = name, config.kind, config.model
        self.licence, self.budget_usd = config.licence, config.budget_usd
        self.start_in_flight = config.start_in_flight
        self.max_in_flight = config.most_in_flight
        self.rpm, self.tpm = config.rpm, config.tpm
        self.revision = config.revision or ""
        self.settings = config.model_dump(exclude_defaults=True, exclude={"licence"})
        self.system, self.context = config.system, config.context
        self.lacks: Sequence[str] = config.lacks
        self._config = config
        self._ca_file = base_dir / config.ca_file if config.ca_file else None
        self.by_batch = config.batch
        self._half_price = HalfPrice(_price(config))
        self._price = self._half_price if config.batch else _price(config)
        self._clients: list[Client] = []
        self.key = teacher_key(
            model=self.model,
            revision=self.revision,
            kind=self.kind,
            system=self.system or "",
            url=config.url if self.kind == "http" and not config.revision else None,
        )

    def require_ready(self) -> None:
        _ = self._secret
        if self._ca_file is not None and not self._ca_file.is_file():
            raise TeacherUnavailable(
                f"teacher `{self.name}`: `ca_file` names {self._ca_file}, which is no file."
            )

    async def check(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[CallError | None]:
        return [check_prompt(prompt, self._config, self.context, sampling) for prompt in prompts]

    async def answer(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Answer]:
        return [await self._answer(prompt, sampling) for prompt in prompts]

    def size(self, prompt: Prompt, sampling: Sampling) -> int:
        return likely_tokens(prompt, self.system) + sampling.max_tokens

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return self._price.usd(prompt_tokens, completion_tokens)

    def worst_cost_usd(self, prompt: Prompt, sampling: Sampling) -> float | None:
        return worst_usd(self._price, prompt, self.system, sampling)

    async def close(self) -> None:
        for client in self._clients:
            client.close()

    async def _answer(self, prompt: Prompt, sampling: Sampling) -> Answer:
        sent = fastjson.dumps(self._body(prompt, sampling))
        response = await self._client.call("POST", "/chat/completions", sent)
        if response.status != 200:
            told = self._secret.strike(response.body[:2000].decode("utf-8", errors="replace"))
            raise status_error(response.status, response.headers, told)
        raw = self._secret.strike(completions.decoded(response.body))
        answer = self._read(completions.parse(raw), raw, prompt, sampling, self._price)
        answer.allowance = allowance(response.headers)
        return answer

    async def stream(self, prompt: Prompt, sampling: Sampling) -> Streamed:
        """Asks for an answer piece by piece, for its times; what it says is dropped. Raises CallError."""
        sent = fastjson.dumps(self._body(prompt, sampling) | self.streaming(sampling))
        arrivals: list[Arrival] = []
        asked_at = time.perf_counter()
        response = await self._client.call("POST", "/chat/completions", sent, arrivals=arrivals)
        if response.status != 200:
            told = self._secret.strike(response.body[:2000].decode("utf-8", errors="replace"))
            raise status_error(response.status, response.headers, told)
        pieces_s, usage = read_stream(response.body, arrivals, asked_at)
        counts = [
            completions.count({"usage": usage}, f"{name}_tokens")
            for name in ("prompt", "completion")
        ]
        usd = charged_usd(self._price, *counts)
        if usd is None:
            usd = self.worst_cost_usd(prompt, sampling)
        tokens = counts[1] or len(pieces_s)
        hidden = min(hidden_tokens(usage), tokens - 1)
        return Streamed(pieces_s[0], pieces_s[-1], len(pieces_s), tokens, hidden, usd)

    def streaming(self, sampling: Sampling) -> dict[str, Any]:
        """What a streamed request says beyond an ordinary one."""
        return {"stream": True, "stream_options": {"include_usage": True}}

    @property
    def server(self) -> ModelServer | None:
        return None

    @property
    def base_url(self) -> str:
        """Where the server is."""
        assert self._config.url is not None
        return self._config.url

    def _body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        return request_body(self.model, prompt, self.system, sampling)

    def _read_batched(self, payload: Any, prompt: Prompt, sampling: Sampling) -> Answer:
        try:
            raw = fastjson.dumps(payload).decode()
        except UnicodeEncodeError:  # half of a character, which the text will be found to hold
            raw = json.dumps(payload)
        return self._read(payload, raw, prompt, sampling, self._half_price)

    def _read(
        self, payload: Any, raw: str, prompt: Prompt, sampling: Sampling, price: Price
    ) -> Answer:
        allowed = self._config.allow_model_names
        answer = read_priced(payload, self.model, allowed, raw, price, sampling)
        if answer.cost_usd is None:
            answer.cost_usd = self.worst_cost_usd(prompt, sampling)
        answer.text = self._secret.strike(answer.text)
        return answer

    @cached_property
    def _secret(self) -> Secret:
        return secret_from(self._config.api_key_env, self.name)

    @cached_property
    def _client(self) -> Client:
        return self._open_client(MAX_BODY_BYTES)

    @cached_property
    def batch_api(self) -> BatchApi:
        client = self._open_client(MAX_RESULT_BYTES)
        return BatchApi(client, self._secret, self._body, self._read_batched)

    def _open_client(self, max_body_bytes: int) -> Client:
        headers = {"Accept": "application/json"}
        if key := self._secret.reveal():
            headers["Authorization"] = f"Bearer {key}"
        client = Client(
            self.base_url, headers, ca_file=self._ca_file, max_body_bytes=max_body_bytes
        )
        self._clients.append(client)
        return client


def read_priced(
    payload: Any,
    asked: str,
    allowed: Sequence[str],
    raw: str,
    price: Price,
    sampling: Sampling,
) -> Answer:
    """The answer in a chat completion, with its cost. Raises CallError, which knows its cost too.

    The cost is None where the server did not count tokens.
    """
    tokens = [completions.count(payload, name) for name in ("prompt_tokens", "completion_tokens")]
    cost = charged_usd(price, *tokens)
    try:
        answer = completions.read(payload, asked, allowed, raw)
        if sampling.top_logprobs:
            completions.require_logprobs(payload)
    except CallError as error:
        error.charged_usd = cost
        raise
    answer.cost_usd, answer.price_source = cost, price.source
    return answer


def request_body(
    model: str, prompt: Prompt, system: str | None, sampling: Sampling
) -> dict[str, Any]:
    """The JSON of a chat completion request."""
    body: dict[str, Any] = {
        "model": model,
        "messages": with_system(prompt, system),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stream": False,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if prompt.tools:
        body["tools"] = list(prompt.tools)
    return body | extras(prompt, sampling)


def extras(prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
    """What a request says beyond messages and dice: the answer's form, and its log-probabilities."""
    found: dict[str, Any] = {}
    if prompt.json_schema is not None:
        form = {
            "name": "answer",
            "schema": prompt.json_schema,
            "strict": is_closed(prompt.json_schema),
        }
        found["response_format"] = {"type": "json_schema", "json_schema": form}
    if sampling.top_logprobs:
        found |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
    return found


def check_prompt(
    prompt: Prompt, config: TeacherConfig, context: int | None, sampling: Sampling
) -> CallError | None:
    """Why a prompt cannot be sent to a server, or None. Length is estimated from characters."""
    if lack := lacking(prompt, config.lacks):
        return lack
    try:
        "".join(message["content"] for message in prompt.messages).encode("utf-8")
    except UnicodeEncodeError:
        return CallError("bad_prompt", "the prompt holds half of a character (a lone surrogate)")
    if context is None:
        return None
    return too_long(likely_tokens(prompt, config.system), sampling, context, estimated=True)


def _price(config: TeacherConfig) -> Price:
    """The recipe's price; free where no key is sent, since nobody can be charged then."""
    if config.price is not None:
        return from_recipe(config.price)
    return UNKNOWN if config.kind == "http" and config.api_key_env else FREE
