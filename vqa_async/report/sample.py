"""A sample that is the same each time, however the output is ordered: the records whose ids hash lowest."""

from __future__ import annotations

import heapq
from hashlib import blake2b


class Sample:
    """Offered all ids first, it then says which are in it. Its memory is that of the sample.

    Args:
        size: records in it; 0: all.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._keys: list[int] = []  # the lowest so far, negated, so that the highest of them is at hand

    def offer(self, id: str) -> None:
        """Take note of a record."""
        key = -_key(id)
        if len(self._keys) < self._size:
            heapq.heappush(self._keys, key)
        elif self._size and key > self._keys[0]:
            heapq.heapreplace(self._keys, key)

    def has(self, id: str) -> bool:
        """Whether a record that was offered is in it."""
        return not self._size or -_key(id) >= self._keys[0]


def _key(id: str) -> int:
    return int.from_bytes(blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
