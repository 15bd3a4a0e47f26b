"""Rate limits that tell the truth, seats, queues."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from chat_bodies import ask, chat_body

from vqa_async.server import RunningServer, ServerOptions, running_server
from vqa_async.server.rates import Bucket, Rates, format_duration
from vqa_async.server.refusals import Refusal


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_a_minute_and_refills_steadily() -> None:
    """After 60 at once, one comes back each second."""
    clock = Clock()
    bucket = Bucket(60, clock)
    bucket.take(60)
    assert bucket.wait_s(1) == 1.0
    clock.now += 0.4
    assert bucket.wait_s(1) == pytest.approx(0.6)
    clock.now += 3600
    assert bucket.wait_s(60) == 0
    assert bucket.wait_s(61) == 0, "more than it holds counts as all that it holds"


def test_who_waits_as_told_is_let_in() -> None:
    """The time in a refusal is enough, and not more than is needed."""
    clock = Clock()
    rates = Rates(ServerOptions(rpm=3), clock)
    for _ in range(3):
        rates.admit(0)
    with pytest.raises(Refusal) as refused:
        rates.admit(0)
    wait_s = int(refused.value.headers["retry-after-ms"]) / 1000
    assert wait_s == 20.0
    clock.now += wait_s - 0.1
    with pytest.raises(Refusal):
        rates.admit(0)
    clock.now += 0.1001
    rates.admit(0)


def test_a_refused_request_takes_nothing() -> None:
    """One refused for its tokens does not use up a request."""
    clock = Clock()
    rates = Rates(ServerOptions(rpm=10, tpm=100), clock)
    rates.admit(100)
    for _ in range(5):
        with pytest.raises(Refusal) as refused:
            rates.admit(50)
        assert refused.value.type == "tokens"
    assert rates.headers()["x-ratelimit-remaining-requests"] == "9"


def test_what_an_answer_cost_is_paid_afterwards() -> None:
    """Completion tokens leave the bucket below zero, and the next one waits longer."""
    rates = Rates(ServerOptions(tpm=60), Clock())
    rates.admit(10)
    rates.settle(80)
    assert rates.headers()["x-ratelimit-remaining-tokens"] == "0"
    with pytest.raises(Refusal) as refused:
        rates.admit(10)
    assert refused.value.headers["Retry-After"] == "40"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0201, "21ms"),
        (1.2, "1.2s"),
        (20, "20s"),
        (360, "6m0s"),
        (3605, "1h0m5s"),
        (59.9999, "1m0s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    """Milliseconds below a second, then seconds, minutes, hours."""
    assert format_duration(seconds) == text


async def headers_of(client: aiohttp.ClientSession, server: RunningServer) -> tuple[int, Any]:
    async with client.post(f"{server.base_url}/chat/completions", json=chat_body()) as response:
        await response.read()
        return response.status, response.headers


async def test_requests_per_minute_are_limited_with_openais_headers(client: aiohttp.ClientSession) -> None:
    """Every reply says what is left; the 429 says how long to wait."""
    async with running_server(rpm=2) as server:
        replies = [await headers_of(client, server) for _ in range(3)]
        assert [status for status, _ in replies] == [200, 200, 429]
        assert [h["x-ratelimit-remaining-requests"] for _, h in replies] == ["1", "0", "0"]
        refused = replies[-1][1]
        assert refused["x-ratelimit-limit-requests"] == "2"
        assert refused["Retry-After"] == "30"
        assert 29_000 < int(refused["retry-after-ms"]) <= 30_000
        assert server.stats().by_status == {200: 2, 429: 1}


async def test_tokens_per_minute_are_limited(client: aiohttp.ClientSession) -> None:
    """The answer to the first request uses up what there is."""
    async with running_server(tpm=20) as server:
        assert (await ask(client, server, chat_body()))[0] == 200
        status, reply = await ask(client, server, chat_body())
        assert status == 429
        assert (reply["error"]["type"], reply["error"]["code"]) == ("tokens", "rate_limit_exceeded")


async def test_without_limits_no_limit_is_mentioned(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """The headers come only with the limits."""
    _, headers = await headers_of(client, server)
    assert not [name for name in headers if name.lower().startswith("x-ratelimit")]


async def test_beyond_the_seats_requests_wait_their_turn(client: aiohttp.ClientSession) -> None:
    """With two seats, six requests take three rounds, and all are answered."""
    async with running_server(max_concurrency=2, latency=0.03) as server:
        start = asyncio.get_running_loop().time()
        replies = await asyncio.gather(*(ask(client, server, chat_body()) for _ in range(6)))
        assert [status for status, _ in replies] == [200] * 6
        assert asyncio.get_running_loop().time() - start >= 0.089
        assert server.stats().max_in_flight == 6


async def test_beyond_the_seats_requests_are_refused_where_ordered(client: aiohttp.ClientSession) -> None:
    """Those that find a seat are answered, the others get a 429 at once."""
    async with running_server(max_concurrency=2, overload="429", latency=0.1, retry_after=0.5) as server:
        replies = await asyncio.gather(*(headers_of(client, server) for _ in range(6)))
        assert sorted(status for status, _ in replies) == [200, 200, 429, 429, 429, 429]
        assert {h["retry-after-ms"] for status, h in replies if status == 429} == {"500"}
