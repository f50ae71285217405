"""Response bodies under a cap: counted after decompression, and never unpacked beyond it."""

import zlib

from router.teachers.errors import CallError

MAX_BODY_BYTES = 32 * 2**20
PIECE_BYTES = 64 * 1024  # unpacked at a time


class Body:
    """Collects a body chunk by chunk. `encoding` is the Content-Encoding header."""

    def __init__(self, encoding: str, limit: int = MAX_BODY_BYTES) -> None:
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise _unusable("encoded_body", f"the answer is packed as {encoding[:40]!r}, unasked")
        self._limit = limit
        self._size = 0
        self._pieces: list[bytes] = []
        # 32 + MAX_WBITS: gzip or zlib, whichever the header says
        self._unpack = None if encoding in ("", "identity") else zlib.decompressobj(47)

    def feed(self, chunk: bytes) -> bytes:
        """Adds a chunk; returns what it unpacks to. Raises CallError past the limit."""
        if self._unpack is None:
            self._add(chunk)
            return chunk
        before = len(self._pieces)
        try:
            while chunk:
                self._add(self._unpack.decompress(chunk, PIECE_BYTES))
                chunk = self._unpack.unconsumed_tail
        except zlib.error as error:
            raise _unusable("broken_body", f"the answer cannot be unpacked: {error}") from error
        return b"".join(self._pieces[before:])

    @property
    def size(self) -> int:
        """Bytes so far, unpacked."""
        return self._size

    def whole(self) -> bytes:
        """The body, once all of it was fed."""
        return b"".join(self._pieces)

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise _unusable(
                "body_too_large", f"the answer is larger than {self._limit // 2**20} MiB"
            )
        self._pieces.append(piece)


def _unusable(error_class: str, message: str) -> CallError:
    return CallError(error_class, message, state="invalid", charged_usd=None)
