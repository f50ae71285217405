"""Response bodies under a cap: counted after decompression, and never unpacked beyond it."""

import zlib

from router.teachers.errors import CallError

MAX_BODY_BYTES = 32 * 2**20


class Body:
    """Collects a body chunk by chunk. `encoding` is the Content-Encoding header."""

    def __init__(self, encoding: str, limit: int = MAX_BODY_BYTES) -> None:
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise _unusable("encoded_body", f"the answer is packed as {encoding[:40]!r}, unasked")
        self._limit = limit
        self._whole = bytearray()
        # 32 + MAX_WBITS: gzip or zlib, whichever the header says
        self._unpack = None if encoding in ("", "identity") else zlib.decompressobj(47)

    def feed(self, chunk: bytes) -> bytes:
        """Adds a chunk; returns what it unpacks to. Raises CallError past the limit."""
        room = self._limit - len(self._whole) + 1
        if self._unpack is None:
            plain = chunk
        else:
            try:
                plain = self._unpack.decompress(chunk, room)
            except zlib.error as error:
                raise _unusable("broken_body", f"the answer cannot be unpacked: {error}") from error
        self._whole += plain
        if len(self._whole) > self._limit:
            raise _unusable(
                "body_too_large", f"the answer is larger than {self._limit // 2**20} MiB"
            )
        return plain

    def whole(self) -> bytes:
        """The body, once all of it was fed."""
        return bytes(self._whole)


def _unusable(error_class: str, message: str) -> CallError:
    return CallError(error_class, message, state="invalid", charged_usd=None)
