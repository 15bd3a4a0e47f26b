"""A map from text ids to a few bytes, at some 20 bytes an entry: which records are done, which ids were seen.

A Python set of ids costs over 100 bytes an entry; a run over ten million records has two such tables in
memory. Here an id is hashed (blake2b), part of the hash chooses one of 16,384 buckets, and the bucket is a
bytearray of fixed-size entries that is searched with ``bytearray.find``, at C speed.

Two ids are confused only if their hashes agree in 14 + 8 x ``key_bytes`` bits: at ten million ids and 8
bytes the chance that any two do is about 1e-8, at 12 bytes below 1e-17.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TypeAlias

_SEVEN_BITS = (1 << 7) - 1

_Shelf: TypeAlias = list[bytearray | None]
"""128 buckets. Shelves and buckets are made when they are first needed, so a small table is small."""


class KeyTable:
    """Maps ids to values of a fixed number of bytes.

    Args:
        key_bytes: bytes of the hash kept per entry, besides the 14 bits that choose the bucket.
        value_bytes: length of every value.
    """

    __slots__ = ("_count", "_digest_bytes", "_key_bytes", "_shelves", "_stride", "_value_bytes")

    def __init__(self, *, key_bytes: int, value_bytes: int) -> None:
        self._digest_bytes = 2 + key_bytes
        self._key_bytes = key_bytes
        self._value_bytes = value_bytes
        self._stride = key_bytes + value_bytes
        self._shelves: list[_Shelf | None] = [None] * (_SEVEN_BITS + 1)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, id: str) -> bytes | None:
        """The value stored for ``id``, or None."""
        shelf, number, key = self._place(id)
        bucket = shelf[number]
        at = self._find(bucket, key)
        return self._value(bucket, at) if bucket is not None and at >= 0 else None

    def set(self, id: str, value: bytes) -> None:
        """Store ``value`` for ``id``, replacing what was there."""
        assert len(value) == self._value_bytes
        shelf, number, key = self._place(id)
        bucket = shelf[number]
        at = self._find(bucket, key)
        if bucket is None or at < 0:
            self._add(shelf, number, key + value)
        else:
            bucket[at + self._key_bytes : at + self._stride] = value

    def setdefault(self, id: str, value: bytes) -> bytes | None:
        """The value that is there already; None where there was none, and then ``value`` is stored."""
        assert len(value) == self._value_bytes
        shelf, number, key = self._place(id)
        bucket = shelf[number]
        at = self._find(bucket, key)
        if bucket is None or at < 0:
            self._add(shelf, number, key + value)
            return None
        return self._value(bucket, at)

    def _place(self, id: str) -> tuple[_Shelf, int, bytes]:
        """Where ``id`` belongs: the shelf, the number of the bucket on it, the key in the bucket."""
        # surrogatepass: an id read from a file name may hold lone surrogates.
        digest = blake2b(id.encode("utf-8", "surrogatepass"), digest_size=self._digest_bytes).digest()
        number = digest[0] & _SEVEN_BITS
        shelf = self._shelves[number]
        if shelf is None:
            shelf = self._shelves[number] = [None] * (_SEVEN_BITS + 1)
        return shelf, digest[1] & _SEVEN_BITS, digest[2:]

    def _find(self, bucket: bytearray | None, key: bytes) -> int:
        """Where the entry with ``key`` begins in ``bucket``, -1 where there is none."""
        if bucket is None:
            return -1
        at = bucket.find(key)
        while at >= 0 and at % self._stride:  # a match across two entries, or inside a value
            at = bucket.find(key, at + 1)
        return at

    def _value(self, bucket: bytearray, at: int) -> bytes:
        return bytes(bucket[at + self._key_bytes : at + self._stride])

    def _add(self, shelf: _Shelf, number: int, entry: bytes) -> None:
        bucket = shelf[number]
        if bucket is None:
            shelf[number] = bytearray(entry)
        else:
            bucket += entry
        self._count += 1
