"""Rows of a blocking reader, handed over from a thread of its own in batches, as chunks of bytes are."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from types import TracebackType
from typing import Self, cast

from vqa_async.errors import VQAError
from vqa_async.models import Failure, Record
from vqa_async.sources.chunks import Chunks
from vqa_async.sources.embedded import TableRow
from vqa_async.sources.own_thread import OwnThread
from vqa_async.sources.rows import RowReader

_MOST_ROWS = 256
_MOST_BYTES = 2 << 20
"""A hop between threads costs as much as reading a few rows; what is handed over at once is held at once."""


class RowBatches:
    """An async iterator of lists of rows, opened by ``async with``."""

    def __init__(self, rows: Iterable[TableRow]) -> None:
        self._rows = rows
        self._iterator: Iterator[TableRow] | None = None
        self._error: VQAError | None = None
        self._thread = OwnThread()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._thread.end(self._close)

    def __aiter__(self) -> AsyncIterator[list[TableRow]]:
        return self

    async def __anext__(self) -> list[TableRow]:
        batch = await self._thread.do(self._batch)
        if not batch:
            raise StopAsyncIteration
        return batch

    def _batch(self) -> list[TableRow]:
        """The next rows; an error waits until the rows before it are delivered."""
        if self._error is not None:
            raise self._error
        if self._iterator is None:
            self._iterator = iter(self._rows)
        batch: list[TableRow] = []
        weight = 0
        try:
            for row in self._iterator:
                batch.append(row)
                weight += row.weight
                if len(batch) == _MOST_ROWS or weight >= _MOST_BYTES:
                    break
        except VQAError as error:
            if not batch:
                raise
            self._error = error
        return batch

    def _close(self) -> None:
        if self._iterator is not None:
            cast("Generator[TableRow, None, None]", self._iterator).close()


class TableRows:
    """Reads the records of batches of rows.

    Args:
        rows: reads each row.
        first: index of the first.

    Attributes:
        count: rows so far.
    """

    def __init__(self, rows: RowReader, *, first: int = 0) -> None:
        self.count = 0
        self._first = first
        self._rows = rows

    def feed(self, batch: list[TableRow]) -> Iterator[Record | Failure]:
        """The records of ``batch``."""
        rows, first = self._rows, self._first
        for row in batch:
            index = first + self.count
            self.count += 1
            if row.reason:
                yield rows.broken(row.raw, index=index, where=row.where, reason=row.reason, code=row.code)
            else:
                yield rows.read(row.asked, index=index, where=row.where, written=row.written)

    def end(self) -> Iterator[Record | Failure]:
        """Nothing: a row is whole or is none."""
        return iter(())


class PulledBytes:
    """``Chunks`` as a file that a thread reads from, while the event loop fetches what it asks for.

    Made on the event loop that the chunks belong to.
    """

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._left = memoryview(b"")
        self._pulled: concurrent.futures.Future[bytes] | None = None
        self._is_left = False

    def leave(self) -> None:
        """Nobody wants any more of it: a read that waits ends now. Called on the event loop."""
        self._is_left = True
        if self._pulled is not None:
            self._pulled.cancel()

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        if not self._left:
            if self._is_left:
                raise concurrent.futures.CancelledError
            self._pulled = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            self._left = memoryview(self._pulled.result())
        piece = bytes(self._left[:size])
        self._left = self._left[size:]
        return piece

    async def _next(self) -> bytes:
        return await anext(self._chunks, b"")
