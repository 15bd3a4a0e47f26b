"""The registry over HTTP, at /metrics, from the engine's own event loop: no thread, and gone with the block.

One request a connection and a handful of lines of HTTP are all that a scrape needs; a server library would
have to be told to leave our loop, our signals and our logs alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
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
    visitors: set[asyncio.Task[None]] = set()
    try:
        server = await asyncio.start_server(partial(_visit, registry, visitors), host, port, limit=1 << 14)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"Metrics cannot be served at {host} port {port}: {reason}. Choose another --metrics-port, "
            "or 0 for a free one."
        ) from None
    try:
        taken = server.sockets[0].getsockname()[1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{taken}/metrics"
    finally:
        server.close()
        for task in tuple(visitors):
            task.cancel()
        await asyncio.gather(*visitors, return_exceptions=True)
        await server.wait_closed()


async def _visit(
    registry: CollectorRegistry,
    visitors: set[asyncio.Task[None]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    task = asyncio.current_task()
    assert task is not None
    visitors.add(task)
    try:
        with contextlib.suppress(OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_reply(registry, head))
                await writer.drain()
    finally:
        visitors.discard(task)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


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
