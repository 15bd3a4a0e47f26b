"""From one producer to many workers: a bounded queue that wakes the producer in bulk.

``asyncio.Queue`` wakes its producer for each item that is taken from a full queue, so every record costs
the loop two turns more. Here the producer sleeps until half of the room is free, and then fills it in one go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """A bounded first-in-first-out queue. Belongs to one event loop and has one producer.

    Args:
        capacity: items that wait at most.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._loop = asyncio.get_running_loop()
        self._items: deque[T] = deque()
        self._getters: deque[asyncio.Future[None]] = deque()
        self._room: asyncio.Future[None] | None = None
        self._ended = False

    def __repr__(self) -> str:
        return f"Handover({len(self._items)} of {self._capacity}, {len(self._getters)} waiting)"

    async def put(self, item: T) -> None:
        """Add ``item``; where the queue is full, wait until half of it is taken."""
        if len(self._items) >= self._capacity:
            self._room = self._loop.create_future()
            try:
                await self._room
            finally:
                self._room = None
        self._items.append(item)
        self._wake_getter()

    def end(self) -> None:
        """No more items: who waits, and who comes when all is taken, gets None."""
        self._ended = True
        while self._getters:
            self._wake_getter()

    async def get(self) -> T | None:
        """The next item; None after the last."""
        while not self._items:
            if self._ended:
                return None
            getter = self._loop.create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter.done() and not getter.cancelled() and self._items:
                    self._wake_getter()  # what we were woken for is for the next one
                raise
        item = self._items.popleft()
        if self._room is not None and not self._room.done() and len(self._items) <= self._capacity // 2:
            self._room.set_result(None)
        return item

    def _wake_getter(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return
