"""Teachers at hosted providers, through LiteLLM, which is imported when the first one is used.

LiteLLM translates requests and answers and knows prices. Its own retries, caches, callbacks,
telemetry and redirects are off, because the engine's and ours hold.
"""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from ledger.keys import teacher_key
from ledger.prompts import Prompt
from router.teachers import completions
from router.teachers.allowance import allowance
from router.teachers.config import TeacherConfig
from router.teachers.connections import dns_error, lost
from router.teachers.errors import CallError
from router.teachers.http import check_prompt, extras, read_priced
from router.teachers.prices import (
    FREE,
    UNKNOWN,
    Price,
    from_recipe,
    likely_tokens,
    worst_usd,
)
from router.teachers.protocol import Answer, Sampling, with_system
from router.teachers.secrets import Secret, secret_from
from router.teachers.statuses import status_error

if TYPE_CHECKING:
    from router.teachers.wire import Wire


class LitellmTeacher:
    """A model that LiteLLM reaches, one prompt a call."""

    kind = "litellm"
    remote = True
    batch_size = 1
    batch_api = None
    server = None
    by_batch = False

    def __init__(self, name: str, config: TeacherConfig) -> None:
        self.name, self.model = name, config.model
        self.licence, self.budget_usd = config.licence, config.budget_usd
        self.start_in_flight = config.start_in_flight
        self.max_in_flight = config.most_in_flight
        self.rpm, self.tpm = config.rpm, config.tpm
        self.context = config.context
        self.lacks: Sequence[str] = config.lacks
        self.revision = config.revision or ""
        self.settings = config.model_dump(exclude_defaults=True, exclude={"licence"})
        self._config = config
        self._known_price: Price | None = None
        self.key = teacher_key(
            model=self.model,
            revision=self.revision,
            kind=self.kind,
            system=config.system or "",
            url=None if config.revision else config.url,
        )

    def require_ready(self) -> None:
        names = self._config.key_variables
        if names and not any(os.environ.get(name, "").strip() for name in names):
            secret_from(names[0], self.name)

    async def check(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[CallError | None]:
        return [check_prompt(prompt, self._config, self.context, sampling) for prompt in prompts]

    async def answer(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Answer]:
        return [await self._answer(prompt, sampling) for prompt in prompts]

    def size(self, prompt: Prompt, sampling: Sampling) -> int:
        return likely_tokens(prompt, self._config.system) + sampling.max_tokens

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return self._price().usd(prompt_tokens, completion_tokens)

    def worst_cost_usd(self, prompt: Prompt, sampling: Sampling) -> float | None:
        return worst_usd(self._price(), prompt, self._config.system, sampling)

    async def close(self) -> None:
        litellm = await asyncio.to_thread(load_litellm)
        session, litellm.aclient_session = litellm.aclient_session, None
        litellm.in_memory_llm_clients_cache.flush_cache()
        if session is not None:
            await session.aclose()

    async def _answer(self, prompt: Prompt, sampling: Sampling) -> Answer:
        litellm = await asyncio.to_thread(load_litellm)
        from router.teachers.wire import WIRE, Wire, guarded_client

        if litellm.aclient_session is None:
            litellm.aclient_session = guarded_client()
        wire = Wire(secrets=[self._secret])
        token = WIRE.set(wire)
        try:
            response = await litellm.acompletion(**self._arguments(prompt, sampling))
        except Exception as error:
            # `from None`: LiteLLM's errors hold the request, and so the key.
            raise _call_error(error, wire, self.model) from None
        finally:
            WIRE.reset(token)
        answer = self._read(response, wire, sampling)
        if answer.cost_usd is None:
            answer.cost_usd = self.worst_cost_usd(prompt, sampling)
        return answer

    @cached_property
    def _secret(self) -> Secret:
        return secret_from(self._config.api_key_env, self.name)

    def _arguments(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        config = self._config
        arguments = {
            "model": self.model,
            "messages": with_system(prompt, config.system),
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
            "top_p": sampling.top_p if sampling.top_p != 1 else None,
            "seed": sampling.seed,
            "tools": list(prompt.tools) if prompt.tools else None,
            "api_base": config.url,
            # A `url:` without a key must not get the provider's key from the environment.
            "api_key": self._secret.reveal() or ("none" if config.url else None),
            "num_retries": 0,
            "max_retries": 0,
            "caching": False,
            **extras(prompt, sampling),
        }
        return {name: value for name, value in arguments.items() if value is not None}

    def _read(self, response: Any, wire: "Wire", sampling: Sampling) -> Answer:
        """The answer: from the body itself where it is OpenAI's form, else as LiteLLM reads it."""
        raw = wire.strike(completions.decoded(wire.body.whole())) if wire.body else ""
        payload = completions.parse(raw) if raw else {}
        if "choices" not in payload and not payload.get("error"):
            payload = response.model_dump()
        allowed = self._config.allow_model_names
        answer = read_priced(payload, self.model, allowed, raw, self._price(), sampling)
        answer.text, answer.allowance = wire.strike(answer.text), allowance(wire.headers)
        return answer

    def _price(self) -> Price:
        if self._known_price is None:
            self._known_price = self._find_price()
        return self._known_price

    def _find_price(self) -> Price:
        if self._config.price is not None:
            return from_recipe(self._config.price)
        if self._config.url is not None and self._config.api_key_env is None:
            return FREE
        price = TablePrice(self.model)
        return UNKNOWN if price.usd(1, 1) is None else price


class TablePrice:
    """LiteLLM's price table, which knows steps such as a dearer rate above 200k tokens."""

    source = "litellm"

    def __init__(self, model: str) -> None:
        self._model = model

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        try:
            parts = load_litellm().cost_per_token(
                model=self._model,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
            )
        except Exception:  # the table's lookups raise bare Exceptions for models it does not know
            return None
        return float(sum(parts))


@cache
def load_litellm() -> Any:
    """Imports LiteLLM (seconds) with everything off that would act by itself."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches a price list
    import litellm
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    from router.teachers.wire import guarded_client

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.cache = None
    litellm.num_retries = 0
    litellm.callbacks, litellm.success_callback, litellm.failure_callback = [], [], []
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    # Providers that do not go through the OpenAI SDK take their client from here.
    AsyncHTTPHandler.create_client = lambda self, *args, **kwargs: guarded_client()
    return litellm


def _call_error(error: Exception, wire: "Wire", model: str) -> CallError:
    """The class of an error by what passed over the wire, not by what LiteLLM calls it."""
    for cause in _chain(wire.error or error):
        if isinstance(cause, CallError):
            return cause
    told = wire.strike(str(error))[:300]
    if wire.error is not None:
        return _network_error(wire.error, told)
    if wire.status is None:
        return CallError(
            "not_sent", f"LiteLLM did not send the request for {model}: {told}", fatal=True
        )
    body = wire.body.whole() if wire.body else b""
    if wire.status != 200:
        start = body[:2000].decode("utf-8", errors="replace")
        return status_error(wire.status, wire.headers, wire.strike(start))
    try:
        completions.parse(completions.decoded(body))
    except CallError as broken:
        return broken
    return CallError(
        "unreadable",
        f"LiteLLM cannot read the provider's answer: {told}",
        state="invalid",
        charged_usd=None,
    )


def _network_error(error: Exception, told: str) -> CallError:
    causes = list(_chain(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return CallError("tls", "the server's certificate is not trusted", fatal=True)
    if gai := next((cause for cause in causes if isinstance(cause, socket.gaierror)), None):
        return dns_error(gai.errno, told)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return CallError("connection_refused", f"no connection: {told}", transient=True)
    return lost(told)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        yield current
        seen.add(id(current))
        current = current.__cause__ or current.__context__
