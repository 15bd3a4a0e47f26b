"""A line or an item that arrives in pieces, held up to a limit and only digested beyond it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

MAX_TEXT_BYTES = 64 << 20
"""Longest line or item that is read: some data sets hold their images inline, but not this many."""

_START_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Oversize:
    """What is kept of a text over the limit: how it begins, and a digest of all of it."""

    start: bytes
    digest: bytes
    length: int

    def __len__(self) -> int:
        return self.length


class Pieces:
    """Puts a text together; ``limit`` is the most that is held, in bytes."""

    __slots__ = ("_digest", "_length", "_limit", "_pieces")

    def __init__(self, limit: int = MAX_TEXT_BYTES) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._length = 0
        self._digest: blake2b | None = None

    def __bool__(self) -> bool:
        return self._length > 0

    def add(self, piece: bytes) -> None:
        """Append ``piece``."""
        self._length += len(piece)
        if self._digest is not None:
            self._digest.update(piece)
            return
        self._pieces.append(piece)
        if self._length > self._limit:
            self._let_go()

    def take(self) -> bytes | Oversize:
        """All that was added since the last call."""
        whole = b"".join(self._pieces)
        digest, length = self._digest, self._length
        self._pieces, self._length, self._digest = [], 0, None
        return whole if digest is None else Oversize(whole, digest.digest(), length)

    def _let_go(self) -> None:
        digest = self._digest = blake2b(digest_size=16)
        for piece in self._pieces:
            digest.update(piece)
        self._pieces = [b"".join(self._pieces)[:_START_BYTES]]
