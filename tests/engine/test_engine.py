"""The engine: every record ends exactly once, stops drain, cancellation leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vqa_async import Failure, Result, Success, open_engine
from vqa_async.engine import Engine
from vqa_async.errors import AuthError, ConfigError, InputError, RecordError
from vqa_async.events import Event, RecordFinished, RunStarted, RunStopping
from vqa_async.models import AttemptFailed
from vqa_async.server import RunningServer, running_server
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Request, Response

ASK = {"base_url": "http://test.invalid/v1", "model": "m", "api_key": ""}


def rows(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"conversation": [{"from": "human", "value": f"Question {n}"}], **fields} for n in range(count)]


def asked(request: Request) -> str:
    return json.loads(b"".join(request.body))["messages"][-1]["content"]


def echo(request: Request) -> Response:
    return reply(f"- Q: {asked(request)}\n  A: yes")


def write_jsonl(path: Path, items: list[Any]) -> str:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return str(path)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def collect(results: AsyncIterator[Result], into: list[Result]) -> None:
    async for result in results:
        into.append(result)  # noqa: PERF401 - what came before an exception must stay


class Watcher:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


# --- one record ----------------------------------------------------------------------------------------


async def test_one_record_is_answered_with_its_pairs() -> None:
    """generate gives text, pairs and usage for a row as it stands in an input file."""
    async with open_engine(**ASK, transport=FakeTransport(echo)) as engine:
        result = await engine.generate(rows(1)[0])
    assert isinstance(result, Success)
    assert [(p.question, p.answer) for p in result.pairs] == [("Question 0", "yes")]
    assert result.completion.usage.completion_tokens == 5


async def test_a_bad_row_is_a_failure_and_not_an_exception() -> None:
    """generate never raises for the record's sake, and sends nothing for a row that is no record."""
    transport = FakeTransport([reply()])
    async with open_engine(**ASK, transport=transport) as engine:
        result = await engine.generate({"image": "a.png"})
    assert isinstance(result, Failure)
    assert isinstance(result.error, RecordError)
    assert transport.requests == []


async def test_requests_in_flight_never_exceed_max_workers() -> None:
    """The permits bound what is on the wire, however many calls are made at once."""
    transport = FakeTransport(echo, latency_s=0.005)
    async with open_engine(**ASK, transport=transport, max_workers=7) as engine:
        await asyncio.gather(*(engine.generate(row) for row in rows(60)))
    assert transport.most_in_flight == 7


# --- streams -------------------------------------------------------------------------------------------


async def test_a_stream_gives_each_record_once() -> None:
    """Rows from a list come back once each, whatever the order."""
    async with open_engine(**ASK, transport=FakeTransport(echo)) as engine:
        results = [result async for result in engine.stream(rows(300))]
    assert sorted(result.record.index for result in results) == list(range(300))


async def test_a_stream_takes_async_and_endless_iterables(no_leaks: Callable[[], None]) -> None:
    """An endless async generator is read only as far as it is used, and closed when the loop is left."""
    produced = 0
    closed = False

    async def endless() -> AsyncIterator[dict[str, Any]]:
        nonlocal produced, closed
        try:
            while True:
                produced += 1
                yield rows(1, n=produced)[0]
        finally:
            closed = True

    async with open_engine(**ASK, transport=FakeTransport(echo), max_workers=4) as engine:
        count = 0
        async for _ in engine.stream(endless()):
            count += 1
            if count == 20:
                break
    no_leaks()
    assert closed
    assert produced < 100


async def test_an_error_of_the_callers_iterable_comes_after_what_preceded_it() -> None:
    """All records before the failing one are answered, then the caller's own exception is raised."""

    def failing() -> Iterator[dict[str, Any]]:
        yield from rows(25)
        raise LookupError("no more at record 25")

    seen: list[Result] = []
    async with open_engine(**ASK, transport=FakeTransport(echo)) as engine:
        with pytest.raises(LookupError, match="record 25"):
            await collect(engine.stream(failing()), seen)
    assert len(seen) == 25


async def test_a_wrong_key_ends_a_stream_with_the_reason() -> None:
    """AuthError is raised, and the queue is not burnt through."""
    transport = FakeTransport([reply(status=401, body=b'{"error":{"message":"bad key"}}')])
    async with open_engine(**ASK, transport=transport, max_workers=5) as engine:
        with pytest.raises(AuthError, match="DF_API_KEY"):
            async for _ in engine.stream(rows(500)):
                pass
    assert len(transport.requests) <= 5


async def test_leaving_a_stream_early_leaves_no_task(no_leaks: Callable[[], None]) -> None:
    """Breaking out of the loop ends the workers, even those that were waiting for an answer."""
    async with open_engine(**ASK, transport=FakeTransport(echo, latency_s=0.01)) as engine:
        async for _ in engine.stream(rows(1000)):
            break
    no_leaks()


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.05])
async def test_a_cancelled_caller_leaves_nothing_behind(after_s: float, no_leaks: Callable[[], None]) -> None:
    """Cancellation passes through, at whatever moment it comes, and frees permits, tasks and sockets."""
    async with open_engine(**ASK, transport=FakeTransport(echo, latency_s=0.02)) as engine:

        async def consume() -> None:
            async for _ in engine.stream(rows(10_000)):
                pass

        task = asyncio.create_task(consume())
        await asyncio.sleep(after_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.statistics().in_flight == 0
        assert (await engine.generate(rows(1)[0])).ok
    no_leaks()


async def test_closing_the_engine_ends_streams_that_nobody_reads(no_leaks: Callable[[], None]) -> None:
    """A stream that was begun and forgotten does not outlive the engine's block."""
    async with open_engine(**ASK, transport=FakeTransport(echo)) as engine:
        stream = engine.stream(rows(1000))
        await anext(stream)
    no_leaks()
    await stream.aclose()


# --- journalled runs -----------------------------------------------------------------------------------


async def test_a_run_writes_every_answer_and_every_failure(tmp_path: Path, red_image: str) -> None:
    """Successes and failures stand in their own files; a bad row costs nobody else anything."""
    items = [*rows(20), 7, {"image": "missing.png", "conversation": "What?"}, *rows(1, image=red_image)]
    source = write_jsonl(tmp_path / "in.jsonl", items)
    async with open_engine(**ASK, transport=FakeTransport([reply()])) as engine:
        summary = await engine.run(source, str(tmp_path / "out.jsonl"))
    assert (summary.state, summary.statistics.succeeded, summary.statistics.failed) == ("finished", 21, 2)
    assert not summary.ok
    assert len(lines(tmp_path / "out.jsonl")) == 21
    codes = {line["error"]["code"] for line in lines(tmp_path / "out.failures.jsonl")}
    assert codes == {"not_an_object", "file_not_found"}


async def test_the_same_run_again_sends_nothing(tmp_path: Path) -> None:
    """Finished records are skipped; so are failures that are permanent."""
    source = write_jsonl(tmp_path / "in.jsonl", [*rows(30), 7])
    transport = FakeTransport(echo)
    async with open_engine(**ASK, transport=transport) as engine:
        await engine.run(source, str(tmp_path / "out.jsonl"))
        again = await engine.run(source, str(tmp_path / "out.jsonl"))
    assert len(transport.requests) == 30
    assert (again.statistics.skipped, again.statistics.skipped_failed) == (31, 1)


async def test_a_run_resumes_after_the_input_was_reordered_and_extended(tmp_path: Path) -> None:
    """Records are known by what they ask, not by where they stand."""
    transport = FakeTransport(echo)
    first = write_jsonl(tmp_path / "a.jsonl", rows(10))
    second = write_jsonl(tmp_path / "b.jsonl", list(reversed(rows(15))))
    async with open_engine(**ASK, transport=transport) as engine:
        await engine.run(first, str(tmp_path / "out.jsonl"))
        await engine.run(second, str(tmp_path / "out.jsonl"))
    questions = [line["conversation"][0]["value"] for line in lines(tmp_path / "out.jsonl")]
    assert sorted(questions) == sorted(f"Question {n}" for n in range(15))
    assert len(transport.requests) == 15


async def test_a_retryable_failure_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    """The later success supersedes the failure, which leaves the failures file."""
    answers = iter([reply(status=503, body=b"busy")])
    transport = FakeTransport(lambda request: next(answers, reply()))
    source = write_jsonl(tmp_path / "in.jsonl", rows(1))
    async with open_engine(**ASK, transport=transport, max_attempts=1) as engine:
        first = await engine.run(source, str(tmp_path / "out.jsonl"))
        failed = lines(tmp_path / "out.failures.jsonl")
        second = await engine.run(source, str(tmp_path / "out.jsonl"))
    assert (first.statistics.failed, failed[0]["error"]["type"]) == (1, "ServerError")
    assert second.ok
    assert not (tmp_path / "out.failures.jsonl").exists()


async def test_permanent_failures_are_tried_again_only_when_asked(tmp_path: Path) -> None:
    """retry_failed sends what was rejected once more."""
    transport = FakeTransport([reply(status=400, body=b'{"error":{"message":"no"}}'), reply()])
    source = write_jsonl(tmp_path / "in.jsonl", rows(1))
    async with open_engine(**ASK, transport=transport) as engine:
        await engine.run(source, str(tmp_path / "out.jsonl"))
        skipped = await engine.run(source, str(tmp_path / "out.jsonl"))
    async with open_engine(**ASK, transport=transport, retry_failed=True) as engine:
        retried = await engine.run(source, str(tmp_path / "out.jsonl"))
    assert skipped.statistics.skipped_failed == 1
    assert retried.ok


async def test_a_limit_takes_the_first_records_and_the_next_run_the_rest(tmp_path: Path) -> None:
    """--limit counts records of the input, those already finished included."""
    source = write_jsonl(tmp_path / "in.jsonl", rows(20))
    async with open_engine(**ASK, transport=FakeTransport(echo)) as engine:
        first = await engine.run(source, str(tmp_path / "out.jsonl"), limit=5)
        rest = await engine.run(source, str(tmp_path / "out.jsonl"))
        with pytest.raises(ConfigError, match="limit"):
            await engine.run(source, str(tmp_path / "out.jsonl"), limit=0)
    assert (first.statistics.succeeded, rest.statistics.succeeded) == (5, 15)


async def test_a_stopped_run_keeps_what_is_in_flight_and_leaves_the_rest_open(tmp_path: Path) -> None:
    """What is on the wire is answered and saved, nothing new is sent, a second run finishes."""
    source = write_jsonl(tmp_path / "in.jsonl", rows(200))
    transport = FakeTransport(echo, latency_s=0.01)
    watcher = Watcher()
    async with open_engine(**ASK, transport=transport, max_workers=8, observer=watcher) as engine:
        run = asyncio.create_task(engine.run(source, str(tmp_path / "out.jsonl")))
        while len(watcher.of(RecordFinished)) < 40:
            await asyncio.sleep(0.001)
        engine.stop("enough")
        sent = len(transport.requests)
        stopped = await run
        assert len(transport.requests) == sent
        assert len(lines(tmp_path / "out.jsonl")) == sent
        finished = await engine.run(source, str(tmp_path / "out.jsonl"))
    assert (stopped.state, stopped.reason) == ("interrupted", "enough")
    assert watcher.of(RunStopping)[0].in_flight <= 8
    assert finished.ok
    assert len(transport.requests) == 200


async def test_retries_end_with_the_stop_and_stay_open(tmp_path: Path) -> None:
    """A record that waits to be tried again when the run stops is no failure: the next run asks it."""
    source = write_jsonl(tmp_path / "in.jsonl", rows(3))
    transport = FakeTransport([reply(status=503, body=b"busy")])
    watcher = Watcher()
    async with open_engine(**ASK, transport=transport, backoff_base=60, observer=watcher) as engine:
        run = asyncio.create_task(engine.run(source, str(tmp_path / "out.jsonl")))
        while len(watcher.of(AttemptFailed)) < 3:
            await asyncio.sleep(0.001)
        engine.stop("enough")
        summary = await asyncio.wait_for(run, 1)
    assert (summary.statistics.failed, summary.statistics.succeeded) == (0, 0)
    assert not (tmp_path / "out.failures.jsonl").exists()


async def test_requests_that_outlast_the_drain_are_ended(tmp_path: Path) -> None:
    """drain_timeout bounds how long a stop takes; what had no answer stays open."""
    source = write_jsonl(tmp_path / "in.jsonl", rows(5))
    async with open_engine(**ASK, transport=FakeTransport(echo, latency_s=30), drain_timeout=0.05) as engine:
        run = asyncio.create_task(engine.run(source, str(tmp_path / "out.jsonl")))
        while engine.statistics().in_flight < 5:
            await asyncio.sleep(0.001)
        engine.stop("enough")
        summary = await asyncio.wait_for(run, 2)
    assert (summary.state, summary.statistics.succeeded) == ("interrupted", 0)


async def test_a_wrong_key_stops_the_run_with_nothing_burnt(tmp_path: Path) -> None:
    """The error that ends the run is no failure of its record; with the right key the run goes on."""
    source = write_jsonl(tmp_path / "in.jsonl", rows(300))
    denied = FakeTransport([reply(status=401, body=b'{"error":"Unauthorized"}')])
    async with open_engine(**ASK, transport=denied, max_workers=6) as engine:
        summary = await engine.run(source, str(tmp_path / "out.jsonl"))
    assert isinstance(summary.error, AuthError)
    assert (summary.state, summary.statistics.failed) == ("stopped", 0)
    assert len(denied.requests) <= 6
    async with open_engine(**ASK, transport=FakeTransport(echo)) as engine:
        assert (await engine.run(source, str(tmp_path / "out.jsonl"))).statistics.succeeded == 300


async def test_an_input_that_breaks_off_keeps_what_came_before(tmp_path: Path) -> None:
    """The records before the damage are answered and saved, then InputError names the place."""
    (tmp_path / "in.json").write_text(json.dumps(rows(12))[:-1] + ', {"conversation": ')
    async with open_engine(**ASK, transport=FakeTransport(echo)) as engine:
        with pytest.raises(InputError, match=r"in\.json"):
            await engine.run(str(tmp_path / "in.json"), str(tmp_path / "out.jsonl"))
    assert len(lines(tmp_path / "out.jsonl")) == 12


async def test_input_and_output_may_not_be_one_file(tmp_path: Path) -> None:
    """The input is not opened for writing, not even through a link."""
    source = write_jsonl(tmp_path / "in.jsonl", rows(1))
    (tmp_path / "link.jsonl").symlink_to(source)
    async with open_engine(**ASK, transport=FakeTransport(echo)) as engine:
        with pytest.raises(ConfigError, match="same file"):
            await engine.run(source, str(tmp_path / "link.jsonl"))
    assert len(lines(Path(source))) == 1


# --- observers and statistics --------------------------------------------------------------------------


async def test_an_observer_learns_of_a_result_only_when_it_is_saved(tmp_path: Path) -> None:
    """Announced means: in the file."""
    source = write_jsonl(tmp_path / "in.jsonl", rows(40))
    missing = []

    class Reader:
        def on_event(self, event: Event) -> None:
            if isinstance(event, RecordFinished):
                text = (tmp_path / "out.jsonl").read_text()
                if event.result.id not in text:
                    missing.append(event.result.id)

    async with open_engine(**ASK, transport=FakeTransport(echo), observer=Reader()) as engine:
        await engine.run(source, str(tmp_path / "out.jsonl"))
    assert missing == []


async def test_an_observer_that_fails_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its exception is logged, the run goes on."""

    class Broken:
        def on_event(self, event: Event) -> None:
            raise ZeroDivisionError(type(event).__name__)

    source = write_jsonl(tmp_path / "in.jsonl", rows(5))
    async with open_engine(**ASK, transport=FakeTransport(echo), observer=Broken()) as engine:
        assert (await engine.run(source, str(tmp_path / "out.jsonl"))).ok
    assert "ZeroDivisionError" in caplog.text


async def test_statistics_count_calls_and_runs_together(tmp_path: Path) -> None:
    """An engine counts what it did since it was opened."""
    source = write_jsonl(tmp_path / "in.jsonl", rows(5))
    watcher = Watcher()
    async with open_engine(**ASK, transport=FakeTransport(echo), observer=watcher) as engine:
        await engine.generate(rows(1)[0])
        summary = await engine.run(source, str(tmp_path / "out.jsonl"))
        statistics = engine.statistics()
    assert (statistics.succeeded, summary.statistics.succeeded) == (6, 5)
    assert statistics.prompt_tokens == 60
    assert (summary.statistics.expected, summary.statistics.expected_is_exact) == (5, True)
    assert len(watcher.of(RunStarted)) == 1


# --- against the embedded endpoint ---------------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running


async def test_an_image_is_encoded_once_for_many_questions(server: RunningServer, red_image: str) -> None:
    """Sixty questions about one image reach the endpoint with the image, encoded once."""
    questions = [{"image": red_image, "conversation": f"Question {n}"} for n in range(60)]
    async with open_engine(base_url=server.base_url, model="looks-1") as engine:
        results = [result async for result in engine.stream(questions)]
        encodes = engine.image_statistics().encodes
    assert all("red" in result.text and "64 x 48" in result.text for result in results if result.ok)
    assert (len(results), encodes, server.stats().images) == (60, 1, 1)


async def test_faults_of_every_kind_cost_no_record(tmp_path: Path) -> None:
    """With a third of all requests going wrong each record is answered once, and retries stay bounded."""
    source = write_jsonl(tmp_path / "in.jsonl", rows(150))
    faults = {
        "error_rate": ("503=0.1", "429=0.05"),
        "malformed_rate": 0.08,
        "cut_rate": 0.05,
        "disconnect_rate": 0.05,
        "seed": 7,
    }
    async with (
        running_server(**faults) as server,
        open_engine(
            base_url=server.base_url, model="looks-1", max_workers=20, backoff_base=0.01, max_attempts=12
        ) as engine,
    ):
        summary = await engine.run(source, str(tmp_path / "out.jsonl"))
    answered = [line["_meta"]["id"] for line in lines(tmp_path / "out.jsonl")]
    assert len(answered) == len(set(answered)) == summary.statistics.succeeded
    # An empty answer is the one fault that is not tried again by itself.
    assert summary.statistics.succeeded + summary.statistics.failed == 150
    assert set(summary.statistics.failures_by_type) <= {"empty_response"}


async def test_nothing_listening_stops_the_run_at_once(tmp_path: Path) -> None:
    """Three refused connections at the start are enough; no record is burnt."""
    source = write_jsonl(tmp_path / "in.jsonl", rows(50))
    async with running_server() as server:
        gone = server.base_url
    async with open_engine(base_url=gone, model="m", backoff_base=0.01) as engine:
        summary = await asyncio.wait_for(engine.run(source, str(tmp_path / "out.jsonl")), 3)
    assert summary.state == "stopped"
    assert "refuses connections" in summary.reason
    assert summary.statistics.failed == 0


def test_two_event_loops_one_after_the_other_work() -> None:
    """Nothing is kept between engines: not a loop, not a lock, not a session."""

    async def once() -> bool:
        async with running_server() as server, open_engine(base_url=server.base_url, model="looks-1") as e:
            engine: Engine = e
            return (await engine.generate(rows(1)[0])).ok

    assert [asyncio.run(once()) for _ in range(2)] == [True, True]


@pytest.mark.parametrize("threshold", [(700, 10, 10), (0, 10, 10), (50_000, 5, 5)])
async def test_the_garbage_collector_of_the_host_is_as_it_was(threshold: tuple[int, int, int]) -> None:
    """A run makes it look less often, two at once too; a host that chose other settings keeps them."""
    seen = set()

    def answer(request: Request) -> Response:
        seen.add(gc.get_threshold())
        return echo(request)

    before = gc.get_threshold()
    gc.set_threshold(*threshold)
    try:
        async with open_engine(**ASK, transport=FakeTransport(answer, latency_s=0.01)) as engine:
            results: list[Result] = []
            await asyncio.gather(*(collect(engine.stream(rows(20)), results) for _ in range(2)))
        assert gc.get_threshold() == threshold
    finally:
        gc.set_threshold(*before)
    assert len(results) == 40
    assert seen == {(10_000, 10, 10) if threshold[0] == 700 else threshold}
