"""A provider that speaks OpenAI's files and batches on loopback, through all their states.

    with BatchServer(fates=["expired", "completed"]) as server:     # of the first batch, of the next

By hand, `python -m tests.faults.batch_server 8080`. A batch moves on by a step each time that somebody
looks at it. What was answered is billed, by the request's id; nothing else is.
"""

import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, Literal

from aiohttp import web

from tests.faults.loopback import LoopbackServer
from tests.faults.server import completion

Fate = Literal["completed", "expired", "failed", "stuck"]
Result = int | dict[str, Any] | Literal["no line"] | None
PAGE = 2  # short, so that lists have pages
STEPS: dict[
    Fate, tuple[tuple[str, float], ...]
] = {  # state, and the share that is answered by then
    "completed": (
        ("validating", 0.0),
        ("in_progress", 0.3),
        ("in_progress", 0.7),
        ("finalizing", 1.0),
        ("completed", 1.0),
    ),
    "expired": (("validating", 0.0), ("in_progress", 0.5), ("expired", 0.5)),
    "failed": (("validating", 0.0), ("failed", 0.0)),
    "stuck": (("validating", 0.0), ("in_progress", 0.5)),
}


@dataclass
class Job:
    """A batch at the provider."""

    id: str
    file: str
    fate: Fate
    lines: list[dict[str, Any]]
    metadata: dict[str, str]
    looks: int = 0
    state: str = "validating"
    output: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0  # lines that were tried

    @property
    def is_over(self) -> bool:
        return self.state in ("completed", "expired", "failed", "cancelled")


class BatchServer(LoopbackServer):
    """The provider.

    `rule(prompt, sending)` says what comes of a request at its n-th sending: None an answer, a status an
    error, a payload that very one, "no line" nothing at all. `early`: results can be read while a batch
    is in progress. `lose` names calls ("upload", "create", "look", "content", "cancel") whose answer is
    lost once, after the provider has done what they ask.
    """

    def __init__(
        self,
        rule: Callable[[str, int], Result] = lambda prompt, sending: None,
        fates: Iterable[Fate] = (),
        *,
        early: bool = False,
        lose: Iterable[str] = (),
        port: int = 0,
    ) -> None:
        super().__init__(port)
        self.rule, self.early, self.lose = rule, early, set(lose)
        good: Fate = "completed"
        self._fates = chain(fates, repeat(good))
        self.files: dict[str, tuple[str, bytes]] = {}  # by id: name and content
        self.jobs: dict[str, Job] = {}
        self.billed: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.looks = 0
        self.refuse = False  # the API key

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/files", self._upload),
            web.get("/v1/files", self._list_files),
            web.get("/v1/files/{id}/content", self._content),
            web.post("/v1/batches", self._create),
            web.get("/v1/batches", self._list_batches),
            web.get("/v1/batches/{id}", self._look),
            web.post("/v1/batches/{id}/cancel", self._cancel),
        ]

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        if self.refuse:
            return web.json_response({"error": {"message": "no such key"}}, status=401)
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        assert form["purpose"] == "batch"
        id_ = f"file-{len(self.files)}"
        self.files[id_] = (file.filename, file.file.read())
        return self._reply(request, "upload", self._shown_file(id_))

    async def _list_files(self, request: web.Request) -> web.StreamResponse:
        return _page(request, [self._shown_file(id_) for id_ in self.files])

    async def _content(self, request: web.Request) -> web.StreamResponse:
        kind, _, id_ = request.match_info["id"].partition("-of-")
        job = self.jobs[id_]
        lines = job.output if kind == "output" else job.errors
        if "content" in self.lose:
            return self._reply(request, "content", {})
        return web.Response(body=b"\n".join(map(_line, lines)))

    async def _create(self, request: web.Request) -> web.StreamResponse:
        wanted = await request.json()
        assert (wanted["endpoint"], wanted["completion_window"]) == ("/v1/chat/completions", "24h")
        content = self.files[wanted["input_file_id"]][1]
        lines = [json.loads(line) for line in content.splitlines()]
        assert len({line["custom_id"] for line in lines}) == len(lines)
        id_ = f"batch-{len(self.jobs)}"
        self.jobs[id_] = Job(
            id_, wanted["input_file_id"], next(self._fates), lines, wanted["metadata"]
        )
        return self._reply(request, "create", self._shown(self.jobs[id_]))

    async def _list_batches(self, request: web.Request) -> web.StreamResponse:
        return _page(request, [self._shown(job) for job in self.jobs.values()])

    async def _look(self, request: web.Request) -> web.StreamResponse:
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return web.json_response({"error": {"message": "no such batch"}}, status=404)
        self.looks += 1
        self._move_on(job)
        return self._reply(request, "look", self._shown(job))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        job = self.jobs[request.match_info["id"]]
        if job.is_over:
            return web.json_response({"error": {"message": f"it is {job.state}"}}, status=409)
        job.state = "cancelling"
        return self._reply(request, "cancel", self._shown(job))

    def _move_on(self, job: Job) -> None:
        if job.is_over:
            return
        if job.state == "cancelling":
            job.state = "cancelled"
            return
        steps = STEPS[job.fate]
        job.state, share = steps[min(job.looks, len(steps) - 1)]
        job.looks += 1
        until = round(share * len(job.lines))
        for line in job.lines[job.asked : until]:
            self._answer(job, line)
        job.asked = max(job.asked, until)
        if job.state == "expired":
            for line in job.lines[job.asked :]:
                error = {"code": "batch_expired", "message": "This request could not be executed"}
                job.errors.append({"custom_id": line["custom_id"], "error": error})

    def _answer(self, job: Job, line: dict[str, Any]) -> None:
        key, prompt = line["custom_id"], line["body"]["messages"][-1]["content"]
        self.sent[key] += 1
        result = self.rule(prompt, self.sent[key])
        if result == "no line":
            return
        if isinstance(result, int):
            response = {"status_code": result, "body": {"error": {"message": "no"}}}
            job.errors.append({"custom_id": key, "response": response, "error": None})
            return
        self.billed[key] += 1
        body = completion(f"echo {prompt}") if result is None else result
        response = {"status_code": 200, "request_id": "r", "body": body}
        job.output.append({"custom_id": key, "response": response, "error": None})

    def _shown(self, job: Job) -> dict[str, Any]:
        readable = job.is_over or self.early
        refused = {"data": [{"message": "line 1 is wrong"}]} if job.state == "failed" else None
        return {
            "id": job.id,
            "object": "batch",
            "status": job.state,
            "input_file_id": job.file,
            "output_file_id": f"output-of-{job.id}" if readable and job.output else None,
            "error_file_id": f"errors-of-{job.id}" if readable and job.errors else None,
            "errors": refused,
            "metadata": job.metadata,
            "request_counts": {
                "total": len(job.lines),
                "completed": len(job.output),
                "failed": len(job.errors),
            },
        }

    def _shown_file(self, id_: str) -> dict[str, Any]:
        return {"id": id_, "object": "file", "filename": self.files[id_][0], "purpose": "batch"}

    def _reply(self, request: web.Request, call: str, value: Any) -> web.StreamResponse:
        if call in self.lose:
            self.lose.remove(call)
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(value)


def _line(value: dict[str, Any]) -> bytes:
    """A line as providers write it: UTF-8, escaped only where it must be."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def _page(request: web.Request, entries: list[dict[str, Any]]) -> web.StreamResponse:
    """The newest first, a page at a time, as the provider lists things."""
    newest = entries[::-1]
    after = request.query.get("after")
    begin = next((i + 1 for i, entry in enumerate(newest) if entry["id"] == after), 0)
    page = newest[begin : begin + PAGE]
    return web.json_response({"data": page, "has_more": begin + PAGE < len(newest)})


if __name__ == "__main__":
    with BatchServer(port=int(sys.argv[1])) as server:
        print(server.url, flush=True)
        threading.Event().wait()
