"""A network that is not as it should be: a TCP proxy on loopback with the toxics of its kind.

Each toxic is what one connection suffers; a fresh one is made for every connection.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any


@dataclass
class Toxic:
    """What a connection suffers.

    Attributes:
        latency_s: seconds before each piece is passed on, drawn anew for each.
        slice_bytes: pieces are no larger.
        bytes_per_s: how many bytes a second are passed on, each way; 0 for all there are.
        reset_after: bytes of the request after which the client's connection is reset; -1 for never.
        cut_reply_at: bytes of the reply after which the connection is closed; -1 for never.
        slow_close_s: seconds by which the end of the reply is told late.
        silent: accepts, and passes nothing on.
    """

    latency_s: Callable[[], float] = lambda: 0.0
    slice_bytes: int = 65536
    bytes_per_s: float = 0.0
    reset_after: int = -1
    cut_reply_at: int = -1
    slow_close_s: float = 0.0
    silent: bool = False


class Proxy:
    """A proxy that is listening.

    Attributes:
        url: base URL of the endpoint behind it.
        connections: how many there were.
        open: how many there are.
    """

    def __init__(self, target: int, toxic: Callable[[int], Toxic]) -> None:
        self._target = target
        self._toxic = toxic
        self._tasks: set[asyncio.Task[Any]] = set()
        self.url = ""
        self.connections = 0
        self.open = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        toxic = self._toxic(self.connections)
        self.connections += 1
        self.open += 1
        try:
            if toxic.silent:
                await reader.read()
                return
            await self._carry(reader, writer, toxic)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has had enough, or the test is over
        finally:
            self.open -= 1
            writer.transport.abort()
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, toxic: Toxic) -> None:
        behind, before = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            up = asyncio.create_task(_pass_on(reader, before, toxic, toxic.reset_after))
            down = asyncio.create_task(_pass_on(behind, writer, toxic, toxic.cut_reply_at))
            try:
                done, _ = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
                if up in done and toxic.reset_after >= 0:
                    reset(writer)
                elif down in done:
                    await asyncio.sleep(toxic.slow_close_s)
            finally:
                for task in (up, down):
                    task.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        finally:
            before.transport.abort()

    async def aclose(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, toxic: Toxic, limit: int
) -> None:
    passed = 0
    while piece := await reader.read(toxic.slice_bytes):
        if limit >= 0:
            piece = piece[: limit - passed]
        with suppress(ConnectionError):
            writer.write(piece)
            await writer.drain()
        passed += len(piece)
        if passed == limit:
            return
        delay_s = toxic.latency_s() + (len(piece) / toxic.bytes_per_s if toxic.bytes_per_s else 0.0)
        await asyncio.sleep(delay_s)  # 0 too: pieces must leave as pieces


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a TCP reset."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def proxied(port: int, toxic: Callable[[int], Toxic]) -> AsyncIterator[Proxy]:
    """A proxy on a free port before the server at ``port``.

    Args:
        port: of the server.
        toxic: from the number of a connection to what it suffers.
    """
    proxy = Proxy(port, toxic)
    server = await asyncio.start_server(proxy.connected, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.aclose()
