"""Blocking work on a thread of its own, one thing at a time, without ever holding up the event loop.

A daemon thread, not one of the default executor: what reads a pipe may wait for ever, and the end of the
process would wait with it. Libraries whose readers belong to one thread are glad of it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

_Call: TypeAlias = "tuple[asyncio.Future[Any], Callable[[], Any]]"


class OwnThread:
    """A daemon thread, started with the first call. Belongs to one event loop."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._unfinished = 0

    async def do(self, work: Callable[[], T]) -> T:
        """``work()`` there. Who is cancelled meanwhile leaves the thread to finish it alone."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="vqa-async-input", daemon=True)
            self._thread.start()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._unfinished += 1
        self._calls.put((done, work))
        return await done

    async def end(self, last: Callable[[], object]) -> None:
        """Do ``last`` and let the thread end; waited for, unless it is busy with what nobody waits for."""
        if self._thread is None:
            return
        if self._unfinished:
            self._calls.put((asyncio.get_running_loop().create_future(), last))
        else:
            await self.do(last)
        self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            done, work = call
            answer, error = None, None
            try:
                answer = work()
            except BaseException as raised:
                error = raised  # it goes on where it is waited for, whatever it is
            with contextlib.suppress(RuntimeError):  # the loop was closed while this thread waited
                done.get_loop().call_soon_threadsafe(self._settle, done, answer, error)
            del call, done, work, answer, error  # nothing of them is kept while this waits for the next

    def _settle(self, done: asyncio.Future[Any], answer: object, error: BaseException | None) -> None:
        self._unfinished -= 1
        if done.done():
            return
        if error is None:
            done.set_result(answer)
        else:
            done.set_exception(error)
