"""How things end: engines closed under a run, sources that misbehave, stops at odd moments."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from vqa_async import Result, open_engine
from vqa_async.errors import AuthError, ConfigError, DiskError, InputError
from vqa_async.events import RecordFinished
from vqa_async.testing import FakeTransport, reply

ASK = {"base_url": "http://test.invalid/v1", "model": "m", "api_key": ""}


def rows(count: int) -> list[dict[str, Any]]:
    return [{"conversation": [{"from": "human", "value": f"Question {n}"}]} for n in range(count)]


def write(path: Path, items: list[Any]) -> str:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return str(path)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_closing_the_engine_under_a_run_leaves_its_records_open(tmp_path: Path) -> None:
    """Another task is in the middle of a run when the block is left: no record is marked failed."""
    source = write(tmp_path / "in.jsonl", rows(300))
    transport = FakeTransport([reply()], latency_s=0.01)
    async with open_engine(**ASK, transport=transport, max_workers=4) as engine:
        task = asyncio.create_task(engine.run(source, str(tmp_path / "out.jsonl")))
        await until(lambda: engine.statistics().succeeded > 8)
    summary = await asyncio.wait_for(task, 5)
    assert (summary.state, summary.statistics.failed) == ("interrupted", 0)
    assert not (tmp_path / "out.failures.jsonl").exists()
    async with open_engine(**ASK, transport=FakeTransport([reply()])) as engine:
        assert (await engine.run(source, str(tmp_path / "out.jsonl"))).ok


async def test_closing_the_engine_ends_single_records_of_other_tasks() -> None:
    """Whoever still waits for one record is cancelled rather than left waiting for ever."""
    async with open_engine(**ASK, transport=FakeTransport([reply()], latency_s=60)) as engine:
        task = asyncio.create_task(engine.generate(rows(1)[0]))
        await until(lambda: engine.statistics().in_flight == 1)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)


async def test_a_generator_that_fails_while_it_is_closed_blocks_nothing() -> None:
    """The caller's own clean-up raises: the engine can be closed all the same."""

    async def failing() -> AsyncIterator[dict[str, Any]]:
        try:
            for row in rows(1000):
                yield row
        finally:
            raise LookupError("clean-up failed")

    async def leave_early() -> None:
        async with open_engine(**ASK, transport=FakeTransport([reply()])) as engine:
            stream = engine.stream(failing())
            await anext(stream)
            with pytest.raises(LookupError):
                await stream.aclose()

    await asyncio.wait_for(leave_early(), 5)


async def test_cancelling_a_reader_twice_blocks_nothing(no_leaks: Callable[[], None]) -> None:
    """A second cancellation, while the first is being seen through, loses no task."""
    async with open_engine(**ASK, transport=FakeTransport([reply()], latency_s=0.02)) as engine:

        async def consume() -> None:
            async for _ in engine.stream(rows(1000)):
                pass

        task = asyncio.create_task(consume())
        await until(lambda: engine.statistics().in_flight > 0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
    no_leaks()


@pytest.mark.parametrize("name", ["out.jsonl", "out.failures.jsonl", "out.run.json"])
async def test_a_run_does_not_read_what_it_writes(name: str, tmp_path: Path) -> None:
    """Neither its answers nor its failures nor a hard link to them: it would never come to the end."""
    source = write(tmp_path / name, rows(2))
    (tmp_path / "link.jsonl").hardlink_to(source)
    async with open_engine(**ASK, transport=FakeTransport([reply()])) as engine:
        for path in (source, str(tmp_path / "link.jsonl")):
            with pytest.raises(ConfigError, match="same file"):
                await engine.run(path, str(tmp_path / "out.jsonl"))


async def test_a_source_that_ignores_its_cancellation_cannot_hold_a_stop() -> None:
    """A caller's generator that swallows CancelledError is left alone after the stop."""

    async def stubborn() -> AsyncIterator[dict[str, Any]]:
        for row in rows(100_000):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            yield row

    async with open_engine(**ASK, transport=FakeTransport([reply()]), max_workers=2) as engine:
        results = engine.stream(stubborn())
        await anext(results)
        engine.stop("enough")
        left = [result async for result in results]
    assert len(left) < 100


async def test_a_slow_reader_still_gets_what_was_answered_before_a_stop() -> None:
    """The drain deadline ends requests, not the handing over of answers that are there."""
    answers = iter([reply()] * 6)
    denied = reply(status=401, body=b'{"error":"Unauthorized"}')
    transport = FakeTransport(lambda _: next(answers, denied))
    seen: list[Result] = []

    async def read() -> None:
        async with open_engine(**ASK, transport=transport, max_workers=2, drain_timeout=0.02) as engine:
            async for result in engine.stream(rows(50)):
                await asyncio.sleep(0.03)
                seen.append(result)

    with pytest.raises(AuthError):
        await read()
    assert len(seen) == 6


async def test_what_ended_the_run_outranks_a_broken_input(tmp_path: Path) -> None:
    """A refused key and a truncated file: the key is what must be mended first."""
    (tmp_path / "in.json").write_text(json.dumps(rows(3))[:-1] + ', {"conversation": ')
    denied = FakeTransport([reply(status=401, body=b'{"error":"Unauthorized"}')])
    async with open_engine(**ASK, transport=denied) as engine:
        summary = await engine.run(str(tmp_path / "in.json"), str(tmp_path / "out.jsonl"))
    assert isinstance(summary.error, AuthError)
    async with open_engine(**ASK, transport=FakeTransport([reply()])) as engine:
        with pytest.raises(InputError):
            await engine.run(str(tmp_path / "in.json"), str(tmp_path / "out.jsonl"))


async def test_a_stop_before_the_first_record_is_heeded(tmp_path: Path) -> None:
    """While the journal is being opened nothing runs yet, and after that nothing begins."""
    source = write(tmp_path / "in.jsonl", rows(20))
    transport = FakeTransport([reply()])
    async with open_engine(**ASK, transport=transport) as engine:
        task = asyncio.create_task(engine.run(source, str(tmp_path / "out.jsonl")))
        await asyncio.sleep(0)
        engine.stop("not now")
        summary = await task
    assert (summary.state, summary.statistics.succeeded) == ("interrupted", 0)
    assert transport.requests == []


async def test_a_stop_after_the_last_record_changes_nothing(tmp_path: Path) -> None:
    """All is answered and the files are being closed: that is finished, whatever signal comes."""
    source = write(tmp_path / "in.jsonl", rows(5))

    class Late:
        def on_event(self, event: object) -> None:
            if isinstance(event, RecordFinished):
                asyncio.get_running_loop().call_later(0.0, self.stop)

        def stop(self) -> None:
            if engine.statistics().succeeded == 5:
                engine.stop("late")

    async with open_engine(**ASK, transport=FakeTransport([reply()]), observer=Late()) as engine:
        summary = await engine.run(source, str(tmp_path / "out.jsonl"))
    assert summary.statistics.succeeded == 5


async def test_a_full_budget_and_a_stop_leave_records_open(tmp_path: Path, red_image: str) -> None:
    """Records that wait for memory when the run stops are no failures."""
    source = write(tmp_path / "in.jsonl", [{"image": red_image, **row} for row in rows(40)])
    transport = FakeTransport([reply()], latency_s=0.05)
    async with open_engine(**ASK, transport=transport, max_workers=8, encoded_bytes=300) as engine:
        task = asyncio.create_task(engine.run(source, str(tmp_path / "out.jsonl")))
        await until(lambda: engine.image_statistics().waiting > 2)
        engine.stop("enough")
        summary = await task
    assert summary.statistics.failed == 0
    assert not (tmp_path / "out.failures.jsonl").exists()


async def test_nothing_is_sent_after_an_answer_could_not_be_kept(tmp_path: Path) -> None:
    """The output is taken away under the run: lost is what was in flight then, not one request more."""
    out = tmp_path / "out.jsonl"
    transport = FakeTransport([reply()], latency_s=0.02)
    options = {**ASK, "max_workers": 4, "fsync": "always"}
    async with open_engine(**options, transport=transport) as engine:
        task = asyncio.create_task(engine.run(write(tmp_path / "in.jsonl", rows(300)), str(out)))
        await until(lambda: engine.statistics().succeeded > 8)
        out.unlink()
        summary = await asyncio.wait_for(task, 5)
    assert (summary.state, type(summary.error)) == ("stopped", DiskError)
    assert len(transport.requests) <= summary.statistics.succeeded + 4
