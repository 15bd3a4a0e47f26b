"""The embedded endpoint in a process of its own, for tests of synchronous callers. Prints its base URL."""

from __future__ import annotations

import asyncio

from vqa_async.server import ServerOptions, serve_forever


async def main() -> None:
    """Serve until terminated, for half a minute at most."""
    async with asyncio.timeout(30):
        await serve_forever(ServerOptions(), lambda base_url: print(base_url, flush=True))
