"""Content keys: what a thing is decides its name, so nothing is bought or computed twice.

A key is the SHA-256 over canonical JSON (UTF-8, sorted keys), cut to 128 bits, as 32 hex digits.
`max_tokens` is in no key: an answer that ended by itself serves every cap.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(value: Any) -> bytes:
    """Sorted, compact UTF-8 JSON. Lone surrogates stay apart from the text they would decode to.

    Raises ValueError for NaN and infinities, which JSON cannot hold.
    """
    return _CANONICAL.encode(value).encode("utf-8", errors="surrogatepass")


def content_key(value: Any) -> str:
    """128 bits of SHA-256 over the value's canonical JSON, as 32 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:32]


def text_hash(text: str) -> str:
    """SHA-256 of a text, as 64 hex digits."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def prompt_key(
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
    json_schema: Mapping[str, Any] | None = None,
) -> str:
    """The identity of a prompt: its messages, its tools, and the form that its answer must have."""
    prompt: dict[str, Any] = {"messages": list(messages), "tools": list(tools) if tools else None}
    if json_schema is not None:
        prompt["json_schema"] = json_schema
    return content_key(prompt)


def teacher_key(
    *,
    model: str,
    revision: str,
    kind: str,
    quantisation: str = "",
    system: str = "",
    template: str = "",
    url: str | None = None,
) -> str:
    """The identity of a teacher: whatever could change its answers."""
    return content_key(
        {
            "model": model,
            "revision": revision,
            "kind": kind,
            "quantisation": quantisation,
            "system": system,
            "template": template,
            "url": url,
        }
    )


def request_key(prompt: str, teacher: str, sampling: Mapping[str, Any], n: int) -> str:
    """The identity of a request: prompt, teacher, sampling (never `max_tokens`) and n-th answer."""
    return content_key([prompt, teacher, dict(sampling), n])


def sample_key(request: str, response: str) -> str:
    """The identity of a sample: the request and the text that answered it."""
    return content_key([request, response])


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits, read in 1 MiB pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_hash(folder: Path, patterns: Iterable[str]) -> str:
    """A key over the names and contents of the files in `folder` that match a glob pattern."""
    files = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return content_key({str(path.relative_to(folder)): file_hash(path) for path in files})


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a temporary file beside `path`, syncs it and renames it: whole or absent, never torn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with scratch.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def now_us() -> int:
    """Microseconds since the epoch, as every time column holds them."""
    return time.time_ns() // 1000
