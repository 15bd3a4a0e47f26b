"""Group commit: what is acknowledged is in the file, whole, whatever else happens at the same time."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from journal_results import contents, failure, ids, journal, keep, success

from vqa_async.errors import DiskError
from vqa_async.journal.mending import drop_superseded
from vqa_async.journal.writer import AppendFile, FsyncMode, Writer, see_through


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def writer(*paths: Path, fsync: FsyncMode = "never", interval_s: float = 3600.0) -> Writer:
    files = tuple(AppendFile(path) for path in paths)
    return Writer(files, fsync=fsync, fsync_interval_s=interval_s)


class Calls:
    """Stands before a function of ``os``: counts its calls, may slow or fail them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self._real: Callable[..., int] = getattr(os, name)
        self.count = 0
        self.before: Callable[[], None] = lambda: None
        monkeypatch.setattr(os, name, self)

    def __call__(self, *args: object) -> int:
        self.count += 1
        self.before()
        return self._real(*args)


@pytest.fixture
def fsyncs(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch, "fsync")


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch, "write")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Closed until set; opened at the end, so that no thread is left waiting."""
    event = threading.Event()
    yield event
    event.set()


async def test_what_is_acknowledged_is_in_the_file(path: Path) -> None:
    """Read by somebody else, at once after the call."""
    async with writer(path) as out:
        for n in range(5):
            await out.append(0, b"%d\n" % n)
            assert path.read_bytes().endswith(b"%d\n" % n)


async def test_each_file_gets_its_own_lines(tmp_path: Path) -> None:
    """Though both are written in one block."""
    one, two = tmp_path / "one", tmp_path / "two"
    async with writer(one, two) as out:
        await asyncio.gather(*(out.append(n % 2, b"%d\n" % n) for n in range(6)))
    assert (one.read_bytes(), two.read_bytes()) == (b"0\n2\n4\n", b"1\n3\n5\n")


async def test_many_lines_at_once_are_few_blocks(path: Path, writes: Calls) -> None:
    """A thousand appenders do not cost a thousand calls."""
    async with writer(path) as out:
        await asyncio.gather(*(out.append(0, b"%d\n" % n) for n in range(1000)))
        assert writes.count <= 3
    assert path.read_bytes() == b"".join(b"%d\n" % n for n in range(1000))


async def test_lines_gather_while_the_disk_is_busy(path: Path, writes: Calls, gate: threading.Event) -> None:
    """What comes during one block goes out as the next, in the order of coming."""
    writes.before = gate.wait
    async with writer(path) as out:
        first = asyncio.create_task(out.append(0, b"first\n"))
        await until(lambda: writes.count == 1)
        rest = [asyncio.create_task(out.append(0, b"%d\n" % n)) for n in range(50)]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, *rest)
        assert writes.count == 2
    assert path.read_bytes() == b"first\n" + b"".join(b"%d\n" % n for n in range(50))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_always_syncs_each_block_before_it_is_acknowledged(path: Path, fsyncs: Calls) -> None:
    """One sync a block."""
    async with writer(path, fsync="always") as out:
        for n in range(1, 4):
            await out.append(0, b"x\n")
            assert fsyncs.count == n


async def test_always_syncs_a_block_once_however_many_wait_for_it(path: Path, fsyncs: Calls) -> None:
    """That is what group commit is for."""
    async with writer(path, fsync="always") as out:
        await asyncio.gather(*(out.append(0, b"%d\n" % n) for n in range(100)))
        assert fsyncs.count <= 2


async def test_interval_syncs_what_was_written_even_if_nothing_follows(path: Path, fsyncs: Calls) -> None:
    """The last line before a pause is not left to luck."""
    async with writer(path, fsync="interval", interval_s=0.02) as out:
        await out.append(0, b"x\n")
        await until(lambda: fsyncs.count == 1)
        await asyncio.sleep(0.06)
        assert fsyncs.count == 1, "with nothing new there is nothing to sync"


async def test_interval_does_not_sync_each_block(path: Path, fsyncs: Calls) -> None:
    """Within the interval writing is enough; closing syncs the rest."""
    async with writer(path, fsync="interval") as out:
        for _ in range(20):
            await out.append(0, b"x\n")
        assert fsyncs.count == 0
    assert fsyncs.count == 1


async def test_never_does_not_sync(path: Path, fsyncs: Calls) -> None:
    """Not even at the end."""
    async with writer(path, fsync="never") as out:
        await out.append(0, b"x\n")
    assert fsyncs.count == 0


async def test_a_slow_disk_does_not_stop_the_loop(path: Path, fsyncs: Calls) -> None:
    """While a sync takes its time, other tasks run on."""
    fsyncs.before = lambda: time.sleep(0.4)
    gaps = []

    async def tick() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - last)
            last += gaps[-1]

    async with writer(path, fsync="always") as out:
        ticking = asyncio.create_task(tick())
        await out.append(0, b"x\n")
        ticking.cancel()
    assert len(gaps) > 20
    assert sorted(gaps)[-3] < 0.1


async def test_a_cancelled_appender_leaves_a_whole_line(
    path: Path, writes: Calls, gate: threading.Event
) -> None:
    """Its line was handed in and is written like any other."""
    writes.before = gate.wait
    async with writer(path) as out:
        tasks = [asyncio.create_task(out.append(0, b"%d\n" % n)) for n in range(3)]
        await until(lambda: writes.count == 1)
        tasks += [asyncio.create_task(out.append(0, b"%d\n" % n)) for n in range(3, 6)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        gate.set()
    assert path.read_bytes() == b"0\n1\n2\n3\n4\n5\n"


async def test_closing_under_cancellation_writes_what_was_handed_in(
    path: Path, writes: Calls, gate: threading.Event
) -> None:
    """However often somebody cancels: the lines are written, then the cancellation goes on."""
    writes.before = gate.wait
    closing = asyncio.Event()

    async def use() -> None:
        async with writer(path) as out:
            lines = [asyncio.create_task(out.append(0, b"%d\n" % n)) for n in range(3)]
            await asyncio.sleep(0)
            closing.set()
        await asyncio.gather(*lines)

    task = asyncio.create_task(use())
    await closing.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert path.read_bytes() == b"0\n1\n2\n"


async def test_nothing_is_left_open(path: Path, no_leaks: Callable[[], None]) -> None:
    """No task, no descriptor; well after the end, and after an error too."""
    async with writer(path) as out:
        await out.append(0, b"x\n")
    with pytest.raises(ZeroDivisionError):
        async with writer(path):
            raise ZeroDivisionError
    no_leaks()


def fails_with(number: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


async def test_a_failed_sync_is_not_tried_again(path: Path, fsyncs: Calls) -> None:
    """The system may have dropped the data: what was not synced is not called saved."""
    fsyncs.before = fails_with(errno.EIO)

    async def use() -> None:
        async with writer(path, fsync="always") as out:
            for line in (b"x\n", b"y\n"):
                with pytest.raises(DiskError):
                    await out.append(0, line)

    with pytest.raises(DiskError, match="Input/output error"):
        await use()
    assert fsyncs.count == 1
    assert path.read_bytes() == b"x\n"


async def test_all_that_wait_for_a_failed_block_are_told(path: Path, writes: Calls) -> None:
    """And those who come later are told at once."""
    writes.before = fails_with(errno.ENOSPC)

    async def use() -> None:
        async with writer(path) as out:
            appends = [out.append(0, b"x\n") for _ in range(10)]
            results = await asyncio.gather(*appends, return_exceptions=True)
            assert [type(result) for result in results] == [DiskError] * 10
            assert "No space left" in str(results[0])
            with pytest.raises(DiskError):
                await out.append(0, b"y\n")

    with pytest.raises(DiskError):
        await use()
    assert writes.count == 1
    assert path.read_bytes() == b""


async def test_the_error_of_the_block_gives_way_to_the_error_of_its_user(path: Path, writes: Calls) -> None:
    """Leaving with an exception, nobody needs a second one."""
    writes.before = fails_with(errno.EIO)

    async def use() -> None:
        async with writer(path) as out:
            with suppress(DiskError):
                await out.append(0, b"x\n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()


async def test_a_short_write_is_gone_on_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may take less than it was given."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:7])))
    async with writer(path) as out:
        await out.append(0, b"a line that is longer than seven bytes\n")
    assert path.read_bytes() == b"a line that is longer than seven bytes\n"


async def test_seeing_through_gives_the_result_or_the_error() -> None:
    """As if it had been awaited."""

    async def value(fails: bool) -> int:
        if fails:
            raise ZeroDivisionError
        return 7

    assert await see_through(asyncio.ensure_future(value(False))) == 7
    with pytest.raises(ZeroDivisionError):
        await see_through(asyncio.ensure_future(value(True)))


async def test_seeing_through_a_cancellation_ends_with_it() -> None:
    """The task is told, it ends as it likes, the cancellation is passed on."""
    told = asyncio.Event()

    async def work() -> None:
        await told.wait()
        raise ZeroDivisionError

    inner = asyncio.ensure_future(work())
    outer = asyncio.create_task(see_through(inner, on_cancel=told.set))
    await asyncio.sleep(0)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert inner.done()


# --- the journal around it -------------------------------------------------------------------------------


async def test_a_journal_acknowledges_what_is_in_its_files(path: Path) -> None:
    """Answers in one file, failures in the other."""
    async with journal(path) as opened:
        await opened.append(success(1))
        assert ids(path) == ["r1"]
        await opened.append(failure(2))
        assert ids(opened.paths.failures) == ["r2"]


async def test_a_cancelled_success_still_drops_the_failure_before_it(
    path: Path, writes: Calls, gate: threading.Event
) -> None:
    """Its line is written, so the older failure is void."""
    paths = await keep(path, failure(1), failure(2))
    async with journal(path) as opened:
        writes.before = gate.wait
        already = writes.count
        task = asyncio.create_task(opened.append(success(1)))
        await until(lambda: writes.count > already)
        task.cancel()
        await asyncio.wait({task})
        gate.set()
        await opened.close("finished", "", {})
    assert ids(path) == ["r1"]
    assert ids(paths.failures) == ["r2"]


async def test_a_journal_that_is_cancelled_while_it_opens_leaves_nothing(
    path: Path, no_leaks: Callable[[], None]
) -> None:
    """Reading back is given up, the lock is free, no thread goes on behind the next run's back."""
    await keep(path, *(success(n) for n in range(300)))
    no_leaks()

    async def use() -> None:
        async with journal(path):
            raise AssertionError("never got here")

    before = contents(path.parent)
    for turns in range(6):
        task = asyncio.create_task(use())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        no_leaks()
    del before["out.run.json"]
    after = contents(path.parent)
    assert {name: after[name] for name in before} == before
    async with journal(path) as opened:
        assert opened.finished_before == 300


async def test_closing_that_is_cancelled_does_not_leave_the_files_to_a_thread(
    path: Path, fsyncs: Calls, gate: threading.Event
) -> None:
    """The lock is held until the last write is over."""
    async with asyncio.timeout(5):
        closing = asyncio.Event()

        async def use() -> None:
            async with journal(path) as opened:
                await opened.append(failure(1))
                fsyncs.before = gate.wait
                closing.set()
                await opened.close("finished", "", {})

        task = asyncio.create_task(use())
        await closing.wait()
        already = fsyncs.count
        await until(lambda: fsyncs.count > already)
        task.cancel()
        await asyncio.sleep(0.02)
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    await keep(path, success(1))


async def test_compaction_that_is_interrupted_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file takes the name only when it is whole."""
    paths = await keep(path, failure(1), failure(2))
    before = paths.failures.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda fd: fails_with(errno.EIO)())
    with pytest.raises(OSError, match="Input/output"):
        drop_superseded(paths.failures, lambda id: id == "r1")
    assert paths.failures.read_bytes() == before
    assert not list(path.parent.glob(".*"))


async def test_a_writer_that_ends_for_an_unforeseen_reason_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Whatever breaks in its thread: those who wait are told, and so is everyone after them."""

    class Broken(AppendFile):
        def append(self, block: bytes) -> None:
            raise MemoryError

    async def use() -> None:
        file = Broken(tmp_path / "out.jsonl")
        async with Writer((file,), fsync="never", fsync_interval_s=1.0) as writer:
            for _ in range(2):
                with pytest.raises(DiskError, match="run the same command again"):
                    await asyncio.wait_for(writer.append(0, b"{}\n"), 5)

    with pytest.raises(MemoryError):
        await use()
