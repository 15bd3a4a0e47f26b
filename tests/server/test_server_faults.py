"""Each fault that can be ordered does what it says, and the same seed orders the same faults again."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from typing import Any

import aiohttp
import pytest
from chat_bodies import ask, chat_body

from vqa_async.server import RunningServer, ServerOptions, running_server
from vqa_async.server.faults import Faults
from vqa_async.server.pace import Pace


async def outcome(client: aiohttp.ClientSession, server: RunningServer) -> Any:
    """Status of the reply, or the name of what went wrong instead."""
    try:
        async with client.post(f"{server.base_url}/chat/completions", json=chat_body()) as response:
            await response.read()
            return response.status
    except aiohttp.ClientError as error:
        return type(error).__name__


async def test_statuses_are_ordered_by_rate(client: aiohttp.ClientSession) -> None:
    """Of 300 requests about a third each get a 503, a 429 and an answer."""
    async with running_server(error_rate=("503=0.33", "429=0.33")) as server:
        seen = Counter([await outcome(client, server) for _ in range(300)])
        assert seen.keys() == {200, 429, 503}
        assert all(70 <= count <= 130 for count in seen.values())
        assert server.stats().by_status == seen


async def test_an_ordered_503_says_when_to_come_back(client: aiohttp.ClientSession) -> None:
    """Retry-After in whole seconds, rounded up, and exactly in milliseconds."""
    async with (
        running_server(error_rate="503=1", retry_after=1.2) as server,
        client.post(f"{server.base_url}/chat/completions", json=chat_body()) as response,
    ):
        assert response.headers["Retry-After"] == "2"
        assert response.headers["retry-after-ms"] == "1200"
        assert "ordered" in (await response.json())["error"]["message"]


@pytest.mark.parametrize(("order", "said"), [("503=1", 0.0), ("500=1", 9.0)])
async def test_other_errors_do_not_say_when_to_come_back(
    client: aiohttp.ClientSession, order: str, said: float
) -> None:
    """Neither without the order, nor with a status that has no such header."""
    async with (
        running_server(error_rate=(order,), retry_after=said) as server,
        client.post(f"{server.base_url}/chat/completions", json=chat_body()) as response,
    ):
        assert "Retry-After" not in response.headers


async def test_malformed_replies_take_turns(client: aiohttp.ClientSession) -> None:
    """Empty, HTML, half the JSON, no choice, no content: all with a 200, none an answer."""
    async with running_server(malformed_rate=1) as server:
        bodies = []
        for _ in range(5):
            async with client.post(f"{server.base_url}/chat/completions", json=chat_body()) as response:
                assert response.status == 200
                bodies.append(await response.read())
        empty, html, half, no_choice, no_content = bodies
        assert (empty, html[:9]) == (b"", b"<!doctype")
        with pytest.raises(json.JSONDecodeError):
            json.loads(half)
        assert json.loads(no_choice)["choices"] == []
        assert json.loads(no_content)["choices"][0]["message"]["content"] is None
        assert (server.stats().completed, server.stats().answered) == (5, 0)


async def test_a_cut_reply_ends_before_its_promised_length(
    client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """The status is 200, the body stops halfway, the server is not upset."""
    async with running_server(cut_rate=1) as server:
        async with client.post(f"{server.base_url}/chat/completions", json=chat_body()) as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert (server.stats().dropped, server.stats().completed) == (1, 0)
    assert caplog.records == []


async def raw_exchange(server: RunningServer) -> bytes:
    """All that the server sends on a plain socket in reply to one chat request."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(chat_body()).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_disconnect_sends_nothing_at_all(caplog: pytest.LogCaptureFixture) -> None:
    """The connection is closed before the first byte of a reply."""
    caplog.set_level(logging.DEBUG, "aiohttp.server")
    async with running_server(disconnect_rate=1) as server:
        assert await raw_exchange(server) == b""
        assert (server.stats().received, server.stats().dropped) == (1, 1)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_dripping_reply_comes_byte_by_byte_and_whole(client: aiohttp.ClientSession) -> None:
    """It takes at least the ordered time for each byte, and is a proper answer."""
    async with running_server(drip=0.0002) as server:
        body = chat_body(max_tokens=1)
        start = time.perf_counter()
        async with client.post(f"{server.base_url}/chat/completions", json=body) as response:
            data = await response.read()
        assert time.perf_counter() - start >= (len(data) - 1) * 0.0002
        assert json.loads(data)["choices"][0]["message"]["content"] == "-"
        assert server.stats().answered == 1


def kinds(options: ServerOptions, count: int = 100) -> list[tuple[str, int, bool]]:
    faults = Faults(options)
    return [(fault.kind, fault.status, fault.drips) for fault in (faults.draw() for _ in range(count))]


MIXED = {
    "error_rate": ("500=0.2", "429=0.1"),
    "malformed_rate": 0.2,
    "cut_rate": 0.1,
    "disconnect_rate": 0.1,
    "drip": 0.1,
    "drip_rate": 0.5,
}


def test_the_same_seed_orders_the_same_faults() -> None:
    """And another seed another sequence, with every kind in it."""
    once = kinds(ServerOptions(seed=7, **MIXED))
    assert once == kinds(ServerOptions(seed=7, **MIXED))
    assert once != kinds(ServerOptions(seed=8, **MIXED))
    assert {kind for kind, _, _ in once} == {"none", "status", "malformed", "cut", "disconnect"}


async def test_the_sequence_of_faults_holds_over_the_wire(client: aiohttp.ClientSession) -> None:
    """Two servers with one seed treat twenty requests alike."""
    runs = []
    for _ in range(2):
        async with running_server(seed=3, error_rate=("500=0.3",), disconnect_rate=0.3) as server:
            runs.append([await outcome(client, server) for _ in range(20)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 500, "ServerDisconnectedError"}


def test_without_orders_nothing_goes_wrong() -> None:
    """The default server has no faults."""
    assert set(kinds(ServerOptions())) == {("none", 0, False)}


@pytest.mark.parametrize("distribution", ["fixed", "uniform", "exponential", "lognormal"])
def test_latencies_have_the_ordered_mean(distribution: Any) -> None:
    """Whatever the distribution; and all but the fixed one do spread."""
    pace = Pace(ServerOptions(latency=0.2, latency_distribution=distribution))
    drawn = [pace.duration(0, 1) for _ in range(4000)]
    assert sum(drawn) / len(drawn) == pytest.approx(0.2, rel=0.1)
    assert min(drawn) >= 0
    assert (len(set(drawn)) == 1) == (distribution == "fixed")


def test_uniform_latencies_stay_within_their_spread() -> None:
    """Half of the mean to either side."""
    pace = Pace(ServerOptions(latency=1, latency_distribution="uniform", latency_spread=0.5))
    assert all(0.5 <= pace.duration(0, 1) <= 1.5 for _ in range(1000))


def test_writing_takes_time_by_the_token() -> None:
    """Tokens over tokens per second, besides the latency."""
    assert Pace(ServerOptions(latency=1, tokens_per_second=50)).duration(100, 1) == 3.0


def test_beyond_the_knee_answers_take_longer_in_proportion() -> None:
    """Twice as crowded, twice as slow; below the knee nothing changes."""
    pace = Pace(ServerOptions(latency=1, knee=8))
    assert [pace.duration(0, at_work) for at_work in (1, 8, 16, 32)] == [1, 1, 2, 4]


async def test_an_answer_takes_its_latency(client: aiohttp.ClientSession) -> None:
    """Looking at images is part of the time, not added to it."""
    async with running_server(latency=0.05) as server:
        start = time.perf_counter()
        assert (await ask(client, server, chat_body()))[0] == 200
        assert time.perf_counter() - start >= 0.049
