"""A provider's batch API in OpenAI's form: files and batches, at half the price, within a day.

Each step is one call that may be made again. What a step made can be found again by the name that it was
given, so that a process which dies between two steps neither loses a batch nor pays for it twice.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.keys import content_key
from ledger.prompts import Prompt
from router.teachers.connections import Client, Response
from router.teachers.errors import CallError
from router.teachers.protocol import Answer, Sampling
from router.teachers.secrets import Secret
from router.teachers.statuses import status_error

MAX_RESULT_BYTES = 512 * 2**20
PAGE = 100
ENDPOINT = "/v1/chat/completions"
CUSTOM_ID = re.compile(r'"custom_id"\s*:\s*"([0-9a-f]+)"')
OVER = ("completed", "failed", "expired", "cancelled")
STATES = (*OVER, "validating", "in_progress", "finalizing", "cancelling")


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the provider shows it. `state` is one of STATES; it is over in one of OVER."""

    id: str
    state: str
    output_file: str | None
    error_file: str | None
    answered: int
    failed: int
    problem: str

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in OVER


@dataclass(frozen=True, slots=True)
class Line:
    """One request's line in a result file: its key, and a completion or an error."""

    key: str
    payload: Any
    error: CallError | None


class BatchApi:
    """The batch API of one server. Every method that calls it raises CallError."""

    def __init__(
        self,
        client: Client,
        secret: Secret,
        body: Callable[[Prompt, Sampling], dict[str, Any]],
        read: Callable[[Any, Prompt, Sampling], Answer],
    ) -> None:
        """`body` makes a completion request of a prompt, `read` an answer of a completion."""
        self._client, self._secret, self._body = client, secret, body
        self.read = read

    def line(self, key: str, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        """A request's line in the file that is uploaded."""
        body = self._body(prompt, sampling)
        return {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body}

    async def upload(self, name: str, lines: Sequence[dict[str, Any]]) -> str:
        """Uploads requests, one JSON line each, as a file of that name; gives the file's id."""
        data = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode("utf-8")
        edge = f"tutelage-{content_key(name)}"
        body = (
            f'--{edge}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        ).encode() + data
        body += f"\r\n--{edge}--\r\n".encode()
        sent = await self._call("POST", "/files", body, f"multipart/form-data; boundary={edge}")
        return str(sent["id"])

    async def find_file(self, name: str) -> str | None:
        """The id of the file of that name, if it was uploaded."""
        async for file in self._pages("/files?purpose=batch"):
            if file.get("filename") == name:
                return str(file["id"])
        return None

    async def create(self, file: str, name: str) -> Batch:
        """Starts a batch over an uploaded file."""
        wanted = {
            "input_file_id": file,
            "endpoint": ENDPOINT,
            "completion_window": "24h",
            "metadata": {"tutelage": name},
        }
        return _batch(await self._call("POST", "/batches", json.dumps(wanted).encode()))

    async def find(self, file: str) -> Batch | None:
        """The batch over an uploaded file, if it was started."""
        async for batch in self._pages("/batches"):
            if batch.get("input_file_id") == file:
                return _batch(batch)
        return None

    async def look(self, batch: str) -> Batch:
        """A batch as it stands."""
        return _batch(await self._call("GET", f"/batches/{batch}"))

    async def cancel(self, batch: str) -> Batch:
        """Asks the provider to stop; what is answered by then is kept, and paid for."""
        return _batch(await self._call("POST", f"/batches/{batch}/cancel"))

    async def lines(self, file: str) -> list[Line]:
        """A result file, without the lines that cannot be read."""
        response = await self._send("GET", f"/files/{file}/content", b"", "")
        text = self._secret.strike(response.body.decode("utf-8", errors="replace"))
        # Not splitlines: it cuts at characters that may stand inside a JSON string.
        found = (self._line(line) for line in text.split("\n"))
        return [line for line in found if line is not None]

    def _line(self, text: str) -> Line | None:
        try:
            value = json.loads(text)
            key, response, error = value["custom_id"], value.get("response"), value.get("error")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            named = CUSTOM_ID.search(text)
            error = CallError(
                "broken_json", "its line is no JSON", state="invalid", charged_usd=None
            )
            return Line(named[1], None, error) if named else None
        if not isinstance(key, str):
            return None
        if isinstance(response, dict) and response.get("status_code") == 200:
            return Line(key, response.get("body"), None)
        if isinstance(response, dict) and isinstance(response.get("status_code"), int):
            told = json.dumps(response.get("body"), ensure_ascii=False)
            return Line(key, None, status_error(response["status_code"], {}, told))
        told = str(error.get("message") if isinstance(error, dict) else error)[:300]
        code = str(error.get("code") if isinstance(error, dict) else "")
        expired = code == "batch_expired"
        name = "expired" if expired else "batch_error"
        return Line(key, None, CallError(name, told, transient=expired))

    async def _pages(self, path: str) -> Any:
        after = ""
        while True:
            mark = "&" if "?" in path else "?"
            page = await self._call("GET", f"{path}{mark}limit={PAGE}{after}")
            entries = page.get("data") or []
            for entry in entries:
                yield entry
            if not page.get("has_more") or not entries:
                return
            after = f"&after={entries[-1]['id']}"

    async def _call(
        self, method: str, path: str, body: bytes = b"", content_type: str = "application/json"
    ) -> dict[str, Any]:
        response = await self._send(method, path, body, content_type)
        try:
            value = json.loads(response.body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise CallError("broken_json", f"{path}: the batch API's answer is no JSON object")
        return value

    async def _send(self, method: str, path: str, body: bytes, content_type: str) -> Response:
        response = await self._client.call(method, path, body, content_type)
        if response.status != 200:
            told = self._secret.strike(response.body[:2000].decode("utf-8", errors="replace"))
            raise status_error(response.status, response.headers, told)
        return response


def _batch(value: dict[str, Any]) -> Batch:
    state = value.get("status")
    if state not in STATES or not isinstance(value.get("id"), str):
        raise CallError("batch_state", f"the provider shows a batch in state {str(state)[:40]!r}")
    counts = value.get("request_counts") or {}
    problems = (value.get("errors") or {}).get("data") or []
    return Batch(
        id=value["id"],
        state=state,
        output_file=value.get("output_file_id"),
        error_file=value.get("error_file_id"),
        answered=int(counts.get("completed") or 0),
        failed=int(counts.get("failed") or 0),
        problem="; ".join(str(problem.get("message")) for problem in problems[:3]),
    )
