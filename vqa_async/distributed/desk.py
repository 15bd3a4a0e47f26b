"""What all workers are told: their number, and when to stop. An actor of Ray beside the driver.

Nobody polls it: a question is answered when there is something to say. It holds nothing that could not be
lost: if its process is killed, workers come again with the numbers that they have.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from vqa_async.errors import VQAError


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ends early, and whether it does so without waiting for what is in flight."""

    reason: VQAError | str
    at_once: bool = False


class Desk:
    """Where workers report. Its methods are called by Ray, in one event loop.

    Args:
        workers: how many are expected.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._numbers: dict[str, int] = {}
        self._working: set[str] = set()
        self._stop: Stop | None = None
        self._changed = asyncio.Condition()

    async def join(self, name: str) -> int:
        """A worker begins, perhaps again; its number, from 0."""
        number = self._numbers.setdefault(name, len(self._numbers) % self._workers)
        self._working.add(name)
        await self._tell()
        return number

    async def leave(self, name: str) -> None:
        """A worker will send nothing more."""
        self._working.discard(name)
        await self._tell()

    async def all_there(self) -> None:
        """Returns once as many have joined as are expected, or none need come any more."""
        await self._wait(lambda: len(self._numbers) >= self._workers or self._stop is not None)

    async def all_left(self) -> None:
        """Returns once nobody works."""
        await self._wait(lambda: not self._working)

    async def stop(self, stop: Stop) -> None:
        """Let all of them end."""
        self._stop = stop
        await self._tell()

    async def is_stopping(self) -> bool:
        """Whether nobody needs more chunks."""
        return self._stop is not None

    async def stopped(self, heard: Stop | None) -> Stop:
        """Returns once there is another reason to end than the one that was ``heard``."""
        await self._wait(lambda: self._stop is not None and (heard is None or self._stop.at_once))
        assert self._stop is not None
        return self._stop

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _wait(self, until: object) -> None:
        async with self._changed:
            await self._changed.wait_for(until)  # type: ignore[arg-type]
