"""What bytes each token of a tokenizer stands for, so that tokens of different tokenizers can be compared.

spelling = Spelling(tokenizer)                 # a fast tokenizer of transformers
spelling.pieces[42]                            # b" the", or "<|im_end|>" for a control token
spelling.first(b" then")                       # the token with which its text begins
"""

import json
from typing import TYPE_CHECKING, Any

from ledger.errors import InputError
from trainer.signals.hard import ChatTokenizer, structural_strings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BLANK = "\u2581"  # SentencePiece's sign for a space
Piece = bytes | str  # the bytes of text, or a control token's name

_ASIS = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
_REST = [byte for byte in range(256) if byte not in _ASIS]
# GPT-2's letters for bytes, which every byte-level tokenizer writes.
BYTE_OF = {chr(byte): byte for byte in _ASIS} | {chr(256 + i): b for i, b in enumerate(_REST)}
LETTER_OF = {byte: letter for letter, byte in BYTE_OF.items()}


class UnknownSpelling(InputError):
    """A tokenizer whose tokens are no pieces of text, such as WordPiece."""


class Spelling:
    """The pieces of a tokenizer's tokens, and the way back. Raises UnknownSpelling."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._backend: Tokenizer = tokenizer.backend_tokenizer
        backend = json.loads(self._backend.to_str())
        self._by_bytes = _mentions(backend, "ByteLevel")
        if backend["model"]["type"] == "WordPiece":
            raise UnknownSpelling(
                "a WordPiece tokenizer does not keep the blanks between words, so its tokens cannot be "
                "told from text: train by `signal: hard`, or take another teacher or base."
            )
        added = {int(token["id"]): str(token["content"]) for token in backend["added_tokens"]}
        control = set(structural_strings(tokenizer))
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        self.pieces: list[Piece] = [""] * (max(vocabulary.values()) + 1)
        self._numbers: dict[Piece, int] = {}
        for token, number in sorted(
            vocabulary.items(), key=lambda item: (is_byte(item[0]), item[1])
        ):
            if number not in added:
                piece: Piece = self._bytes(token)
            else:
                plain = token if self._by_bytes else token.replace(BLANK, " ")
                piece = token if token in control else plain.encode()
            if piece in self._numbers and is_byte(token):
                piece = token  # of a letter that has a token of its own: text is never cut so
            self.pieces[number] = piece
            if piece:
                self._numbers.setdefault(piece, number)
        self._longest = max((len(p) for p in self.pieces if isinstance(p, bytes)), default=0)
        self._first: dict[Piece, int | None] = {}

    def spell(self, ids: list[int]) -> list[Piece]:
        """The pieces of a row of tokens."""
        return [self.pieces[number] for number in ids]

    def first(self, piece: Piece) -> int | None:
        """The token of exactly this piece, else the first of those that this text is cut into."""
        if piece not in self._first:
            self._first[piece] = self._find_first(piece)
        return self._first[piece]

    def _find_first(self, piece: Piece) -> int | None:
        exact = self._numbers.get(piece)
        if exact is not None or isinstance(piece, str):
            return exact
        if (letters := self._letters(piece)) is not None:
            found = self._backend.model.tokenize(letters)
            if found and self._begins(piece, found[0].id):
                return int(found[0].id)
        for stop in range(min(len(piece) - 1, self._longest), 0, -1):
            if (number := self._numbers.get(piece[:stop])) is not None:
                return number
        return None

    def _begins(self, text: bytes, number: int) -> bool:
        piece = self.pieces[number] if number < len(self.pieces) else b""
        return isinstance(piece, bytes) and bool(piece) and text.startswith(piece)

    def _bytes(self, token: str) -> bytes:
        if self._by_bytes:
            known = all(letter in BYTE_OF for letter in token)
            return bytes(BYTE_OF[letter] for letter in token) if known else token.encode()
        if is_byte(token):
            return bytes([int(token[3:5], 16)])
        return token.replace(BLANK, " ").encode()

    def _letters(self, text: bytes) -> str | None:
        """Text as the tokenizer's model reads it; None for bytes that are no characters to it."""
        if self._by_bytes:
            return "".join(LETTER_OF[byte] for byte in text)
        try:
            return text.decode().replace(" ", BLANK)
        except UnicodeDecodeError:
            return None


def is_byte(token: str) -> bool:
    """Whether it is one of SentencePiece's tokens for characters that have none, such as `<0x0A>`."""
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _mentions(value: Any, kind: str) -> bool:
    """Whether a part of this type is anywhere in a tokenizer's description."""
    if isinstance(value, dict):
        return value.get("type") == kind or any(
            _mentions(part, kind) for name, part in value.items() if name != "vocab"
        )
    return isinstance(value, list) and any(_mentions(part, kind) for part in value)
