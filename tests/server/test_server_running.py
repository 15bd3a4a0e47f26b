"""The embedded endpoint on its socket: counted, listed, closed without leaving anything behind."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from chat_bodies import ask, chat_body, png

from vqa_async.errors import ConfigError
from vqa_async.server import RunningServer, ServerOptions, running_server, serve_forever


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something has happened on it."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def get(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.get(url) as response:
        assert response.status == 200
        return await response.json()


async def test_it_listens_on_loopback_on_a_free_port(server: RunningServer) -> None:
    """Two servers do not meet."""
    async with running_server() as other:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.base_url == f"{server.url}/v1"
        assert other.url != server.url


async def test_a_port_in_use_is_a_settings_error() -> None:
    """The message names the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=str(port)):
            async with running_server(port=port):
                pass


async def test_the_models_are_listed_as_no_models(client: aiohttp.ClientSession) -> None:
    """Each name with its owner, who says what it is."""
    async with running_server(model=("a", "b")) as server:
        listed = await get(client, f"{server.base_url}/models")
        assert [(model["id"], model["owned_by"]) for model in listed["data"]] == [
            ("a", "vqa-async (not a model)"),
            ("b", "vqa-async (not a model)"),
        ]


async def test_replies_say_in_a_header_that_this_is_no_model(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """Answers as well as health."""
    async with client.post(f"{server.base_url}/chat/completions", json=chat_body()) as response:
        assert "not a model" in response.headers["x-vqa-async"]
    async with client.get(f"{server.url}/health") as response:
        assert "not a model" in response.headers["x-vqa-async"]
        assert await response.json() == {"status": "ok"}


async def test_statistics_count_what_arrived_and_how_it_ended(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """Over HTTP and in the process they are the same."""
    await ask(client, server, chat_body(png()))
    await ask(client, server, {})
    assert await get(client, f"{server.url}/stats") == {
        "received": 2,
        "completed": 2,
        "dropped": 0,
        "answered": 1,
        "by_status": {"200": 1, "400": 1},
        "in_flight": 0,
        "max_in_flight": 1,
        "images": 1,
    }
    assert server.stats().by_status == {200: 1, 400: 1}


async def test_statistics_begin_anew_after_a_reset(
    client: aiohttp.ClientSession, server: RunningServer
) -> None:
    """Images are counted again, although they are still known."""
    await ask(client, server, chat_body(png()))
    async with client.post(f"{server.url}/stats/reset") as response:
        assert response.status == 200
    assert (server.stats().received, server.stats().images) == (0, 0)
    await ask(client, server, chat_body(png()))
    assert (server.stats().received, server.stats().answered, server.stats().images) == (1, 1, 1)


async def test_requests_in_flight_outlive_a_reset(client: aiohttp.ClientSession) -> None:
    """They count as just arrived, so the sums stay right."""
    async with running_server(latency=0.05) as server:
        asking = asyncio.create_task(ask(client, server, chat_body()))
        await until(lambda: server.stats().in_flight == 1)
        async with client.post(f"{server.url}/stats/reset") as response:
            assert (await response.json())["received"] == 1
        await asking
        assert (server.stats().received, server.stats().completed, server.stats().in_flight) == (1, 1, 0)


async def test_a_client_that_leaves_gives_its_seat_back(
    client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """The next in the queue gets it, and the one that left counts as dropped."""
    async with running_server(max_concurrency=1, latency=3600) as server:
        first = asyncio.create_task(ask(client, server, chat_body()))
        second = asyncio.create_task(ask(client, server, chat_body()))
        await until(lambda: server.stats().in_flight == 2)
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        await until(lambda: server.stats().in_flight == 0)
        assert (server.stats().dropped, server.stats().completed) == (2, 0)
    assert caplog.records == []


async def test_a_client_that_leaves_halfway_through_its_request_is_no_error(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted as dropped, and nothing is logged."""
    host, port = server.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await until(lambda: server.stats().in_flight == 1)
    writer.transport.abort()
    await until(lambda: server.stats().in_flight == 0)
    assert server.stats().dropped == 1
    assert caplog.records == []


@pytest.mark.parametrize(
    "options", [{"latency": 3600}, {"drip": 3600}, {"max_concurrency": 1, "latency": 3600}]
)
async def test_closing_with_requests_in_flight_is_prompt_and_leaves_no_task(
    client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    """Waiting, dripping or queued: clients are hung up on, and nothing goes on afterwards."""
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    async with running_server(**options) as server:
        asking = [asyncio.create_task(ask(client, server, chat_body(png()))) for _ in range(5)]
        await until(lambda: server.stats().in_flight == 5)
        start = loop.time()
    assert loop.time() - start < 0.5
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(outcome, aiohttp.ClientError) for outcome in outcomes)
    await until(lambda: asyncio.all_tasks() == before)
    assert (server.stats().in_flight, server.stats().dropped) == (0, 5)
    assert caplog.records == []


async def test_closing_with_idle_connections_is_prompt_and_ends_the_threads(
    client: aiohttp.ClientSession,
) -> None:
    """A kept-alive connection does not hold the server open."""
    loop = asyncio.get_running_loop()
    async with running_server() as server:
        await ask(client, server, chat_body(png()))
        start = loop.time()
    assert loop.time() - start < 0.5
    for thread in threading.enumerate():
        if thread.name.startswith("vqa-look"):
            thread.join(5)
            assert not thread.is_alive()


async def test_after_the_block_nothing_listens() -> None:
    """The port is free again."""
    async with running_server() as server:
        host, port = server.url.removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


async def test_serving_lasts_until_cancelled(client: aiohttp.ClientSession) -> None:
    """Its address is told once connections are accepted."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve_forever(ServerOptions(), ready.set_result))
    base_url = await ready
    assert (await get(client, f"{base_url}/models"))["object"] == "list"
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(client, f"{base_url}/models")
