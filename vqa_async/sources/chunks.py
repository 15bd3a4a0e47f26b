"""The bytes of one input, in pieces, without ever blocking the event loop. What they mean is not known here.

A regular file is read through aiofiles. A pipe, a FIFO or standard input may stay silent for ever, and a
thread of the default executor that waits for it would hold up the end of the process; so those are read by
a daemon thread of their own, one piece for each that is asked for.
"""

from __future__ import annotations

import asyncio
import os
import queue
import stat
import threading
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Protocol, Self

import aiofiles.threadpool

from vqa_async.errors import InputError

# Rows of 100 bytes take about 8 microseconds each, so this much keeps the loop busy for some 20 ms.
CHUNK_BYTES = 1 << 18
# Enough to see what kind of input it is: the first line of nearly any data set.
_HEAD_BYTES = 1 << 16

_STDIN = 0


class Chunks:
    """An input as an async iterator of chunks, opened by ``async with``.

    Attributes:
        name: what the input is called in messages about its rows.
        size: its length in bytes, None for a pipe.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.name = "standard input" if path == "-" else os.path.basename(path)
        self.size: int | None = None
        self._head: bytes | None = None
        self._head_given = False
        self._reader: _Reader | None = None

    async def head(self) -> bytes:
        """The first bytes, without a byte order mark: enough to tell the format. Iterating gives them too."""
        if self._head is None:
            head = await self._read()
            while not _is_telling(head) and (more := await self._read()):
                head += more
            self._head = head.removeprefix(b"\xef\xbb\xbf")
        return self._head

    async def __aenter__(self) -> Self:
        try:
            self._reader = await self._open()
        except OSError as error:
            raise self._unreadable(error) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            await self._reader.close()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await (self._read() if self._head_given else self.head())
        self._head_given = True
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def _open(self) -> _Reader:
        if self._path != "-":
            status = await asyncio.to_thread(os.stat, self._path)
            if stat.S_ISREG(status.st_mode):
                self.size = status.st_size
                return _FileReader(self._path)
        return _PipeReader(self._path)

    async def _read(self) -> bytes:
        assert self._reader is not None
        try:
            return await self._reader.read()
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError) -> InputError:
        return InputError(f"{self.name} cannot be read: {error.strerror or error}.")


def _is_telling(head: bytes) -> bool:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    return len(head) >= _HEAD_BYTES or (len(head) > 4 and (text[:1] == b"[" or b"\n" in text))


class _Reader(Protocol):
    async def read(self) -> bytes: ...

    async def close(self) -> None: ...


class _FileReader:
    """Reads in a thread. Opening and closing take microseconds and cannot be cancelled half-way."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by whoever opened the Chunks
        self._in_thread = aiofiles.threadpool.wrap(self._file)

    async def read(self) -> bytes:
        chunk: bytes = await self._in_thread.read(CHUNK_BYTES)
        return chunk

    async def close(self) -> None:
        self._file.close()


class _PipeReader:
    """Reads in a daemon thread. A read that nobody waits for any more keeps only that thread waiting."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._wanted: queue.SimpleQueue[asyncio.Future[bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="vqa-async-input", daemon=True)
        self._thread.start()

    async def read(self) -> bytes:
        chunk: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._wanted.put(chunk)
        return await chunk

    async def close(self) -> None:
        self._wanted.put(None)

    def _serve(self) -> None:
        descriptor: int | None = None
        while (wanted := self._wanted.get()) is not None:
            try:
                if descriptor is None:  # opening a FIFO waits for its writer, so it happens here
                    descriptor = self._open()
                answer = _settle(wanted, os.read(descriptor, CHUNK_BYTES))
            except OSError as error:
                answer = _fail(wanted, error)
            try:
                wanted.get_loop().call_soon_threadsafe(answer)
            except RuntimeError:  # the loop was closed while this thread waited for the pipe
                break
        if descriptor not in (None, _STDIN):
            os.close(descriptor)

    def _open(self) -> int:
        return _STDIN if self._path == "-" else os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)


def _settle(wanted: asyncio.Future[bytes], chunk: bytes) -> Callable[[], None]:
    return lambda: None if wanted.done() else wanted.set_result(chunk)


def _fail(wanted: asyncio.Future[bytes], error: OSError) -> Callable[[], None]:
    return lambda: None if wanted.done() else wanted.set_exception(error)
