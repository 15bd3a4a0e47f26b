"""The endpoint on a socket: opened, and closed promptly whatever is in flight.

It installs no signal handler and prints nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from vqa_async.errors import ConfigError
from vqa_async.server.app import PixelEndpoint
from vqa_async.server.options import ServerOptions
from vqa_async.server.statistics import ServerStatistics

_KEEP_ALIVE_S = 75.0  # what common front ends use; longer than clients hold idle connections
_BACKLOG = 4096  # a load test opens all its connections at once; the system may allow fewer
_SHUTDOWN_S = 0.05  # requests were already ended when aiohttp gets to wait for them; 0 would mean for ever
_REACHABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a wildcard is no address to connect to


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that is listening.

    Attributes:
        url: its address, such as ``http://127.0.0.1:8000``.
    """

    url: str
    _endpoint: PixelEndpoint

    @property
    def base_url(self) -> str:
        """Base URL for clients, up to ``/v1``."""
        return f"{self.url}/v1"

    def stats(self) -> ServerStatistics:
        """The counters as they are now."""
        return self._endpoint.statistics()


@asynccontextmanager
async def running_server(
    options: ServerOptions | None = None, **changes: Any
) -> AsyncIterator[RunningServer]:
    """Run the endpoint for as long as the block lasts.

    Args:
        options: how it behaves; the defaults answer at once on a free loopback port.
        changes: single options, by name, that replace those in ``options``.

    Raises:
        ConfigError: an option is unknown or cannot work, or the address cannot be listened on.

    Example:
        >>> async def ask() -> None:
        ...     async with running_server(latency=0.1) as server:
        ...         print(server.base_url)
    """
    chosen = _chosen(options, changes)
    async with PixelEndpoint(chosen) as endpoint:
        runner = web.AppRunner(
            endpoint.application(),
            access_log=None,
            handler_cancellation=True,  # a client that has gone gives its seat back
            keepalive_timeout=_KEEP_ALIVE_S,
            shutdown_timeout=_SHUTDOWN_S,
        )
        try:
            yield RunningServer(await _listen(runner, chosen), endpoint)
        finally:
            await runner.cleanup()


async def serve_forever(options: ServerOptions, ready: Callable[[str], None]) -> None:
    """Serve until cancelled; ``ready`` is called with the base URL once connections are accepted.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    async with running_server(options) as server:
        ready(server.base_url)
        await asyncio.Event().wait()


def _chosen(options: ServerOptions | None, changes: dict[str, Any]) -> ServerOptions:
    try:
        return replace(options or ServerOptions(), **changes)
    except TypeError as error:
        raise ConfigError(f"A server option is unknown or of the wrong type: {error}.") from None


async def _listen(runner: web.AppRunner, options: ServerOptions) -> str:
    await runner.setup()
    site = web.TCPSite(runner, options.host, options.port or 0, backlog=_BACKLOG)
    try:
        await site.start()
    except OSError as error:
        reason = error.strerror or "the address is not known"
        raise ConfigError(f"Cannot listen on {options.host} port {options.port or 0}: {reason}.") from None
    host, port = runner.addresses[0][:2]
    host = _REACHABLE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
