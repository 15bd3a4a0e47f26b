"""One run at a time on one output, by whatever name it is called; a lock that dies with its holder."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from journal_results import contents, ids, journal, keep, success

from vqa_async.errors import JournalLocked
from vqa_async.journal import survey
from vqa_async.journal.lock import is_locked

HOLDER = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from journal_results import journal, success

async def main():
    async with journal(sys.argv[1]) as opened:
        for n in range(10**9):
            await opened.append(success(n))
            print(n, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts processes that hold an output, and add to it, until they are killed."""
    started: list[subprocess.Popen[str]] = []

    def start(output: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, str(output), str(Path(__file__).parent)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def refusal(output: Path) -> str:
    """The message of a second run, which comes soon."""
    before = time.monotonic()
    with pytest.raises(JournalLocked) as caught:
        await keep(output)
    assert time.monotonic() - before < 1
    return str(caught.value)


async def test_a_second_run_is_refused_and_told_who_runs(tmp_path: Path) -> None:
    """The first is not disturbed."""
    out = tmp_path / "out.jsonl"
    async with journal(out) as first:
        before = contents(tmp_path)
        for _ in range(2):  # the second message is as good as the first
            message = await refusal(out)
            assert f"Another run (process {os.getpid()}) is writing {out}" in message
        assert contents(tmp_path) == before
        await first.append(success(1))
        await first.close("finished", "", {})
    assert ids(out) == ["r1"]


async def test_the_lock_is_free_after_the_run(tmp_path: Path, no_leaks: Callable[[], None]) -> None:
    """Run after run in one process, well ended or not."""
    out = tmp_path / "out.jsonl"
    await keep(out, success(0))
    no_leaks()

    async def fail(n: int) -> None:
        async with journal(out) as opened:
            await opened.append(success(n))
            raise ZeroDivisionError

    for n in range(1, 4):
        with pytest.raises(ZeroDivisionError):
            await fail(n)
        assert not is_locked(tmp_path / "out.jsonl.lock")
        no_leaks()
    assert ids(out) == ["r0", "r1", "r2", "r3"]


async def test_a_relative_path_is_the_same_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From whatever folder."""
    monkeypatch.chdir(tmp_path)
    async with journal(tmp_path / "out.jsonl"):
        for name in ("out.jsonl", "./out.jsonl", f"../{tmp_path.name}/out.jsonl"):
            assert "Another run" in await refusal(Path(name))


async def test_a_symbolic_link_is_the_same_output(tmp_path: Path) -> None:
    """To the file, or to its folder, made before there was a file or after."""
    (tmp_path / "before.jsonl").symlink_to("out.jsonl")
    (tmp_path / "folder").symlink_to(tmp_path)
    async with journal(tmp_path / "out.jsonl"):
        (tmp_path / "after.jsonl").symlink_to(tmp_path / "out.jsonl")
        for name in ("before.jsonl", "after.jsonl", "folder/out.jsonl"):
            assert f"writing {tmp_path / 'out.jsonl'}" in await refusal(tmp_path / name)
    await keep(tmp_path / "before.jsonl", success(1))
    assert (tmp_path / "before.jsonl").is_symlink()
    assert ids(tmp_path / "out.jsonl") == ["r1"]


async def test_a_hard_link_is_the_same_output(tmp_path: Path) -> None:
    """Though nothing but the file itself has its other names in common; nothing is made beside it."""
    out, other = tmp_path / "out.jsonl", tmp_path / "other.jsonl"
    async with journal(out) as first:
        await first.append(success(1))
        os.link(out, other)
        before = contents(tmp_path)
        assert f"writing the file {other} under another name (a hard link)" in await refusal(other)
        assert contents(tmp_path) == before
    await keep(other, success(2))
    assert ids(out) == ["r1", "r2"]


@pytest.mark.parametrize("harm", [b"torn", b'oops\n{"_meta"'])
async def test_a_hard_link_is_not_mended_while_it_is_written(tmp_path: Path, harm: bytes) -> None:
    """The other run would see its file shrink or vanish."""
    out, other = tmp_path / "out.jsonl", tmp_path / "other.jsonl"
    await keep(out, success(1))
    os.link(out, other)
    async with journal(out) as first:
        await first.append(success(2))
        with out.open("ab") as file:
            file.write(harm)
        before = contents(tmp_path)
        with pytest.raises(JournalLocked):
            await keep(other, repair=True)
        assert contents(tmp_path) == before
        out.write_bytes(before["out.jsonl"].removesuffix(harm))


async def test_after_a_repair_the_new_file_is_held(tmp_path: Path) -> None:
    """Repairing replaces the file; its new names are guarded as the old were."""
    out, other = tmp_path / "out.jsonl", tmp_path / "other.jsonl"
    await keep(out, success(1), success(2))
    out.write_bytes(b"oops\n" + out.read_bytes())
    async with journal(out, repair=True):
        os.link(out, other)
        assert "hard link" in await refusal(other)


async def test_looking_at_an_output_does_not_hold_it(tmp_path: Path) -> None:
    """Asking how a run stands never keeps one from starting."""
    out = tmp_path / "out.jsonl"
    paths = await keep(out, success(0))

    async def look() -> None:
        while True:
            await asyncio.to_thread(survey, paths)

    lookers = [asyncio.create_task(look()) for _ in range(3)]
    for n in range(1, 20):
        await keep(out, success(n))
    for looker in lookers:
        looker.cancel()
    await asyncio.gather(*lookers, return_exceptions=True)


async def test_a_disk_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network disks have none: the run goes on, and the user is told to take care."""

    def no_locks(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    async with journal(tmp_path / "out.jsonl") as opened:
        assert opened.notices == [
            f"{tmp_path / 'out.jsonl'} cannot be locked on this disk: see to it that no second run writes it."
        ]
        await opened.append(success(1))
    assert not is_locked(opened.paths.lock)


@pytest.mark.slow
async def test_the_lock_dies_with_its_holder_and_nothing_acknowledged_does(
    tmp_path: Path, holder: Callable[[Path], subprocess.Popen[str]]
) -> None:
    """Killed at some moment while it writes: all that it reported is there, and the next run goes on."""
    out = tmp_path / "out.jsonl"
    process = holder(out)
    assert f"process {process.pid})" in await refusal(out)
    await asyncio.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.stdout is not None
    said = process.stdout.read()
    reported = [f"r{n}" for n in range(1 + said.count("\n"))]
    assert len(reported) > 10
    async with journal(out) as opened:
        assert opened.finished_before >= len(reported)
    assert ids(out)[: len(reported)] == reported
    assert len(ids(out)) <= len(reported) + 1
