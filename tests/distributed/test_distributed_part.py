"""A worker without Ray: an open run that is handed records, keeps what it answers, and ends when told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from vqa_async.config import Config
from vqa_async.distributed.desk import Desk, Stop
from vqa_async.distributed.part import Part
from vqa_async.distributed.sharing import share_of
from vqa_async.errors import AuthError, BudgetReached, ClusterError, ConfigError, RecordError
from vqa_async.journal.replay import FAILED, SUCCEEDED
from vqa_async.models import Failure, Message, Record, Success
from vqa_async.server import RunningServer, ServerOptions, running_server
from vqa_async.testing import vqa_server

__all__ = ["vqa_server"]


def record(n: int) -> Record:
    return Record(f"r{n}", n, {"id": f"r{n}"}, (Message("user", (f"What is {n}?",)),))


def bad(n: int) -> Failure:
    return Failure(Record(f"r{n}", n, {}, ()), RecordError("no row"), 0, 0.0)


def config(url: str, **options: Any) -> Config:
    return Config.of(**{"base_url": url, "model": "looks-1", "max_workers": 4, "fsync": "never", **options})


async def opened(folder: Path, url: str, name: str = "w", **options: Any) -> Part:
    part = Part(config(url, **options), str(folder / "out.parts"), name)
    await part.open()
    return part


def lines(folder: Path) -> list[str]:
    found = sorted((folder / "out.parts").glob("part-*[0-9].jsonl"))
    return [json.loads(line)["_meta"]["id"] for path in found for line in path.read_text().splitlines()]


async def test_records_are_answered_kept_and_counted(tmp_path: Path, vqa_server: RunningServer) -> None:
    """Each is in the part when its answer is given out; rows that are none become failures there."""
    part = await opened(tmp_path, vqa_server.base_url)
    results = await asyncio.gather(*(part.answer(record(n)) for n in range(10)), part.answer(bad(10)))
    assert all(isinstance(result, Success) for result in results[:10])
    assert isinstance(results[10], Failure)
    assert sorted(lines(tmp_path)) == sorted(f"r{n}" for n in range(10))
    counted = part.counters()
    assert (counted.requests, counted.in_flight, counted.width) == (10, 0, 4)
    assert part.counters().requests == 0
    await part.aclose()


async def test_what_was_answered_is_looked_up_after_a_kill(tmp_path: Path, vqa_server: RunningServer) -> None:
    """The next one of the same name asks nothing twice, in a part of its own."""
    first = await opened(tmp_path, vqa_server.base_url)
    await asyncio.gather(first.answer(record(1)), first.answer(bad(2)))
    assert await first.answer(record(1)) == SUCCEEDED  # Ray may ask again without a kill, too
    await first.aclose()
    again = await opened(tmp_path, vqa_server.base_url)
    assert await asyncio.gather(again.answer(record(1)), again.answer(bad(2))) == [SUCCEEDED, FAILED]
    assert isinstance(await again.answer(record(3)), Success)
    other = await opened(tmp_path, vqa_server.base_url, "x")
    assert isinstance(await other.answer(record(1)), Success)
    assert vqa_server.stats().received == 3
    await again.aclose()
    await other.aclose()


async def test_a_record_that_is_handed_in_twice_is_asked_once(
    tmp_path: Path, vqa_server: RunningServer
) -> None:
    """While its answer is awaited."""
    part = await opened(tmp_path, vqa_server.base_url)
    first, second = await asyncio.gather(part.answer(record(1)), part.answer(record(1)))
    assert isinstance(first, Success)
    assert first is second
    await part.aclose()


async def test_a_wrong_key_ends_the_run_and_leaves_the_records(tmp_path: Path) -> None:
    """They come back open, with the reason."""
    async with running_server(ServerOptions(api_key=("right",))) as server:
        part = await opened(tmp_path, server.base_url)
        assert await asyncio.gather(*(part.answer(record(n)) for n in range(5))) == [None] * 5
    assert isinstance(part.ended, AuthError)
    assert await part.answer(record(9)) is None


async def test_a_stop_drains_and_an_abort_does_not_wait(tmp_path: Path) -> None:
    """What is in flight is finished and kept; all else comes back open. At once, not even that."""
    async with running_server(ServerOptions(latency=0.3)) as server:
        for at_once in (False, True):
            desk, name = Desk(1), f"w{at_once:d}"
            part = await opened(tmp_path, server.base_url, name)
            left = asyncio.Event()
            part.watch(desk.stopped, left.set)
            answers = [asyncio.create_task(part.answer(record(n))) for n in range(12)]
            while server.stats().in_flight != 4:
                await asyncio.sleep(0.01)
            await desk.stop(Stop("enough"))
            if at_once:
                await asyncio.sleep(0)
                await desk.stop(Stop("enough", at_once=True))
            results = await asyncio.gather(*answers)
            await left.wait()
            assert sum(result is not None for result in results) == (0 if at_once else 4)
            assert part.ended == "enough"
            await part.aclose()


async def test_a_share_of_the_budget_counts_what_was_spent_before(
    tmp_path: Path, vqa_server: RunningServer
) -> None:
    """A worker that starts again has not got its share anew."""
    options = {"max_requests": 4, "max_cost": 5.0, "price_input": 1.0, "price_output": 1.0}
    first = await opened(tmp_path, vqa_server.base_url, **options)
    await asyncio.gather(*(first.answer(record(n)) for n in range(3)))
    assert first.counters().cost
    await first.aclose()
    again = await opened(tmp_path, vqa_server.base_url, **options)
    results = await asyncio.gather(*(again.answer(record(n)) for n in range(3, 6)))
    assert sum(isinstance(result, Success) for result in results) == 1
    assert isinstance(again.ended, BudgetReached)
    assert again.counters().requests == 1


async def test_what_cannot_be_opened_is_told_not_raised(tmp_path: Path) -> None:
    """A folder that this machine does not see, options that cannot work."""
    unseen = Part(config("http://localhost:1/v1"), str(tmp_path / "no" / "out.parts"), "w")
    await unseen.open()
    assert await unseen.answer(record(1)) is None
    assert isinstance(unseen.ended, ClusterError)
    assert "All machines must see it" in str(unseen.ended)
    part = await opened(tmp_path, "http://localhost:1/v1", api_key_env="NO_SUCH_KEY")
    assert isinstance(part.ended, ConfigError)


async def test_a_stop_before_the_start_asks_nothing(tmp_path: Path, vqa_server: RunningServer) -> None:
    """Told so while it is being opened."""
    part = Part(config(vqa_server.base_url), str(tmp_path / "out.parts"), "w")
    part.stop(Stop("never mind"))
    await part.open()
    assert await part.answer(record(1)) is None
    assert part.ended == "never mind"
    assert vqa_server.stats().received == 0


async def test_workers_get_numbers_and_keep_them() -> None:
    """One that starts again has its own; who comes in place of another, one that is free."""
    desk = Desk(2)
    assert [await desk.join(name) for name in ("a", "b", "a", "c")] == [0, 1, 0, 0]
    await asyncio.wait_for(desk.all_there(), 1)
    assert not await desk.is_stopping()
    waiting = asyncio.create_task(desk.all_left())
    for name in ("a", "b", "c"):
        assert not waiting.done()
        await desk.leave(name)
    await asyncio.wait_for(waiting, 1)


async def test_nobody_waits_for_workers_of_a_run_that_stops() -> None:
    """Those that have not come need not."""
    desk = Desk(2)
    waiting = asyncio.create_task(desk.all_there())
    await desk.join("a")
    await desk.stop(Stop("enough"))
    await asyncio.wait_for(waiting, 1)
    assert await desk.is_stopping()


def test_a_share_is_a_config_like_any(tmp_path: Path) -> None:
    """What changes answers is not touched, so all parts have the settings of the run."""
    whole = config("http://localhost:1/v1", max_requests=10, rpm=60)
    assert share_of(whole, 0, 2).answer_settings() == whole.answer_settings()
    with pytest.raises(ConfigError, match="need --engine ray"):
        Config.of(ray_actors=2)
