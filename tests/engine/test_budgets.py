"""A run that may not cost more, or not take longer: it ends drained, says the sum, and goes on later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vqa_async import arun, open_engine
from vqa_async.engine import RunSummary
from vqa_async.errors import BudgetReached, ConfigError
from vqa_async.server import running_server
from vqa_async.testing import FakeTransport, reply

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
    assert 20 <= received <= 40
