"""`run --dashboard`: the live page of a run beside its display."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from rich.console import Console

from vqa_async.cli.console import say
from vqa_async.engine import Engine
from vqa_async.watch.display import Display
from vqa_async.watchers import Observers

Watching: TypeAlias = Callable[[Engine], AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def beside(
    display: Display, console: Console, port: int | None
) -> AsyncIterator[tuple[Observers, Watching]]:
    """The observers of a run, and what goes on beside it: the display, and the live page where one is wanted.

    Args:
        port: of the page; 0: a free one; None: there is no page, and nothing of it is loaded.
    """
    if port is None:
        yield display, display.watching
        return
    from vqa_async.dashboard import Dashboard

    async with Dashboard(port) as board:
        say(console, f"Dashboard: {board.url}")
        yield (
            (display, board),
            lambda engine: _both(display.watching(engine), board.watching(engine)),
        )


@contextlib.asynccontextmanager
async def _both(
    first: AbstractAsyncContextManager[None], second: AbstractAsyncContextManager[None]
) -> AsyncIterator[None]:
    async with first, second:
        yield
