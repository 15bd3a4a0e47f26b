"""Requests written by hand: what arrives, what an early reply does, and when the session sends instead."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses
from wire import GOOD, Exchange, RawServer, http, in_turn, serving

from vqa_async.errors import TransportError
from vqa_async.transport import AiohttpTransport, FileBody, Request

LARGE = bytes(range(256)) * 40_000
"""More than sockets take at once."""


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    """A transport with default settings."""
    async with AiohttpTransport() as made:
        yield made


def post(url: str, *pieces: bytes, **how: Any) -> Request:
    size = sum(map(len, pieces))
    return Request(**{"url": url, "headers": {}, "body": pieces, "size": size, "timeout_s": 10.0, **how})


def head_of(server: RawServer) -> list[str]:
    """The lines of the first request's head."""
    return server.exchanges[0].head.decode().rstrip("\r\n").split("\r\n")


# --- what arrives ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_head_is_that_of_any_client(transport: AiohttpTransport, host: str) -> None:
    """The path with its query as it was given, the host with its port, the length of all pieces together."""
    async with serving(in_turn(http())) as server:
        url = server.url.replace("127.0.0.1", host) + "/chat/completions?api-version=2024-10-21&x=a%20b"
        await transport.send(post(url, b"{", b"}", headers={"Authorization": "Bearer k"}))
    line, *headers = head_of(server)
    assert line == "POST /v1/chat/completions?api-version=2024-10-21&x=a%20b HTTP/1.1"
    assert sorted(headers) == [
        "Accept-Encoding: identity",
        "Accept: */*",
        "Authorization: Bearer k",
        "Content-Length: 2",
        "Content-Type: application/json",
        f"Host: {host}:{server.port}",
        "User-Agent: vqa-async",
    ]


async def test_headers_of_the_request_stand_in_place_of_ours(transport: AiohttpTransport) -> None:
    """In whatever case they are written, each once."""
    mine = {"user-agent": "me", "ACCEPT": "application/json", "content-type": "text/plain", "X-Name": "Zoë"}
    async with serving(in_turn(http())) as server:
        await transport.send(post(server.url, b"{}", headers=mine))
    _, *headers = head_of(server)
    names = [line.partition(":")[0].lower() for line in headers]
    assert len(names) == len(set(names))
    assert {"user-agent: me", "ACCEPT: application/json", "content-type: text/plain", "X-Name: Zoë"} < set(
        headers
    )


@pytest.mark.parametrize(
    "header",
    [{"X-A": bad} for bad in ("b\r\nX-Evil: 1", "b\nc", "a\0b", "a\x01b", "\x0b", "\x7f", "\ud800")]
    + [{"X-A\r\nX-Evil": "1"}],
)
async def test_header_with_a_line_break_is_never_sent(
    transport: AiohttpTransport, header: dict[str, str]
) -> None:
    """It could begin a request of its own; nor is it sent later, or the server blamed for it."""
    async with serving(in_turn(http())) as server:
        with pytest.raises(TransportError, match=r"is not asked: a header") as caught:
            await transport.send(post(server.url, b"{}", headers=header))
    assert (caught.value.code, caught.value.stops_run) == ("bad_header", True)
    assert server.exchanges == []


async def test_header_that_is_given_twice_is_sent_once(transport: AiohttpTransport) -> None:
    """The later one, whatever its case."""
    async with serving(in_turn(http())) as server:
        await transport.send(post(server.url, b"{}", headers={"X-Key": "1", "x-key": "2"}))
    assert [line for line in head_of(server) if line.lower().startswith("x-key")] == ["x-key: 2"]


@pytest.mark.parametrize(
    "header", [{"Host": "other.example"}, {"connection": "close"}, {"Expect": "100-continue"}]
)
async def test_header_that_says_how_to_send_is_obeyed(
    transport: AiohttpTransport, header: dict[str, str]
) -> None:
    """By the session, which knows what each of them means."""

    async def answer(exchange: Exchange) -> None:
        await exchange.say(http())

    async with serving(answer) as server:
        with_expect = "Expect" in header
        if with_expect:
            with pytest.raises(TransportError):  # this server never says 100 Continue
                await transport.send(post(server.url, b"{}", headers=header, timeout_s=0.3))
        else:
            assert (await transport.send(post(server.url, b"{}", headers=header))).body == GOOD
            _, *headers = head_of(server)
            [(name, value)] = header.items()
            assert [line for line in headers if line.lower().startswith(name.lower())] == [f"{name}: {value}"]


async def test_user_and_password_in_the_address_are_sent_as_a_header(transport: AiohttpTransport) -> None:
    """As everywhere."""
    async with serving(in_turn(http())) as server:
        await transport.send(post(server.url.replace("//", "//user:word@"), b"{}"))
    assert "Authorization: Basic dXNlcjp3b3Jk" in head_of(server)


async def test_pieces_of_all_sizes_arrive_in_order(transport: AiohttpTransport) -> None:
    """Small ones are joined, large ones cut: nobody sees it."""
    sizes = [0, 1, 32_767, 32_768, 32_769, 5, 262_144, 262_145, 3, 1_000_000, 0, 7, *[30_000] * 25]
    pieces = [bytes([65 + n]) * size for n, size in enumerate(sizes)]
    async with serving(in_turn(http(), keep=True)) as server:
        for _ in range(3):
            assert (await transport.send(post(server.url, *pieces))).body == GOOD
        assert [exchange.body for exchange in server.exchanges] == [b"".join(pieces)] * 3
        assert server.connections == 1


async def test_post_without_a_body_says_so(transport: AiohttpTransport) -> None:
    """Some servers wait for a body otherwise."""
    async with serving(in_turn(http())) as server:
        assert (await transport.send(post(server.url))).status == 200
    assert "Content-Length: 0" in head_of(server)


# --- what comes back ---------------------------------------------------------------------------------------


async def test_hints_before_the_reply_are_passed_over(transport: AiohttpTransport) -> None:
    """102 Processing and 103 Early Hints come from some proxies, ahead of the reply."""
    hints = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with serving(in_turn(hints + http(), keep=True)) as server:
        for _ in range(2):
            response = await transport.send(post(server.url, b"{}"))
            assert (response.status, response.body) == (200, GOOD)


Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def accepting(connected: Connected) -> AsyncIterator[str]:
    """The address of a server that does not wait for whole requests; its connections end before it does."""
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                await reader.readuntil(b"\r\n\r\n")
                await connected(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers)
        await asyncio.sleep(0)  # for the transports to close


async def take_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """For as long as the connection lasts."""
    await asyncio.sleep(10)


async def read_on(reader: asyncio.StreamReader) -> None:
    """To the end of the connection, after a pause that lets the buffers fill."""
    await asyncio.sleep(0.2)
    while await reader.read(1 << 20):
        pass


def open_descriptors() -> int:
    """Files and sockets of this process."""
    return len(os.listdir("/proc/self/fd"))


def writers_on() -> list[asyncio.Task[Any]]:
    """Tasks that send what is left of a request."""
    return [task for task in asyncio.all_tasks() if "_write_on" in repr(task)]


async def test_refusal_in_the_middle_of_the_upload_is_heard(transport: AiohttpTransport) -> None:
    """What was not sent by then never is: that connection is not used again."""
    connections = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(http(b'{"error":"too large"}', status="413 Content Too Large"))
        await writer.drain()
        await read_on(reader)

    async with accepting(refuse) as url:
        for _ in range(2):
            response = await transport.send(post(url, b"{", LARGE, b"}"))
            assert (response.status, response.body) == (413, b'{"error":"too large"}')
            assert writers_on() == []
    assert connections == 2


async def test_file_that_cannot_be_read_on_ends_the_request(
    transport: AiohttpTransport, tmp_path: Path
) -> None:
    """At once, and not when the server loses its patience."""

    class Failing(FileBody):
        __slots__ = ()

        def __iter__(self) -> Any:
            yield b"<"
            yield LARGE
            raise OSError(5, "Input/output error")

    body = Failing(b"<", tmp_path / "f", b">", len(LARGE) + 2)
    async with serving(in_turn(http())) as server:
        request = replace(post(server.url), file=body)
        with pytest.raises(TransportError):
            await asyncio.wait_for(transport.send(request), 5)


async def test_who_is_cancelled_in_the_middle_of_an_upload_leaves_nothing(
    transport: AiohttpTransport,
) -> None:
    """No task that writes on, and no connection that waits until its server takes the rest."""
    is_over = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await is_over.wait()

    async with accepting(wait) as url:
        task = asyncio.create_task(transport.send(post(url, LARGE)))
        await asyncio.sleep(0.1)
        before = open_descriptors()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert writers_on() == []
        await asyncio.sleep(0.05)
        assert open_descriptors() == before - 1
        is_over.set()


async def test_what_comes_to_an_idle_connection_answers_nobody(transport: AiohttpTransport) -> None:
    """A reply too many, such as a gateway's late 408: taken for the next one, it would be a wrong answer."""

    async def answer(exchange: Exchange) -> None:
        await exchange.say(http(b"%d" % exchange.number), pause_s=0.02)
        await exchange.say(http(b"STALE"))

    async with serving(answer) as server:
        bodies = []
        for _ in range(3):
            bodies.append((await transport.send(post(server.url, b"{}"))).body)
            await asyncio.sleep(0.05)
    assert bodies == [b"0", b"1", b"2"]


async def test_server_that_speaks_first_is_asked_once(
    transport: AiohttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of mail, say. What it says on a new connection is no reply left over from an earlier request, for
    which another connection would be taken, and another."""
    connections = 0
    connect = aiohttp.TCPConnector.connect

    async def connect_and_wait(*args: Any, **options: Any) -> Any:
        connection = await connect(*args, **options)
        await asyncio.sleep(0.05)  # until the greeting is there
        return connection

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"220 mail.example ESMTP\r\n")
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect_and_wait)
    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        with pytest.raises(TransportError, match="not HTTP"):
            await transport.send(post(url, b"{}", timeout_s=2.0))
    finally:
        server.close()
    await asyncio.sleep(0.1)
    assert connections == 1


# --- stalls ------------------------------------------------------------------------------------------------


async def test_upload_that_nobody_takes_is_a_stall_in_a_busy_loop_too(transport: AiohttpTransport) -> None:
    """A loop that is held up all the time puts it off once, not for ever."""

    async def hold_up() -> None:
        while True:
            time.sleep(0.15)
            await asyncio.sleep(0)

    async with accepting(take_nothing) as url:
        busy = asyncio.create_task(hold_up())
        began = time.monotonic()
        with pytest.raises(TransportError, match="stalled"):
            await transport.send(post(url, LARGE, stall_timeout_s=0.5))
        assert time.monotonic() - began < 4
        busy.cancel()


async def test_many_small_pieces_are_no_stall(transport: AiohttpTransport) -> None:
    """They go out in chunks that a slow reader takes one by one, each of which is progress."""

    async def read_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = 12_000_000
        while left:
            await asyncio.sleep(0.02)
            left -= len(await reader.read(min(left, 200_000)))
        writer.write(http())
        await writer.drain()

    async with accepting(read_slowly) as url:
        began = time.monotonic()
        response = await transport.send(post(url, *[b"x" * 25_000] * 480, stall_timeout_s=0.4))
        assert response.status == 200
        assert time.monotonic() - began > 1


async def test_reply_that_began_early_and_stands_still_is_a_stall(transport: AiohttpTransport) -> None:
    """Also where the request was not sent to its end when the reply began."""

    async def begin_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok")
        await asyncio.sleep(0.2)
        await reader.readexactly(len(LARGE))
        await asyncio.sleep(10)

    async with accepting(begin_early) as url:
        began = time.monotonic()
        with pytest.raises(TransportError, match="stalled"):
            await transport.send(post(url, LARGE, stall_timeout_s=0.5, timeout_s=8.0))
        assert time.monotonic() - began < 4


async def test_transport_that_is_closed_in_an_upload_ends_with_its_deadline() -> None:
    """Not when a server that takes nothing goes away."""
    async with accepting(take_nothing) as url, AsyncExitStack() as stack:
        transport = await stack.enter_async_context(AiohttpTransport())
        task = asyncio.create_task(transport.send(post(url, LARGE, timeout_s=0.6)))
        await asyncio.sleep(0.2)
        await asyncio.wait_for(stack.aclose(), 2)
        with pytest.raises(TransportError):
            await task


# --- when the session sends --------------------------------------------------------------------------------


async def test_mocks_of_the_session_are_asked(transport: AiohttpTransport) -> None:
    """Programs that embed the engine are tested with them; afterwards the real server is asked again."""
    async with serving(in_turn(http())) as server:
        with aioresponses() as mocked:
            mocked.post(server.url, body=b"mocked")
            assert (await transport.send(post(server.url, b"{}"))).body == b"mocked"
        assert server.exchanges == []
        assert (await transport.send(post(server.url, b"{}"))).body == GOOD


@pytest.mark.parametrize("name", ["_request", "request"])
async def test_what_stands_in_place_of_the_sessions_methods_is_asked(
    transport: AiohttpTransport, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whenever it was put there: some instrumentation is there before anything of ours is imported."""
    heard = []
    own = getattr(aiohttp.ClientSession, name)

    @functools.wraps(own)
    def watched(session: aiohttp.ClientSession, method: str, *args: Any, **options: Any) -> Any:
        heard.append(method)
        return own(session, method, *args, **options)

    monkeypatch.setattr(aiohttp.ClientSession, name, watched)
    async with serving(in_turn(http())) as server:
        await transport.send(post(server.url, b"{}"))
    assert heard == ["POST"]


async def test_tracers_of_the_session_hear_of_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instrumentation gives every session that is made a tracer of its own."""
    heard: list[str] = []
    tracer = aiohttp.TraceConfig()

    async def began(session: aiohttp.ClientSession, context: Any, facts: Any) -> None:
        heard.append(facts.method)

    tracer.on_request_start.append(began)
    plain = aiohttp.ClientSession.__init__

    def traced(session: aiohttp.ClientSession, *args: Any, **options: Any) -> None:
        plain(session, *args, **{**options, "trace_configs": [tracer]})

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", traced)
    async with serving(in_turn(http(), keep=True)) as server, AiohttpTransport() as transport:
        for _ in range(2):
            await transport.send(post(server.url, b"{}"))
    assert heard == ["POST", "POST"]
