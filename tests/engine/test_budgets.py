"""A run that may not cost more, or not take longer: it ends drained, says the sum, and goes on later."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from vqa_async import arun, open_engine
from vqa_async.engine import RunSummary
from vqa_async.errors import BudgetReached, ConfigError
from vqa_async.events import Event, RunStopping
from vqa_async.models import Success
from vqa_async.server import running_server
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Request, Response

URL = "http://test.invalid/v1"


def written(folder: Path, count: int) -> str:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps({"conversation": f"What is {n}?"}) + "\n" for n in range(count)))
    return str(path)


async def run(folder: Path, transport: FakeTransport, *, count: int = 100, **options: Any) -> RunSummary:
    source, output = written(folder, count), str(folder / "out.jsonl")
    return await arun(source, output, base_url=URL, model="m", transport=transport, **options)


@pytest.mark.parametrize("workers", [1, 8, 64])
async def test_no_more_requests_are_sent_than_the_budget_holds(tmp_path: Path, workers: int) -> None:
    """Exactly so many, all of them answered and kept; the same command again goes on from there."""
    transport = FakeTransport([reply()], latency_s=0.01)
    summary = await run(tmp_path, transport, max_requests=40, max_workers=workers)
    assert (summary.state, type(summary.error)) == ("stopped", BudgetReached)
    assert len(transport.requests) == summary.statistics.succeeded == summary.statistics.requests == 40
    assert "40 requests were sent (--max-requests)" in summary.reason
    assert not (tmp_path / "out.failures.jsonl").exists()
    for expected in (40, 20):
        summary = await run(tmp_path, transport, max_requests=40, max_workers=workers)
        assert summary.statistics.succeeded == expected
    assert summary.state == "finished"
    assert len(transport.requests) == 100


async def test_retries_count_as_requests(tmp_path: Path) -> None:
    """A budget that the retries use up is used up."""
    transport = FakeTransport([reply(status=503, body=b"")])
    summary = await run(tmp_path, transport, max_requests=9, max_workers=4, backoff_max=0.01)
    assert len(transport.requests) == 9
    assert summary.statistics.succeeded == 0


@pytest.mark.parametrize("workers", [1, 64])
async def test_tokens_stay_below_their_budget_whatever_is_in_flight(tmp_path: Path, workers: int) -> None:
    """15 tokens a reply, 1,000 allowed; the estimate learns that, so most of them are used."""
    transport = FakeTransport([reply()], latency_s=0.01)
    options = {"max_tokens_total": 1000, "max_workers": workers, "max_tokens": 5, "system_prompt": ""}
    summary = await run(tmp_path, transport, **options)
    spent = summary.statistics.prompt_tokens + summary.statistics.completion_tokens
    assert 600 <= spent <= 1000
    assert "(--max-tokens-total)" in summary.reason


async def test_cost_is_counted_by_the_prices_that_are_given(tmp_path: Path) -> None:
    """10 prompt tokens at $100 a million and 5 answer tokens at $200: $0.002 a reply."""
    transport = FakeTransport([reply()], latency_s=0.01)
    prices = {"price_input": 100.0, "price_output": 200.0}
    summary = await run(
        tmp_path, transport, max_cost=0.05, max_workers=2, max_tokens=5, system_prompt="", **prices
    )
    assert summary.statistics.cost == pytest.approx(0.002 * summary.statistics.succeeded)
    assert 0.03 <= summary.statistics.cost <= 0.05
    assert "of $0.05 are spent" in summary.reason


async def test_a_cost_without_prices_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """The sentence names both ways to mend it."""
    with pytest.raises(ConfigError, match=r"--price-input.*vqa-async\[cost\]"):
        await run(tmp_path, FakeTransport([reply()]), max_cost=1.0)


async def test_deadline_drains_what_is_in_flight(tmp_path: Path) -> None:
    """What was sent is answered and kept; nothing is sent after it."""
    source, output = written(tmp_path, 1000), tmp_path / "out.jsonl"
    async with (
        running_server(latency=0.2, decode=False) as server,
        open_engine(base_url=server.base_url, model="looks-1", max_workers=10, deadline=0.5) as engine,
    ):
        summary = await engine.run(source, str(output))
        received = server.stats().received
    assert (summary.state, summary.error and summary.error.code) == ("stopped", "deadline")
    assert "(--deadline)" in summary.reason
    assert received == summary.statistics.succeeded == len(output.read_text().splitlines())
    assert 10 <= received <= 500


def without_usage(text: str = "Two words.") -> Response:
    """An answer that does not tell what it took."""
    body = orjson.loads(reply(text).body)
    del body["usage"]
    return reply(body=orjson.dumps(body))


@pytest.mark.parametrize("answer", [without_usage(), reply(""), without_usage("")])
async def test_budget_also_counts_what_is_not_told_and_what_was_in_vain(
    tmp_path: Path, answer: Response
) -> None:
    """Servers that tell no usage, and models that answer nothing: neither makes a budget endless."""
    transport = FakeTransport([answer], latency_s=0.001)
    options = {"max_tokens_total": 1000, "max_workers": 4, "max_tokens": 5, "system_prompt": ""}
    summary = await run(tmp_path, transport, count=300, **options)
    assert summary.state == "stopped"
    assert 10 <= len(transport.requests) <= 100


async def test_each_run_of_an_engine_has_its_budget(tmp_path: Path) -> None:
    """And its own count of requests; the engine's statistics hold all of them."""
    transport = FakeTransport([reply()])
    source, output = written(tmp_path, 25), str(tmp_path / "out.jsonl")
    options: dict[str, Any] = {"max_requests": 10, "price_input": 1.0, "price_output": 1.0}
    async with open_engine(base_url=URL, model="m", transport=transport, **options) as engine:
        found = [(await engine.run(source, output)).statistics for _ in range(3)]
        assert [(s.succeeded, s.requests) for s in found] == [(10, 10), (10, 10), (5, 5)]
        assert engine.statistics().requests == 25
        assert engine.statistics().cost == pytest.approx(sum(s.cost or 0 for s in found))


async def test_request_sent_twice_does_not_end_the_first_where_the_budget_is_used_up(tmp_path: Path) -> None:
    """The last request that is allowed is slow: there is none to send again, so it is waited for."""

    class SlowAtLast(FakeTransport):
        async def send(self, request: Request) -> Response:
            is_last = len(self.requests) == 99
            answer = await super().send(request)
            await asyncio.sleep(0.5 if is_last else 0.0)
            return answer

    transport = SlowAtLast([reply()], latency_s=0.01)
    options: dict[str, Any] = {"max_requests": 100, "max_workers": 4, "hedge": "p95"}
    summary = await run(tmp_path, transport, count=300, **options)
    assert len(transport.requests) == summary.statistics.succeeded == 100


async def test_who_waits_for_the_budget_is_not_in_flight(tmp_path: Path) -> None:
    """So a run that is stopped does not send for them what another request has left."""
    transport = FakeTransport([reply()], latency_s=0.5)
    stopping: list[int] = []

    class Stops:
        def on_event(self, event: Event) -> None:
            if isinstance(event, RunStopping):
                stopping.append(event.in_flight)

    options: dict[str, Any] = {"max_tokens_total": 700, "max_tokens": 500, "system_prompt": ""}
    async with open_engine(
        base_url=URL, model="m", transport=transport, observer=Stops(), **options
    ) as engine:
        task = asyncio.create_task(engine.run(written(tmp_path, 50), str(tmp_path / "out.jsonl")))
        while not transport.requests:
            await asyncio.sleep(0.01)
        engine.stop("Interrupted")
        summary = await task
    assert (len(transport.requests), stopping, summary.statistics.succeeded) == (1, [1], 1)


@pytest.mark.parametrize("workers", [2, 8])
async def test_budget_is_waited_for_by_as_many_as_come_and_never_for_ever(
    tmp_path: Path, workers: int
) -> None:
    """Requests that fail, and requests that are cancelled with the run, leave what they had reserved."""
    replies = itertools.cycle([reply(status=500, body=b""), reply(), reply("")])
    transport = FakeTransport(lambda _: next(replies), latency_s=0.005)
    options = {"max_tokens_total": 600, "max_tokens": 250, "system_prompt": "", "max_workers": workers}
    async with asyncio.timeout(20):
        summary = await run(tmp_path, transport, backoff_max=0.01, hedge="p95", **options)
    assert summary.state == "stopped"
    assert "(--max-tokens-total)" in summary.reason


async def test_cancelled_record_leaves_what_it_had_reserved() -> None:
    """In the very moment in which its request was to begin, too, with hedging."""
    transport = FakeTransport([reply()], latency_s=0.05)
    options: dict[str, Any] = {
        "max_tokens_total": 600,
        "max_tokens": 500,
        "system_prompt": "",
        "hedge": "p95",
    }
    async with open_engine(base_url=URL, model="m", transport=transport, **options) as engine:
        for steps in range(12):
            task = asyncio.create_task(engine.generate({"conversation": "What?"}))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(5):
            assert (await engine.generate({"conversation": "And now?"})).ok


# --- the look before the first record ----------------------------------------------------------------------


def listing(*names: str) -> Callable[[Request], Response]:
    """An endpoint that lists these models."""
    models = orjson.dumps({"data": [{"id": name} for name in names]})
    return lambda request: reply(body=models) if request.method == "GET" else reply()


@pytest.mark.parametrize(("budget", "answered"), [(1, 1), (2, 1), (10, 9)])
async def test_look_at_the_endpoint_comes_out_of_the_budget_and_never_uses_it_up(
    tmp_path: Path, budget: int, answered: int
) -> None:
    """No more requests than allowed; and each run gets on, however few those are."""
    transport = FakeTransport(listing("other"))
    source, output = written(tmp_path, 30), str(tmp_path / "out.jsonl")
    async with open_engine(base_url=URL, model="m", transport=transport, max_requests=budget) as engine:
        summary = await engine.run(source, output, preflight=True)
    sent = sum(request.method == "POST" for request in transport.requests)
    assert (sent, summary.statistics.requests, summary.statistics.succeeded) == (budget, budget, answered)


async def test_time_that_is_waited_for_the_budget_is_none_of_the_answer(tmp_path: Path) -> None:
    """Latency begins when the request is sent."""
    transport = FakeTransport([reply()], latency_s=0.1)
    options: dict[str, Any] = {"max_tokens_total": 700, "max_tokens": 500, "system_prompt": ""}
    async with open_engine(base_url=URL, model="m", transport=transport, **options) as engine:
        calls = [engine.generate({"conversation": f"What is {n}?"}) for n in range(2)]
        results = [result for result in await asyncio.gather(*calls) if isinstance(result, Success)]
    assert len(results) == 2
    assert all(result.latency_s < 0.15 for result in results)


@pytest.mark.parametrize("budget", [{"max_requests": 8}, {"max_tokens_total": 400, "max_tokens": 5}])
async def test_what_a_budget_was_used_up_for_gets_as_long_as_it_needs(
    tmp_path: Path, budget: dict[str, Any]
) -> None:
    """It is paid for: cut off, it would be asked again by the next run, and perhaps never be answered."""
    transport = FakeTransport([reply()], latency_s=0.3)
    options: dict[str, Any] = {"drain_timeout": 0.05, "max_workers": 8, "system_prompt": "", **budget}
    summary = await run(tmp_path, transport, **options)
    assert summary.state == "stopped"
    assert len(transport.requests) == summary.statistics.succeeded > 0
