"""What a run looks like while it goes on: a live line on a terminal, else a plain line every few seconds.

Everything shown comes from ``Engine.statistics()``; this only measures rates between two looks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol
from urllib.parse import urlsplit

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vqa_async.cli.console import say
from vqa_async.cli.texts import count, duration
from vqa_async.errors import VQAError
from vqa_async.events import (
    Event,
    Notice,
    RecordFinished,
    RunStarted,
    RunStatistics,
    RunStopping,
)
from vqa_async.models import AttemptFailed, Failure

LIVE_EVERY_S = 0.25
PLAIN_EVERY_S = 5.0
RATE_OVER_S = 10.0

HINT_AFTER_S = 1.0
"""How long a run must go on after a failed attempt before it is shown."""


class Watched(Protocol):
    """What can be looked at while it runs: an engine, or many of them."""

    def statistics(self) -> RunStatistics: ...


class Rates:
    """Records and tokens a second, over the last seconds."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int, int]] = deque()

    def look(self, s: RunStatistics) -> tuple[float, float]:
        """Records and completion tokens a second up to ``s``."""
        self._looks.append((s.elapsed_s, s.succeeded + s.failed, s.completion_tokens))
        while len(self._looks) > 2 and s.elapsed_s - self._looks[0][0] > RATE_OVER_S:
            self._looks.popleft()
        then, records, tokens = self._looks[0] if len(self._looks) > 1 else (0.0, 0, 0)
        seconds = max(s.elapsed_s - then, 1e-9)
        return (s.succeeded + s.failed - records) / seconds, (s.completion_tokens - tokens) / seconds


def progress_line(s: RunStatistics, rates: tuple[float, float], now: float) -> list[str]:
    """The facts of one line. The last ones may fall off a narrow terminal, so they matter least."""
    records, tokens = rates
    facts = [
        f"{s.succeeded + s.skipped - s.skipped_failed:,} done{_expected(s)}",
        f"{s.failed + s.skipped_failed:,} failed",
        f"{records:,.1f}/s",
        f"{s.in_flight:,} in flight{_width(s)}",
    ]
    if waiting := _waiting(s, now):
        facts.append(waiting)
    elif s.expected and records > 0 and (left := s.expected - s.seen) > 0:
        facts.append(f"{duration(left / records)} left")
    if s.retries:
        facts.append(f"{s.retries:,} retried")
    if tokens >= 1:
        facts.append(f"{tokens:,.0f} tokens/s")
    return facts


def _expected(s: RunStatistics) -> str:
    if not s.expected:
        return ""
    return f" of {s.expected:,}" if s.expected_is_exact else f" of about {s.expected:,}"


def _width(s: RunStatistics) -> str:
    """Of how many at most, and at what rate, as it is now."""
    rpm = sum(e.rpm for e in s.endpoints)
    return (f" of {s.width:,}" if s.width else "") + (f", {rpm:,.0f}/min allowed" if rpm else "")


def _waiting(s: RunStatistics, now: float) -> str:
    """Why nothing starts, where nothing does."""
    waits = [e for e in s.endpoints if e.waits_until > now]
    if not waits or len(waits) < len(s.endpoints):
        return ""
    first = min(waits, key=lambda e: e.waits_until)
    what = f"{first.reason}, then a probe" if first.reason == "endpoint down" else first.reason
    return f"waiting {duration(first.waits_until - now)} for {urlsplit(first.url).netloc} ({what})"


class Display:
    """Observer and display of one run.

    Args:
        console: where to show it; its ``is_terminal`` decides the form.
        quiet: say only what matters (notices, stops).
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._rates = Rates()
        self._shown_errors: set[str] = set()
        self._hints: list[asyncio.TimerHandle] = []
        self._separator = " · " if console.encoding.startswith("utf") else " | "
        self.is_stopping = False
        """Whether the run ends early and only waits for what is in flight."""

    def on_event(self, event: Event) -> None:
        """Print what cannot wait for the next look."""
        match event:
            case Notice(message):
                say(self._console, f"Note: {message}", "yellow")
            case RunStarted(finished_before=before) if before and not self._quiet:
                say(self._console, f"Resuming: {count(before, 'record')} answered already.")
            case RunStopping(in_flight=in_flight):
                self._stopping(in_flight)
            case AttemptFailed(error=error):
                self._retrying(error)
            case RecordFinished(result=Failure() as failure):
                self._failed(failure)
            case _:
                pass

    def _stopping(self, in_flight: int) -> None:
        self.is_stopping = True
        self._drop_hints()
        if in_flight:
            text = f"Stopping: waiting for {count(in_flight, 'request')} in flight. Ctrl-C stops at once."
            say(self._console, text, "yellow")

    def _retrying(self, error: VQAError) -> None:
        """Show the first of each kind, but not at once: an error that ends the run is told at the end."""
        if self._is_new(error.code):
            loop = asyncio.get_running_loop()
            text = f"Retrying: {error.message}"
            self._hints.append(loop.call_later(HINT_AFTER_S, say, self._console, text, "dim"))

    def _failed(self, failure: Failure) -> None:
        """Show the first of each kind: a person wants to see one soon, and not ten thousand."""
        if self._is_new(f"failed {failure.error.code}"):
            say(self._console, f"Failed: {failure.error.message} (record {failure.id})", "red")

    def _is_new(self, kind: str) -> bool:
        is_new = kind not in self._shown_errors and not self._quiet
        self._shown_errors.add(kind)
        return is_new

    def _drop_hints(self) -> None:
        for hint in self._hints:
            hint.cancel()
        self._hints.clear()

    @contextlib.asynccontextmanager
    async def watching(self, engine: Watched) -> AsyncIterator[None]:
        """Show how ``engine`` fares until the block is left."""
        self._rates, self.is_stopping = Rates(), False  # it may be the second engine that is watched
        task = asyncio.create_task(self._watch(engine), name="vqa-display")
        try:
            yield
        finally:
            self._drop_hints()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self, engine: Watched) -> None:
        if self._quiet:
            return
        # A dumb terminal cannot go back in a line: there a live line would be a screenful.
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            await self._live(engine)
        else:
            await self._plain(engine)

    def _line(self, engine: Watched) -> str:
        s = engine.statistics()
        return self._separator.join(progress_line(s, self._rates.look(s), asyncio.get_running_loop().time()))

    async def _live(self, engine: Watched) -> None:
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(Text(self._line(engine), overflow="ellipsis", no_wrap=True), refresh=True)
                await asyncio.sleep(LIVE_EVERY_S)

    async def _plain(self, engine: Watched) -> None:
        while True:
            await asyncio.sleep(PLAIN_EVERY_S)
            say(self._console, self._line(engine))
