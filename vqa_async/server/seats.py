"""How many requests are worked on at once. Those beyond wait, first come first served, or are refused."""

from __future__ import annotations

from asyncio import Semaphore
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vqa_async.server.options import ServerOptions
from vqa_async.server.refusals import Refusal, retry_headers


class Seats:
    """Seats at the endpoint, as many as ``max_concurrency``."""

    def __init__(self, options: ServerOptions) -> None:
        self._free = Semaphore(options.max_concurrency) if options.max_concurrency else None
        self._options = options
        self._taken = 0

    @asynccontextmanager
    async def take(self) -> AsyncIterator[int]:
        """Hold a seat; gives how many are taken, this one included.

        Raises:
            Refusal: 429, where all are taken and nobody is let wait.
        """
        if self._free is not None:
            self._refuse_if_full(self._free)
            await self._free.acquire()
        self._taken += 1
        try:
            yield self._taken
        finally:
            self._taken -= 1
            if self._free is not None:
                self._free.release()

    def _refuse_if_full(self, free: Semaphore) -> None:
        if self._options.overload == "429" and free.locked():
            said = f"Overloaded: {self._options.max_concurrency} requests are already being worked on."
            headers = retry_headers(self._options.retry_after)
            raise Refusal(429, said, type="rate_limit_error", code="overloaded", headers=headers)
