"""Programs around the engine, and what is done to its process: O of the fault matrix."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import COMMAND, answers, environment, serving, started, vqa_async, write_records
from wire import Exchange, asked, http
from wire import serving as raw_serving

import vqa_async as package
from vqa_async import Result, open_engine
from vqa_async.events import Event, RecordFinished
from vqa_async.testing import FakeTransport, reply

ASK: dict[str, Any] = {"base_url": "http://test.invalid/v1", "model": "m", "api_key": ""}


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "conversation": f"question {n}"} for n in range(count)]


def write(path: Path, count: int) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows(count)))
    return str(path)


def lines(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    assert content.endswith(b"\n") or not content
    return [json.loads(line) for line in content.split(b"\n")[:-1]]


async def echo(exchange: Exchange) -> None:
    await exchange.say(http(reply(f"answer to {asked(exchange.body)}").body))


class Watching:
    """An observer that does something at each finished record."""

    def __init__(self, do: Callable[[int], None]) -> None:
        self._do = do
        self.finished = 0

    def on_event(self, event: Event) -> None:
        if isinstance(event, RecordFinished):
            self.finished += 1
            self._do(self.finished)


# --- O6, O8: memory and what is left behind --------------------------------------------------------------


@pytest.mark.slow
def test_run_in_150_megabytes_is_answered(tmp_path: Path) -> None:
    """A container of 150 MB of memory: a run with a hundred requests in flight and large images fits into
    it."""
    group = Path("/sys/fs/cgroup/memory", f"vqa-async-{os.getpid()}")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(150 << 20))
    except OSError:
        pytest.skip("no memory groups here (cgroup v1), or none may be made")
    try:
        rows = []
        for n in range(20):
            (tmp_path / f"{n}.png").write_bytes(_png_of(400_000, n))
            rows += [{"image": f"{n}.png", "conversation": f"question {n} {m}"} for m in range(20)]
        (tmp_path / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        with serving("--no-decode", "--latency", "0.05") as url:
            done = vqa_async(
                *("run", "in.jsonl", "-o", "out.jsonl", "--model", "looks-1", "--base-url", url),
                *("--max-workers", "100"),
                cwd=tmp_path,
                preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
            )
        assert done.returncode == 0, done.stderr
        assert len(answers(tmp_path / "out.jsonl")) == 400
    finally:
        group.rmdir()


def _png_of(size: int, seed: int) -> bytes:
    """A small PNG that carries ``size`` bytes after its pixels, so that it is large to send."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + bytes([seed] * 4)) * 4))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"vqAa", os.urandom(size)) + pixels + chunk(b"IEND", b"")


@pytest.mark.slow
def test_run_leaves_nothing_that_the_development_mode_would_tell_of(tmp_path: Path) -> None:
    """Python's development mode with warnings as errors: no task that was never awaited, no socket or file
    that was not closed, after answers, errors and cut replies."""
    write_records(tmp_path / "in.jsonl", 60)
    faults = (
        "--error-rate",
        "503=0.1",
        "--cut-rate",
        "0.1",
        "--disconnect-rate",
        "0.1",
        "--malformed-rate",
        "0.1",
    )
    with serving("--no-decode", *faults) as url:
        done = subprocess.run(
            [
                *(
                    sys.executable,
                    "-X",
                    "dev",
                    "-W",
                    "error",
                    *COMMAND[1:],
                    "run",
                    "in.jsonl",
                    "-o",
                    "out.jsonl",
                ),
                *("--model", "looks-1", "--base-url", url, "--backoff-base", "0.01"),
            ],
            cwd=tmp_path,
            env=environment({"PYTHONASYNCIODEBUG": "1"}),
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode in (0, 1), done.stderr
    for word in ("Warning", "Unclosed", "never retrieved", "was destroyed", "never awaited", "Traceback"):
        assert word not in done.stderr


# --- O9: the host's own structure ------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def slow_engine(workers: int = 4) -> AsyncIterator[Any]:
    """An engine over sockets whose endpoint answers some questions at once and others never."""

    async def answer(exchange: Exchange) -> None:
        if int(asked(exchange.body).split()[1]) % 10 >= 7:
            await asyncio.sleep(60)
        await echo(exchange)

    async with (
        raw_serving(answer) as server,
        open_engine(base_url=server.url, model="m", api_key="", max_workers=workers) as engine,
    ):
        yield engine


async def _cancelled(run: asyncio.Task[Any]) -> None:
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


async def _timed_out(run: asyncio.Task[Any]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run, 0.05)


async def _failed_beside(run: asyncio.Task[Any]) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.05)
        raise ZeroDivisionError

    async def wait() -> None:
        await run

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        await both()
    assert caught.group_contains(ZeroDivisionError)
    assert len(caught.value.exceptions) == 1
    assert run.cancelled()


@pytest.mark.parametrize("end", [_cancelled, _timed_out, _failed_beside])
async def test_run_that_its_host_gives_up_ends_at_once_with_whole_files(
    end: Callable[[asyncio.Task[Any]], Any], tmp_path: Path, no_leaks: Callable[[], None]
) -> None:
    """The task of a run is cancelled, times out, or its sibling in a TaskGroup fails: over within a second,
    files whole, nothing left, and the next run goes on."""
    source, out = write(tmp_path / "in.jsonl", 40), str(tmp_path / "out.jsonl")
    async with slow_engine() as engine:
        run = asyncio.create_task(engine.run(source, out))
        while engine.statistics().in_flight < 4 or engine.statistics().succeeded < 4:
            await asyncio.sleep(0.001)
        began = time.monotonic()
        await end(run)
        assert time.monotonic() - began < 1
        reported = engine.statistics().succeeded
    saved = len(lines(tmp_path / "out.jsonl"))
    assert saved >= reported >= 4  # what was on its way into the file got there
    async with open_engine(**ASK, transport=FakeTransport([reply()])) as engine:
        summary = await engine.run(source, out)
    assert summary.ok
    assert (summary.statistics.succeeded, summary.statistics.skipped) == (40 - saved, saved)
    await asyncio.sleep(0)
    no_leaks()


def test_loop_that_is_closed_under_a_run_leaves_whole_files(tmp_path: Path) -> None:
    """The host's loop ends while a run is on it: asyncio.run cancels what is left, and the files are
    whole."""
    source, out = write(tmp_path / "in.jsonl", 40), str(tmp_path / "out.jsonl")

    async def work(engines: list[Any]) -> None:
        async with slow_engine() as engine:
            engines.append(engine)
            await engine.run(source, out)

    async def host() -> None:
        engines: list[Any] = []
        left = asyncio.create_task(work(engines))
        while not engines or engines[0].statistics().succeeded < 4:
            await asyncio.sleep(0.001)
        assert not left.done()

    asyncio.run(host())
    saved = len(lines(tmp_path / "out.jsonl"))
    assert saved >= 4
    summary = asyncio.run(_finished(source, out))
    assert (summary.ok, summary.statistics.skipped) == (True, saved)


async def _finished(source: str, out: str) -> Any:
    async with open_engine(**ASK, transport=FakeTransport([reply()])) as engine:
        return await engine.run(source, out)


# --- O10, O11: callbacks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ZeroDivisionError, asyncio.CancelledError, TimeoutError, StopAsyncIteration]
)
async def test_callback_that_raises_ends_nothing(
    error: type[BaseException], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The host's callback raises, be it an error or a cancellation of its own: it is logged, the run goes on,
    every record is answered."""

    def fail(_: int) -> None:
        raise error

    source = write(tmp_path / "in.jsonl", 50)
    async with open_engine(**ASK, transport=FakeTransport([reply()]), observer=Watching(fail)) as engine:
        summary = await asyncio.wait_for(engine.run(source, str(tmp_path / "out.jsonl")), 10)
    assert summary.ok
    assert len(lines(tmp_path / "out.jsonl")) == 50
    assert error.__name__ in caplog.text


async def test_callback_hears_of_a_result_after_it_is_in_the_file(tmp_path: Path) -> None:
    """The host's callback stops the process at a result: by then that result is in the file."""
    missing: list[int] = []

    def look(number: int) -> None:
        if len(lines(tmp_path / "out.jsonl")) < number:
            missing.append(number)

    source = write(tmp_path / "in.jsonl", 50)
    async with open_engine(**ASK, transport=FakeTransport([reply()]), observer=Watching(look)) as engine:
        await engine.run(source, str(tmp_path / "out.jsonl"))
    assert missing == []


@pytest.mark.slow
@pytest.mark.parametrize("who", ["callback", "producer"])
async def test_blocked_loop_makes_no_request_time_out(who: str, caplog: pytest.LogCaptureFixture) -> None:
    """A callback, or the iterable of the records, blocks the event loop for longer than the timeout of a
    request: replies that came meanwhile count, nothing is tried again, and it is logged."""

    async def answer(exchange: Exchange) -> None:
        await asyncio.sleep(0.05 + exchange.number % 7 * 0.03)  # never all at once
        await echo(exchange)

    def block(number: int) -> None:
        if number == 40:
            time.sleep(0.8)

    def records() -> Any:
        for number, row in enumerate(rows(60)):
            if who == "producer":
                block(number)
            yield row

    observer = Watching(block) if who == "callback" else None
    loop = asyncio.new_event_loop()
    ready: asyncio.Queue[str] = asyncio.Queue()
    here = asyncio.get_running_loop()

    async def serve() -> None:
        async with raw_serving(answer) as server:
            here.call_soon_threadsafe(ready.put_nowait, server.url)
            await over.wait()

    over = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()  # a loop of its own: the server does not stand still with ours
    try:
        url = await ready.get()
        async with open_engine(
            base_url=url, model="m", api_key="", max_workers=16, timeout=0.5, observer=observer
        ) as engine:
            results = [result async for result in engine.stream(records())]
            retries = engine.statistics().retries
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
    assert all(result.ok for result in results)
    assert (len(results), retries) == (60, 0)
    assert "The event loop stood still" in caplog.text


# --- O12, O13: engines beside each other, and what feeds them -------------------------------------------


async def test_two_engines_in_one_loop_do_not_know_each_other(tmp_path: Path) -> None:
    """Two engines at once in one loop, one of which is refused: the other answers all, and both can run
    again."""
    good = FakeTransport([reply("good")], latency_s=0.001)
    refused = FakeTransport([reply(status=401, body=b"")], latency_s=0.001)
    source = write(tmp_path / "in.jsonl", 100)
    async with open_engine(**ASK, transport=good) as one, open_engine(**ASK, transport=refused) as other:
        first, second = await asyncio.gather(
            one.run(source, str(tmp_path / "one.jsonl")), other.run(source, str(tmp_path / "other.jsonl"))
        )
        assert (first.ok, second.state) == (True, "stopped")
        again = await one.run(source, str(tmp_path / "again.jsonl"))
    assert again.ok
    assert len(lines(tmp_path / "one.jsonl")) == len(lines(tmp_path / "again.jsonl")) == 100


def test_engines_in_threads_have_loops_of_their_own(tmp_path: Path) -> None:
    """Runs from three threads at once, each by the synchronous door: each answers its own records."""
    source = write(tmp_path / "in.jsonl", 30)
    states: dict[int, str] = {}
    with serving("--no-decode") as url:

        def work(number: int) -> None:
            out = str(tmp_path / f"{number}.jsonl")
            states[number] = package.run(source, out, base_url=url, model="looks-1", api_key="").state

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert states == {0: "finished", 1: "finished", 2: "finished"}
    assert all(len(lines(tmp_path / f"{number}.jsonl")) == 30 for number in range(3))


class Broken(Exception):
    """What a host's iterable raises."""


@pytest.mark.parametrize("kind", ["generator", "async generator"])
@pytest.mark.parametrize("error", [Broken, TimeoutError, asyncio.CancelledError])
async def test_producer_that_raises_loses_nothing_that_came_before(
    kind: str, error: type[BaseException]
) -> None:
    """The host's iterable raises at record 30, be it a cancellation of something that it waited for: the
    thirty before it are answered, then the error comes as it is."""

    def plain() -> Any:
        yield from rows(30)
        raise error("at 30")

    async def asynchronous() -> AsyncIterator[Any]:
        for row in rows(30):
            yield row
        raise error("at 30")

    results: list[Result] = []

    async def collect(answers: AsyncIterator[Result]) -> None:
        async for result in answers:
            results.append(result)  # noqa: PERF401 - what came before the error must stay

    async with open_engine(**ASK, transport=FakeTransport([reply()], latency_s=0.001)) as engine:
        with pytest.raises(error, match="at 30"):
            await collect(engine.stream(plain() if kind == "generator" else asynchronous()))
    assert len(results) == 30
    assert all(result.ok for result in results)


# --- O14: stopped and forked -----------------------------------------------------------------------------


@pytest.mark.slow
def test_process_that_is_stopped_for_a_while_goes_on(tmp_path: Path) -> None:
    """SIGSTOP in the middle of a run and SIGCONT after the timeout of its requests: the run goes on and
    answers every record, with hardly a request too many; and no child would inherit its lock."""
    write_records(tmp_path / "in.jsonl", 150)
    with serving("--no-decode", "--latency", "0.1") as url:
        command = ("run", "in.jsonl", "-o", "out.jsonl", "--model", "looks-1", "--base-url", url)
        with started(*command, "--timeout", "0.6", "--max-workers", "8", cwd=tmp_path) as process:
            out = tmp_path / "out.jsonl"
            while not (out.exists() and out.read_bytes().count(b"\n") > 20):
                assert process.poll() is None
                time.sleep(0.005)
            inherited = [name for name in _inheritable(process.pid) if str(tmp_path) in name]
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.2)
            process.send_signal(signal.SIGCONT)
            _, err = process.communicate(timeout=15)
        requests = json.loads(_got(url.removesuffix("/v1") + "/stats"))["received"]
    assert process.returncode == 0, err
    assert inherited == []
    assert len({line["id"] for line in answers(out)}) == len(answers(out)) == 150
    assert requests <= 150 + 8 + 2


def _got(url: str) -> bytes:
    import urllib.request

    with urllib.request.urlopen(url) as answer:
        content: bytes = answer.read()
    return content


def _inheritable(pid: int) -> list[str]:
    """The files of a process that its children would inherit."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            flags = re.search(r"flags:\s+(\d+)", Path(f"/proc/{pid}/fdinfo/{fd}").read_text())
            assert flags is not None
            if not int(flags[1], 8) & os.O_CLOEXEC:
                found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


async def test_transport_that_cancels_by_itself_loses_no_record(tmp_path: Path) -> None:
    """A transport raises a cancellation that nobody has asked for, as libraries do when something of theirs
    was cancelled: an error like any other, tried again; no worker is lost by it, and no record."""
    calls = 0

    class Odd(FakeTransport):
        async def send(self, request: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls % 4 == 1:
                raise asyncio.CancelledError
            return await super().send(request)

    source = write(tmp_path / "in.jsonl", 40)
    async with open_engine(**ASK, transport=Odd([reply()]), max_workers=2, backoff_base=0.01) as engine:
        summary = await asyncio.wait_for(engine.run(source, str(tmp_path / "out.jsonl")), 3)
    assert summary.ok
    assert len(lines(tmp_path / "out.jsonl")) == 40
