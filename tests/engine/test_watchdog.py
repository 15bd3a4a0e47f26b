"""No silent stall: what everything waits for is said, and each phase that makes no progress is ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from vqa_async import open_engine
from vqa_async.events import Event, Notice
from vqa_async.server import running_server
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Request, Response

ROWS = [{"conversation": f"What is {n}?"} for n in range(3)]


class Notices:
    """Keeps what a user is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def on_event(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.said.append(event.message)


async def told(
    url: str = "http://test.invalid/v1", *, rows: Any = ROWS, until: int = 1, **options: Any
) -> str:
    """The first notices of a run that does not get on."""
    notices = Notices()
    async with open_engine(
        base_url=url, model="looks-1", observer=notices, stall_notice=0.2, **options
    ) as engine:

        async def work() -> None:
            async for _ in engine.stream(rows):
                pass

        task = asyncio.create_task(work())
        async with asyncio.timeout(10):
            while len(notices.said) < until:
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return "\n".join(notices.said)


@asynccontextmanager
async def talking(answer: bytes, *, reads: bool = True) -> AsyncIterator[str]:
    """A server that says ``answer`` to each request, and then nothing more."""
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if reads:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        await over.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        over.set()
        server.close()


async def test_it_is_said_that_answers_are_waited_for() -> None:
    """How many, for what, and for how long the longest; again, but ever more rarely."""
    async with running_server(latency=30, decode=False) as server:
        said = await told(server.base_url, until=2)
    first, second = said.splitlines()
    assert first == (
        "Nothing has finished for 0 s. Records wait: 3 for the first byte of the reply (the longest 0 s)."
    )
    assert "3 for the first byte" in second


async def test_it_is_said_that_a_reply_does_not_end() -> None:
    """A server that sends half of one."""
    async with talking(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf") as url:
        assert "for the rest of the reply" in await told(url)


async def test_it_is_said_that_a_rate_limit_is_waited_for() -> None:
    """With the endpoint, and how long it will take still."""
    transport = FakeTransport([reply(status=429, headers={"Retry-After": "90"}, body=b"")])
    said = await told(transport=transport, max_attempts=50, backoff_max=0.01)
    assert "3 for their turn" in said
    assert "test.invalid: rate limit, 90 s to go" in said


async def test_it_is_said_that_another_try_is_waited_for() -> None:
    """Between attempts nothing is on the wire."""
    transport = FakeTransport([reply(status=500, body=b"")])
    said = await told(transport=transport, backoff_base=1000, backoff_max=1000)
    assert "for another try" in said


async def test_it_is_said_that_images_are_waited_for() -> None:
    """A server of images that does not answer."""
    async with talking(b"", reads=False) as url:
        rows = [{"image": f"{url}/a{n}.png", "conversation": "What?"} for n in range(3)]
        options: dict[str, Any] = {"fetch_images": True, "allow_private_urls": True}
        assert "for their images" in await told(transport=FakeTransport([reply()]), rows=rows, **options)


async def test_a_run_that_gets_on_says_nothing() -> None:
    """Records that finish now and then are enough."""
    notices = Notices()
    transport = FakeTransport([reply()], latency_s=0.1)
    options: dict[str, Any] = {"max_workers": 1, "stall_notice": 0.25}
    async with open_engine(
        base_url="http://a.invalid", model="m", transport=transport, observer=notices, **options
    ) as engine:
        results = [result async for result in engine.stream([{"conversation": str(n)} for n in range(10)])]
    assert len(results) == 10
    assert notices.said == []


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "the rest of the reply"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "the rest of the reply"),
    ],
)
async def test_reply_that_stops_in_the_middle_is_given_up(answer: bytes, says: str) -> None:
    """Long before the timeout of the whole attempt."""
    async with talking(answer) as url:
        options: dict[str, Any] = {"stall_timeout": 0.3, "max_attempts": 1, "timeout": 60}
        async with open_engine(base_url=url, model="m", **options) as engine, asyncio.timeout(5):
            result = await engine.generate(ROWS[0])
    assert not result.ok
    assert result.error.code == "timeout"
    assert says in result.error.message


async def test_request_that_nobody_takes_is_given_up() -> None:
    """A server that does not read: the buffers fill, and nothing gets on."""
    async with talking(b"", reads=False) as url:
        row = {"image": b"", "conversation": "x" * 30_000_000}
        options: dict[str, Any] = {"stall_timeout": 0.3, "max_attempts": 1, "timeout": 60}
        async with open_engine(base_url=url, model="m", **options) as engine, asyncio.timeout(10):
            result = await engine.generate({"conversation": row["conversation"]})
    assert not result.ok
    assert result.error.code == "timeout"
    assert "to take the request" in result.error.message


async def test_waiting_for_the_first_byte_is_no_stall() -> None:
    """A model may think as long as the timeout of the attempt allows."""
    async with running_server(latency=1.0, decode=False) as server:
        options: dict[str, Any] = {"stall_timeout": 0.2, "max_attempts": 1}
        async with open_engine(base_url=server.base_url, model="looks-1", **options) as engine:
            assert (await engine.generate(ROWS[0])).ok


async def test_transport_of_ones_own_need_not_tell_its_phases() -> None:
    """Its requests count as waiting for a connection."""

    class Silent:
        async def send(self, request: Request) -> Response:
            await asyncio.sleep(60)
            return reply()

    assert "3 for a connection" in await told(transport=Silent())


async def test_it_is_said_that_a_rate_is_kept_to() -> None:
    """Also where nobody has refused anything."""
    said = await told(transport=FakeTransport([reply()]), rpm=0.5)
    assert "for their turn" in said
    assert "test.invalid: held to its rate, 120 s to go" in said


async def test_it_is_said_that_the_budget_is_waited_for() -> None:
    """What is reserved for requests in flight may be more than they take."""
    options: dict[str, Any] = {"max_tokens_total": 700, "max_tokens": 500, "system_prompt": ""}
    said = await told(transport=FakeTransport([reply()], latency_s=30), **options)
    assert "2 for what requests in flight leave of the budget" in said
