"""Teachers behind an OpenAI-compatible `/chat/completions`, over aiohttp: kinds `http` and `vllm`.

Redirects are not followed, TLS is checked, proxies and netrc are not read, bodies are capped after
decompression, and the API key goes into one header and nowhere else.
"""

import socket
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import aiohttp

from ledger.keys import teacher_key
from ledger.prompts import Prompt
from router.teachers import completions
from router.teachers.body import Body
from router.teachers.config import TeacherConfig
from router.teachers.errors import CallError
from router.teachers.prices import (
    FREE,
    UNKNOWN,
    Price,
    answer_usd,
    from_recipe,
    likely_tokens,
    worst_usd,
)
from router.teachers.protocol import Answer, Sampling, too_long, with_system
from router.teachers.secrets import Secret, secret_from
from router.teachers.statuses import status_error

CHUNK_BYTES = 64 * 1024


class HttpTeacher:
    """A model that a server answers for, one prompt a call."""

    remote = True
    batch_size = 1

    def __init__(self, name: str, config: TeacherConfig) -> None:
        assert config.url is not None
        self.name, self.kind, self.model = name, config.kind, config.model
        self.licence, self.budget_usd = config.licence, config.budget_usd
        self.max_in_flight = config.max_in_flight
        self.revision = config.revision or ""
        self.settings = config.model_dump(exclude_defaults=True, exclude={"licence"})
        self.system, self.context = config.system, config.context
        self._config = config
        self._url = config.url.rstrip("/") + "/chat/completions"
        self._price = _price(config)
        self._session: aiohttp.ClientSession | None = None
        self.key = teacher_key(
            model=self.model,
            revision=self.revision,
            kind=self.kind,
            system=self.system or "",
            url=config.url if self.kind == "http" and not config.revision else None,
        )

    def require_ready(self) -> None:
        _ = self._secret

    async def check(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[CallError | None]:
        return [check_prompt(prompt, self.system, self.context, sampling) for prompt in prompts]

    async def answer(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Answer]:
        return [await self._answer(prompt, sampling) for prompt in prompts]

    def worst_cost_usd(self, prompt: Prompt, sampling: Sampling) -> float | None:
        return worst_usd(self._price, prompt, self.system, sampling)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _answer(self, prompt: Prompt, sampling: Sampling) -> Answer:
        try:
            body = await self._post(request_body(self.model, prompt, self.system, sampling))
        except CallError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            # `from None`: the library's error holds the request, and so the key.
            raise network_error(error, self._secret.strike(str(error))) from None
        raw = self._secret.strike(body.decode("utf-8", errors="surrogateescape"))
        payload = completions.parse(raw.encode("utf-8", errors="surrogateescape"))
        answer = completions.read(payload, self.model, self._config.allow_model_names, raw)
        cost = answer_usd(self._price, answer, self.worst_cost_usd(prompt, sampling))
        text = self._secret.strike(answer.text)
        return replace(answer, text=text, cost_usd=cost, price_source=self._price.source)

    async def _post(self, payload: dict[str, Any]) -> bytes:
        headers = {"Accept-Encoding": "gzip", "Accept": "application/json"}
        if key := self._secret.reveal():
            headers["Authorization"] = f"Bearer {key}"
        session = self._open_session()
        async with session.post(
            self._url, json=payload, headers=headers, allow_redirects=False
        ) as response:
            body = Body(response.headers.get("Content-Encoding", ""))
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                body.feed(chunk)
            if response.status != 200:
                told = body.whole()[:2000].decode("utf-8", errors="replace")
                raise status_error(response.status, response.headers, self._secret.strike(told))
            return body.whole()

    @cached_property
    def _secret(self) -> Secret:
        return secret_from(self._config.api_key_env, self.name)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self.max_in_flight),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the engine's
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


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
    return body


def check_prompt(
    prompt: Prompt, system: str | None, context: int | None, sampling: Sampling
) -> CallError | None:
    """Why a prompt cannot be sent to a server, or None. Length is estimated from characters."""
    try:
        "".join(message["content"] for message in prompt.messages).encode("utf-8")
    except UnicodeEncodeError:
        return CallError("bad_prompt", "the prompt holds half of a character (a lone surrogate)")
    if context is None:
        return None
    return too_long(likely_tokens(prompt, system), sampling, context, estimated=True)


def network_error(error: Exception, told: str) -> CallError:
    """The class of what went wrong on the way, and whether it passes."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return dns_error(error.os_error.errno, told)
    if isinstance(error, aiohttp.ClientSSLError):
        return CallError("tls", f"the server's certificate is not trusted: {told}", fatal=True)
    if isinstance(error, aiohttp.InvalidURL):
        return CallError("bad_url", f"`url:` is not one: {told}", fatal=True)
    if isinstance(error, aiohttp.ClientConnectorError):
        return CallError("connection_refused", f"no connection: {told}", transient=True)
    return CallError(
        "connection_lost",
        f"the connection broke: {told or type(error).__name__}",
        transient=True,
        charged_usd=None,
    )


def dns_error(errno: int | None, told: str) -> CallError:
    """A name that does not exist ends a teacher; one that was not resolved just now does not."""
    if errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)):
        return CallError("unknown_host", f"there is no such host: {told}", fatal=True)
    return CallError("dns", f"the host's name was not resolved: {told}", transient=True)


def _price(config: TeacherConfig) -> Price:
    """The recipe's price; free where no key is sent, since nobody can be charged then."""
    if config.price is not None:
        return from_recipe(config.price)
    return UNKNOWN if config.kind == "http" and config.api_key_env else FREE
