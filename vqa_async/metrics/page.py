"""The registry over HTTP, at /metrics, from the engine's own event loop: no thread, and gone with the block.

One request a connection and a handful of lines of HTTP are all that a scrape needs; a server library would
have to be told to leave our loop, our signals and our logs alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from vqa_async.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_PATIENCE_S = 5.0
"""For somebody who connects and says nothing."""


@contextlib.asynccontextmanager
async def metrics_page(
    registry: CollectorRegistry, *, port: int = 0, host: str = "127.0.0.1"
) -> AsyncIterator[str]:
    """Serve ``registry`` until the block is left; gives the address of the page.

    Args:
        registry: what to show.
        port: 0 takes a free one.
        host: where to listen.

    Raises:
        ConfigError: the port is taken, or there is no such address here.
    """
    page = _Page(registry)
    try:
        server = await asyncio.start_server(page.visit, host, port, limit=1 << 14)
    except OSError as error:
        # Not its own text: asyncio puts the address into that once more.
        code = error.errno or 0
        reason = (os.strerror(code) if code > 0 else str(error)).lower()
        raise ConfigError(
            f"Metrics cannot be served at {host} port {port}: {reason}. Choose another --metrics-port, "
            "or 0 for a free one."
        ) from None
    try:
        taken = server.sockets[0].getsockname()[1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{taken}/metrics"
    finally:
        server.close()
        await page.close()
        await server.wait_closed()


class _Page:
    """The visitors of a page."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._visitors: set[asyncio.Task[None]] = set()
        self._closed = False

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        task = asyncio.current_task()
        assert task is not None
        self._visitors.add(task)
        try:
            if not self._closed:  # it may have been, between the connection and this
                await self._answer(reader, writer)
        finally:
            self._visitors.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_reply(self._registry, head))
                await writer.drain()

    async def close(self) -> None:
        """Send everybody away."""
        self._closed = True
        for task in tuple(self._visitors):
            task.cancel()
        await asyncio.gather(*self._visitors, return_exceptions=True)


def _reply(registry: CollectorRegistry, head: bytes) -> bytes:
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    status, kind, body = "200 OK", CONTENT_TYPE_LATEST, b""
    if method not in (b"GET", b"HEAD"):
        status, kind, body = "405 Method Not Allowed", "text/plain", b"GET only\n"
    elif path not in (b"/metrics", b"/"):
        status, kind, body = "404 Not Found", "text/plain", b"Metrics are at /metrics\n"
    else:
        body = generate_latest(registry)
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + (b"" if method == b"HEAD" else body)
