"""Group commit: whatever has accumulated while the last block was written goes out as the next one.

One task owns both files. A caller hands in a line and waits until the block that holds it is written (and
synced, with ``fsync=always``), so what is acknowledged is in the file. Blocking calls run in a thread of
their own; a slow disk slows those who wait for it, not the event loop.

If writing fails, the files are cut back to the last whole line, and every later call fails at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from vqa_async.errors import DiskError

FsyncMode = Literal["always", "interval", "never"]

T = TypeVar("T")

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
for _name in ("O_CLOEXEC", "O_NOFOLLOW", "O_BINARY"):  # none of them is there on every system
    _FLAGS |= getattr(os, _name, 0)


class AppendFile:
    """A file that is only appended to, by whole blocks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, _FLAGS, 0o666)
        self.is_dirty = False
        self._size = os.fstat(self.fd).st_size
        self._closed = False

    def append(self, block: bytes) -> None:
        """Write all of ``block``, or nothing of it.

        Raises:
            OSError: the disk is full or failing; the file is as it was before.
        """
        try:
            self._write_all(block)
        except OSError:
            os.ftruncate(self.fd, self._size)
            raise
        self._size += len(block)
        self.is_dirty = True

    def _write_all(self, block: bytes) -> None:
        view = memoryview(block)
        while view:  # a nearly full disk takes a part and says so
            view = view[os.write(self.fd, view) :]

    def sync(self, *, force: bool) -> None:
        """Check that what was written is still there, and with ``force`` force it to the disk.

        Raises:
            OSError: it is not, or the disk fails. Not to be retried: after a failed fsync the system may have
                dropped the data and forgotten about it.
        """
        if self.is_dirty:
            self.is_dirty = False
            if force:
                os.fsync(self.fd)
            self._require_ours()

    def _require_ours(self) -> None:
        ours = os.fstat(self.fd)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            there = None
        if there is None or not os.path.samestat(ours, there):
            raise FileNotFoundError(errno.ENOENT, "it was removed or replaced while the run was writing")
        if ours.st_size != self._size:
            raise OSError(errno.EBUSY, "another program changed it while the run was writing")

    def close(self) -> None:
        """Close the descriptor, once."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):  # what a failing disk says now, it would have said when synced
                os.close(self.fd)


class _Block:
    """Lines that go out together, and who waits for them."""

    __slots__ = ("_waiting", "error", "is_over", "lines")

    def __init__(self, files: int) -> None:
        self.lines: list[list[bytes]] = [[] for _ in range(files)]
        self.error: DiskError | None = None
        self.is_over = False
        self._waiting: list[asyncio.Future[None]] = []

    def over(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Done when it is written, or will not be."""
        turn = loop.create_future()
        self._waiting.append(turn)
        return turn

    def end(self) -> None:
        """Let those who wait go on."""
        self.is_over = True
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)


class Writer:
    """Appends lines to a few files, many at a time. Use as ``async with``.

    Args:
        files: the files, addressed by their position; closed at the end.
        fsync: when to force data to the disk.
        fsync_interval_s: seconds between syncs with ``interval``.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        files: tuple[AppendFile, ...],
        *,
        fsync: FsyncMode,
        fsync_interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._fsync = fsync
        self._interval_s = fsync_interval_s
        self._clock = clock
        self._synced_at = clock()
        self._block = self._writing = _Block(len(files))
        self._wake = asyncio.Event()
        self._closing = False
        self._error: DiskError | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vqa-journal")
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Writer:
        self._task = asyncio.create_task(self._run(), name="vqa-journal-writer")
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closing = True
        self._wake.set()
        assert self._task is not None
        try:
            # A cancelled run still writes what was handed in, and that takes milliseconds.
            await see_through(self._task)
        finally:
            self._thread.shutdown()
            for file in self._files:
                file.close()
        if self._error is not None and not any(exc):
            raise self._error

    async def append(self, file: int, line: bytes) -> None:
        """Write ``line`` to file number ``file``; returns when it is there.

        Raises:
            DiskError: it is not, and no later line will be.
        """
        if self._error is not None:
            raise self._error
        block = self._block
        if block.is_over:
            raise _gave_up(self._files)
        block.lines[file].append(line)
        self._wake.set()
        await block.over(self._loop)
        if block.error is not None:
            raise block.error

    async def alone(self, work: Callable[[], T]) -> T:
        """``work()`` in the thread of the writer, so that nothing is written meanwhile but by that."""
        return await see_through(self._loop.run_in_executor(self._thread, work))

    async def _run(self) -> None:
        try:
            await self._commit()
        finally:
            # Ended by what nobody foresaw, or by the end of the loop: whoever waits must hear of it.
            for block in (self._writing, self._block):
                if not block.is_over:
                    block.error = self._error = self._error or _gave_up(self._files)
                    block.end()

    async def _commit(self) -> None:
        loop = self._loop
        while not self._closing or any(self._block.lines):
            await self._next_wake()
            self._writing = block = self._block
            self._block = _Block(len(self._files))
            block.error = self._error or await loop.run_in_executor(self._thread, self._write, block)
            self._error = block.error
            block.end()
        if self._error is None:
            self._error = await loop.run_in_executor(self._thread, self._sync)
        self._block.end()

    async def _next_wake(self) -> None:
        """Until there are lines, or it is time for a sync that is due."""
        timer = None
        if any(file.is_dirty for file in self._files):
            left = self._interval_s - (self._clock() - self._synced_at)
            timer = self._loop.call_later(max(0.0, left), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._wake.clear()

    def _write(self, block: _Block) -> DiskError | None:
        for file, lines in zip(self._files, block.lines, strict=True):
            if lines:
                try:
                    file.append(b"".join(lines))
                except OSError as error:
                    return disk_error(file.path, error)
        is_due = self._clock() - self._synced_at >= self._interval_s
        return self._sync() if is_due or self._fsync == "always" else None

    def _sync(self) -> DiskError | None:
        self._synced_at = self._clock()
        for file in self._files:
            try:
                file.sync(force=self._fsync != "never")
            except OSError as error:
                return disk_error(file.path, error)
        return None


def disk_error(path: Path, error: OSError) -> DiskError:
    """``error``, met while writing ``path``, as a sentence that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskError(
            f"No space left for {path} ({error.strerror}). Every finished line is safe: free some space "
            "and run the same command again.",
            code="disk_full",
        )
    return DiskError(
        f"{path} cannot be written: {error.strerror or error}. What was written before is kept: "
        "mend that, then run the same command again."
    )


async def see_through(task: asyncio.Future[T], on_cancel: Callable[[], None] | None = None) -> T:
    """Wait until ``task`` is over, however often we are cancelled meanwhile; then pass that on.

    For work on files that must not go on behind the back of whoever comes next.

    Args:
        task: what to wait for; never cancelled from here.
        on_cancel: called when we are cancelled, to make it end sooner.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
            if on_cancel is not None:
                on_cancel()
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # nobody is left to hear it
    raise cancelled


def _gave_up(files: tuple[AppendFile, ...]) -> DiskError:
    return DiskError(
        f"{files[0].path} is no longer written: its writer has ended. What was acknowledged is there; "
        "run the same command again to go on."
    )
