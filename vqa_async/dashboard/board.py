"""The live page on a socket of the loopback, for as long as a block lasts."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from vqa_async.dashboard.app import LivePage
from vqa_async.dashboard.doorman import Doorman
from vqa_async.dashboard.view import View
from vqa_async.dashboard.watcher import Watcher
from vqa_async.engine import Engine
from vqa_async.errors import ConfigError
from vqa_async.events import Event, RunStatistics

_HOST = "127.0.0.1"
_SHUTDOWN_S = 0.05
_FAREWELL_S = 1.5
"""How long the end waits for pages that look on, once a second, so that they show the last figures."""

_LOOKS_ON_S = 3.0


class Dashboard:
    """An Observer with a page. Use as ``async with``; then ``url`` is where to look.

    Args:
        port: of the loopback; 0: a free one.

    Raises:
        ConfigError: on entering, the port cannot be had.

    Example:
        >>> async with Dashboard() as board, open_engine(config, observer=board) as engine:
        ...     print(board.url)
        ...     async with board.watching(engine):
        ...         await engine.run("in.jsonl", "out.jsonl")
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._doorman = Doorman()
        self._watcher = Watcher()
        self._view = View(self._watcher)
        self._engine: Engine | None = None
        self._last = RunStatistics()
        self._runner: web.AppRunner | None = None
        self._is_over = False
        self._asked_at = -1e9
        self._asked = asyncio.Event()

    @property
    def url(self) -> str:
        """The address of the page, with its secret."""
        return f"http://{_HOST}:{self._doorman.port}/{self._doorman.token}/"

    def on_event(self, event: Event) -> None:
        """Take note of ``event``."""
        self._watcher.on_event(event)

    async def __aenter__(self) -> Self:
        page = LivePage(self._doorman, self._parts, self._note_look)
        self._runner = web.AppRunner(page.application(), access_log=None, shutdown_timeout=_SHUTDOWN_S)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, _HOST, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"The dashboard cannot listen on {_HOST} port {self._port}: {_reason(error)}. "
                "Give another port, or --dashboard alone for a free one."
            ) from None
        except OverflowError:
            await self._runner.cleanup()
            raise ConfigError(f"--dashboard {self._port} is no port: give one from 1 to 65535.") from None
        self._doorman.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        try:
            if kind is None:
                await self._say_farewell()
        finally:
            await self._runner.cleanup()

    @contextlib.asynccontextmanager
    async def watching(self, engine: Engine) -> AsyncIterator[None]:
        """Show how ``engine`` fares until the block is left; what it counted last is shown after that."""
        self._engine = engine
        try:
            yield
        finally:
            self._last, self._engine = engine.statistics(), None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _parts(self) -> dict[str, Any]:
        statistics = self._engine.statistics() if self._engine is not None else self._last
        return await self._view.parts(statistics, self._now(), is_over=self._is_over)

    def _note_look(self) -> None:
        self._asked_at = self._now()
        if self._is_over:
            self._asked.set()

    async def _say_farewell(self) -> None:
        """Let a page that looks on see the end."""
        self._is_over = True
        if self._now() - self._asked_at < _LOOKS_ON_S:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), _FAREWELL_S)


def _reason(error: OSError) -> str:
    """The system's word for it: asyncio's has the address in it once more."""
    return os.strerror(error.errno).lower() if error.errno else str(error)
