"""Parts shared by the tests of one request: a raw-socket server, a client around it, a virtual clock."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

from vqa_async.chat import RequestForm
from vqa_async.client import VLMClient
from vqa_async.config import Config
from vqa_async.endpoints import EndpointPool, endpoint_state
from vqa_async.images import ImageLoader
from vqa_async.models import ImageRef, Message, Record, Result
from vqa_async.spending import Spending
from vqa_async.testing import reply
from vqa_async.tokens import TokenEstimator
from vqa_async.transport import AiohttpTransport, Transport

T = TypeVar("T")

CANARY = "sk-canary-0123456789abcdef"
"""A key that must not turn up anywhere."""

GOOD = reply("A red square.").body
"""The body of a reply as it should be."""


# --- a server of exact bytes -----------------------------------------------------------------------------


def http(body: bytes = GOOD, *headers: str, status: str = "200 OK", length: bool = True) -> bytes:
    """A reply on the wire."""
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Exchange:
    """One request that a raw server was sent, and the connection to answer on."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes
    body: bytes
    number: int

    async def say(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(pause_s)

    def reset(self) -> None:
        """End the connection with a TCP reset instead of an orderly close."""
        end_abruptly(self.writer)


def end_abruptly(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


Answer = Callable[[Exchange], Awaitable[None]]


@dataclass
class RawServer:
    """A server that is listening, and what it was sent."""

    port: int
    tls: bool = False
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"


def in_turn(*replies: bytes, keep: bool = False) -> Answer:
    """Answer with each of these in turn, the last one for ever; then close, unless ``keep``."""

    async def answer(exchange: Exchange) -> None:
        await exchange.say(replies[min(exchange.number, len(replies) - 1)])
        if not keep:
            exchange.writer.close()

    return answer


@asynccontextmanager
async def serving(answer: Answer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """A server on a free loopback port that reads whole requests and answers each by ``answer``."""
    tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        running.connections += 1
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length(head))
                exchange = Exchange(reader, writer, head, body, len(running.exchanges))
                running.exchanges.append(exchange)
                await answer(exchange)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has had enough, or the test is over
        finally:
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls, limit=1 << 25, backlog=512)
    running = RawServer(server.sockets[0].getsockname()[1], tls is not None)
    try:
        yield running
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


# --- a client ----------------------------------------------------------------------------------------------


@dataclass
class Asker:
    """A client with its parts."""

    client: VLMClient
    pool: EndpointPool
    images: ImageLoader
    waits: list[float]

    async def ask(self, question: str = "What is it?", *images: ImageRef, **how: Any) -> Result:
        return await self.client.complete(record(question, *images), **how)


def record(question: str = "What is it?", *images: ImageRef) -> Record:
    return Record(id=question, index=0, row={}, messages=(Message("user", (*images, question)),))


@asynccontextmanager
async def asking(
    transport: Transport,
    url: str | Sequence[str] = "http://test.invalid/v1",
    *,
    key: str = "",
    secrets: Sequence[str] = (),
    sleep: Callable[[float], Awaitable[None]] | None = None,
    **options: Any,
) -> AsyncIterator[Asker]:
    """A client over ``transport`` that waits no real time between attempts, unless it is given a sleep."""
    config = Config.of(base_url=url, model="m", **options)
    waits: list[float] = []

    async def pass_over(seconds: float) -> None:
        waits.append(seconds)

    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    pool = EndpointPool(
        [
            endpoint_state(one, headers | one.headers(), config.limits, key_hint="Look at MY_KEY.")
            for one in config.all_endpoints()
        ],
        config.limits,
        retry_share=config.retry.retry_share,
    )
    async with ImageLoader(config.images) as images:
        client = VLMClient(
            form=RequestForm("m", config.sampling),
            images=images,
            pool=pool,
            transport=transport,
            timeouts=config.timeouts,
            limits=config.limits,
            retry=config.retry,
            spending=Spending(config.budget, "m"),
            tokens=TokenEstimator("m", max_tokens=config.sampling.max_tokens),
            secrets=(key, *secrets),
            rng=random.Random(7),
            sleep=sleep or pass_over,
        )
        try:
            yield Asker(client, pool, images, waits)
        finally:
            pool.close()


@asynccontextmanager
async def asking_over_sockets(url: str | Sequence[str], **options: Any) -> AsyncIterator[Asker]:
    """A client over the real transport."""
    async with AiohttpTransport() as transport, asking(transport, url, **options) as asker:
        yield asker


def asked(body: bytes) -> str:
    """The question in a request body."""
    content = orjson.loads(body)["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


# --- time --------------------------------------------------------------------------------------------------


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self._jumped = 0.0

    def time(self) -> float:
        return super().time() + self._jumped

    def _run_once(self) -> None:
        timers: Any = self._scheduled if not self._ready else ()  # type: ignore[attr-defined]
        if ends := [timer.when() for timer in timers if not timer.cancelled()]:
            self._jumped += max(0.0, min(ends) - self.time())
        super()._run_once()  # type: ignore[misc]


def in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` on a loop where waiting takes no time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()
