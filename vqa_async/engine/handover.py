"""From one producer to many workers: a bounded queue that wakes the producer in bulk and keeps alike
together.

``asyncio.Queue`` wakes its producer for each item that is taken from a full queue, so every record costs
the loop two turns more. Here the producer sleeps until half of the room is free, and then fills it in one go.

Items with the same key, records that ask about the same image, are given out one after the other, as far as
they are in the queue together: it is encoded once, and the endpoint finds it in its caches.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

_IN_A_ROW = 64
"""Items of one key that are given out before others get their turn, if it has so many."""


class Handover(Generic[T]):
    """A bounded queue, first in first out but for items of one key. Belongs to one event loop; one producer.

    Args:
        capacity: items that wait at most.
        most_bytes: and what they may weigh together, about: one more item comes in while they weigh less.
    """

    def __init__(self, capacity: int, most_bytes: int = 64 << 20) -> None:
        self._capacity = capacity
        self._most_bytes = most_bytes
        self._bytes = 0
        self._weights: dict[int, int] = {}  # of items that have any, by what id() says of them
        self._loop = asyncio.get_running_loop()
        self._groups: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._count = 0
        self._in_a_row = 0
        self._getters: deque[asyncio.Future[None]] = deque()
        self._room: asyncio.Future[None] | None = None
        self._ended = False

    def __repr__(self) -> str:
        return f"Handover({self._count} of {self._capacity}, {len(self._getters)} waiting)"

    async def put(self, item: T, key: Hashable = None, weight: int = 0) -> None:
        """Add ``item``; where the queue is full, wait until half of it is taken.

        ``key`` is what it has in common with others; None: nothing. ``weight``: bytes that it holds.
        """
        if self._count >= self._capacity or self._bytes >= self._most_bytes:
            self._room = self._loop.create_future()
            try:
                await self._room
            finally:
                self._room = None
        if key is None:
            key = object()
        group = self._groups.get(key)
        if group is None:
            self._groups[key] = deque((item,))
        else:
            group.append(item)
        self._count += 1
        if weight:
            self._weights[id(item)] = weight
            self._bytes += weight
        self._wake_getter()

    def end(self) -> None:
        """No more items: who waits, and who comes when all is taken, gets None."""
        self._ended = True
        while self._getters:
            self._wake_getter()

    async def get(self) -> T | None:
        """The next item; None after the last."""
        while not self._groups:
            if self._ended:
                return None
            getter = self._loop.create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter.done() and not getter.cancelled() and self._groups:
                    self._wake_getter()  # what we were woken for is for the next one
                raise
        item = self._take()
        if self._weights:
            self._bytes -= self._weights.pop(id(item), 0)
        if self._room is not None and not self._room.done() and self._has_room():
            self._room.set_result(None)
        return item

    def _has_room(self) -> bool:
        return self._count <= self._capacity // 2 and self._bytes <= self._most_bytes // 2

    def _take(self) -> T:
        key, group = self._groups.popitem(last=False)
        item = group.popleft()
        self._count -= 1
        self._in_a_row += 1
        if not group:
            self._in_a_row = 0
        else:
            self._groups[key] = group
            if self._in_a_row < _IN_A_ROW:
                self._groups.move_to_end(key, last=False)
            else:
                self._in_a_row = 0
        return item

    def _wake_getter(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return
