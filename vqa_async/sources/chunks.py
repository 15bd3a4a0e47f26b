"""The bytes of one input, in pieces, without ever blocking the event loop. What they mean is not known here.

A regular file is read through aiofiles. A pipe, a FIFO or standard input may stay silent for ever, and a
thread of the default executor that waits for it would hold up the end of the process; so those are read by
a daemon thread of their own, one piece for each that is asked for; and so is what fsspec opens. Compressed
bytes, whatever they come from, are unpacked on the way.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Protocol, Self

import aiofiles.threadpool

from vqa_async.errors import InputError
from vqa_async.sources.compression import Decompressor, compression_of
from vqa_async.sources.own_thread import OwnThread
from vqa_async.sources.remote import RemoteFile, is_address

# Rows of 100 bytes take about 8 microseconds each, so this much keeps the loop busy for some 20 ms.
CHUNK_BYTES = 1 << 18
# Enough to see what kind of input it is: the first line of nearly any data set.
_HEAD_BYTES = 1 << 16

_STDIN = 0


class Chunks:
    """An input as an async iterator of chunks, opened by ``async with``.

    Args:
        path: a path, an address, or "-" for standard input.
        name: what the input is called in messages about its rows.

    Attributes:
        name: the same.
        size: its length in bytes, None where it is not known.
        read: bytes of it that were read, before they were unpacked.
        is_packed: whether it is compressed; known when the head is.
    """

    def __init__(self, path: str, name: str) -> None:
        self._path = path
        self.name = name
        self.size: int | None = None
        self.read = 0
        self.is_packed = False
        self._head: bytes | None = None
        self._head_given = False
        self._reader: _Reader | None = None
        self._unpacking: Decompressor | None = None
        self._unpacked: Iterator[bytes] = iter(())
        self._broken: InputError | None = None

    async def head(self) -> bytes:
        """The first bytes, without a byte order mark: enough to tell the format. Iterating gives them too."""
        if self._head is None:
            head = await self._first()
            while not _is_telling(head) and (more := await self._next()):
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
        chunk = await (self._next() if self._head_given else self.head())
        self._head_given = True
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def _open(self) -> _Reader:
        if is_address(self._path):
            return _RemoteReader(self._path)
        if self._path != "-":
            status = await asyncio.to_thread(os.stat, self._path)
            if stat.S_ISREG(status.st_mode):
                self.size = status.st_size
                return _FileReader(self._path)
        return _PipeReader(self._path)

    async def _first(self) -> bytes:
        """The first bytes, and from here on whatever is packed is unpacked."""
        start = await self._read()
        while len(start) < 4 and (more := await self._read()):
            start += more
        if not (method := compression_of(start)):
            return start
        self.is_packed = True
        self._unpacking = Decompressor(self.name, method)
        self._unpacked = self._unpacking.feed(start)
        return await self._next()

    async def _next(self) -> bytes:
        unpacking = self._unpacking
        if unpacking is None:
            return await self._read()
        while True:
            # Pieces of a few rows each would cost more in turns than in reading: they are put together.
            whole, length = [], 0
            try:
                for piece in self._unpacked:
                    whole.append(piece)
                    length += len(piece)
                    if length >= CHUNK_BYTES:
                        break
            except InputError as error:
                self._broken = error  # after what stands before the damaged place
            if whole:
                return b"".join(whole)
            if self._broken is not None:
                raise self._broken
            if not (packed := await self._read()):
                unpacking.end()
                return b""
            self._unpacked = unpacking.feed(packed)

    async def _read(self) -> bytes:
        assert self._reader is not None
        try:
            chunk = await self._reader.read()
        except OSError as error:
            raise self._unreadable(error) from None
        self.read += len(chunk)
        return chunk

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
        self._descriptor: int | None = None
        self._thread = OwnThread()

    async def read(self) -> bytes:
        return await self._thread.do(self._read)

    async def close(self) -> None:
        await self._thread.end(self._close)

    def _read(self) -> bytes:
        if self._descriptor is None:  # opening a FIFO waits for its writer, so it happens here
            is_stdin = self._path == "-"
            self._descriptor = _STDIN if is_stdin else os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return os.read(self._descriptor, CHUNK_BYTES)

    def _close(self) -> None:
        if self._descriptor not in (None, _STDIN):
            os.close(self._descriptor)


class _RemoteReader:
    """Reads what fsspec opens, in a daemon thread."""

    def __init__(self, address: str) -> None:
        self._file = RemoteFile(address)
        self._thread = OwnThread()

    async def read(self) -> bytes:
        return await self._thread.do(lambda: self._file.read(CHUNK_BYTES))

    async def close(self) -> None:
        await self._thread.end(self._file.close)
