"""A map from text ids to a few bytes, at some 20 bytes an entry: which records are done, which ids were seen.

A Python set of ids costs over 100 bytes an entry; a run over ten million records has two such tables in
memory. Here an id is hashed (blake2b), part of the hash chooses one of 16,384 buckets, and the bucket is a
bytearray of fixed-size entries that is searched with ``bytearray.find``, at C speed.

Two ids are confused only if their hashes agree in 14 + 8 x ``key_bytes`` bits: at ten million ids and 8
bytes the chance that any two do is about 1e-8, at 12 bytes below 1e-17.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

_BUCKETS = 1 << 14


class KeyTable:
    """Maps ids to values of a fixed number of bytes.

    Args:
        key_bytes: bytes of the hash kept per entry, besides the 14 bits that choose the bucket.
        value_bytes: length of every value.
    """

    __slots__ = ("_buckets", "_count", "_key_bytes", "_stride", "_value_bytes")

    def __init__(self, *, key_bytes: int, value_bytes: int) -> None:
        self._key_bytes = key_bytes
        self._value_bytes = value_bytes
        self._stride = key_bytes + value_bytes
        self._buckets: dict[int, bytearray] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, id: str) -> bytes | None:
        """The value stored for ``id``, or None."""
        bucket, at, _ = self._find(id)
        if bucket is None or at < 0:
            return None
        return bytes(bucket[at + self._key_bytes : at + self._stride])

    def set(self, id: str, value: bytes) -> None:
        """Store ``value`` for ``id``, replacing what was there."""
        bucket, at, place = self._find(id)
        if bucket is None or at < 0:
            self._add(bucket, place, value)
        else:
            bucket[at + self._key_bytes : at + self._stride] = value

    def setdefault(self, id: str, value: bytes) -> bytes | None:
        """The value that is there already; None where there was none, and then ``value`` is stored."""
        bucket, at, place = self._find(id)
        if bucket is None or at < 0:
            self._add(bucket, place, value)
            return None
        return bytes(bucket[at + self._key_bytes : at + self._stride])

    def _add(self, bucket: bytearray | None, place: tuple[int, bytes], value: bytes) -> None:
        assert len(value) == self._value_bytes
        number, key = place
        if bucket is None:
            bucket = self._buckets[number] = bytearray()
        bucket += key + value
        self._count += 1

    def values(self) -> Iterator[bytes]:
        """All values, in no particular order."""
        for bucket in self._buckets.values():
            for at in range(self._key_bytes, len(bucket), self._stride):
                yield bytes(bucket[at : at + self._value_bytes])

    def _find(self, id: str) -> tuple[bytearray | None, int, tuple[int, bytes]]:
        # surrogatepass: an id read from a file name may hold lone surrogates.
        digest = blake2b(id.encode("utf-8", "surrogatepass"), digest_size=self._key_bytes + 2).digest()
        number = int.from_bytes(digest[:2], "big") & (_BUCKETS - 1)
        key = digest[2:]
        bucket = self._buckets.get(number)
        if bucket is None:
            return None, -1, (number, key)
        at = bucket.find(key)
        while at >= 0 and at % self._stride:  # a match across two entries, or inside a value
            at = bucket.find(key, at + 1)
        return bucket, at, (number, key)
