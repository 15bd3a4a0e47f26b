"""What a run looks like while it goes on: a live line on a terminal, else a plain line every few seconds.

Everything shown comes from ``Engine.statistics()``; this only measures rates between two looks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vqa_async.chat import printable
from vqa_async.cli.texts import duration
from vqa_async.engine import Engine
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


def progress_line(s: RunStatistics, rates: tuple[float, float], now: float) -> str:
    """One line: done, failed, rate, tokens, in flight, time left, and what it waits for."""
    records, tokens = rates
    parts = [f"{s.succeeded + s.skipped - s.skipped_failed:,} done"]
    if s.expected:
        parts[0] += f" of {s.expected:,}" if s.expected_is_exact else f" of about {s.expected:,}"
    parts.append(f"{s.failed + s.skipped_failed:,} failed")
    parts.append(f"{records:,.1f}/s")
    if tokens >= 1:
        parts.append(f"{tokens:,.0f} tokens/s")
    parts.append(f"{s.in_flight:,} in flight")
    if s.retries:
        parts.append(f"{s.retries:,} retries")
    if s.expected and records > 0 and (left := s.expected - s.seen) > 0:
        parts.append(f"{duration(left / records)} left")
    return " · ".join(parts) + _waiting(s, now)


def _waiting(s: RunStatistics, now: float) -> str:
    """Why nothing starts, where nothing does."""
    waits = [e for e in s.endpoints if e.waits_until > now]
    if not waits or len(waits) < len(s.endpoints):
        return ""
    first = min(waits, key=lambda e: e.waits_until)
    return f" · waiting {duration(first.waits_until - now)} for {first.url} ({first.reason})"


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

    def on_event(self, event: Event) -> None:
        """Print what cannot wait for the next look."""
        if isinstance(event, Notice):
            self._say(f"Note: {event.message}", "yellow")
        elif isinstance(event, RunStarted) and event.finished_before:
            self._say(f"Resuming: {event.finished_before:,} records are answered already.")
        elif isinstance(event, RunStopping) and event.in_flight:
            self._say(
                f"Stopping: {event.in_flight:,} requests in flight are finished. Ctrl-C again stops at once.",
                "yellow",
            )
        elif isinstance(event, AttemptFailed):
            self._first_of_kind(event.error.code, f"Retrying: {event.error.message}")
        elif isinstance(event, RecordFinished) and isinstance(event.result, Failure):
            error = event.result.error
            self._first_of_kind("failed " + error.code, f"Failed: {error.message} (record {event.result.id})")

    def _first_of_kind(self, kind: str, message: str) -> None:
        """Show the first error of each kind: a person wants to see one soon, and not ten thousand."""
        if kind not in self._shown_errors and not self._quiet:
            self._shown_errors.add(kind)
            self._say(message, "red" if kind.startswith("failed") else "dim")

    def _say(self, message: str, style: str = "") -> None:
        self._console.print(Text(printable(message), style=style), soft_wrap=True)

    @contextlib.asynccontextmanager
    async def watching(self, engine: Engine) -> AsyncIterator[None]:
        """Show how ``engine`` fares until the block is left."""
        if self._quiet:
            yield
            return
        task = asyncio.create_task(self._live(engine) if self._console.is_terminal else self._plain(engine))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _line(self, engine: Engine) -> str:
        s = engine.statistics()
        return progress_line(s, self._rates.look(s), asyncio.get_running_loop().time())

    async def _live(self, engine: Engine) -> None:
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(Text(self._line(engine), overflow="ellipsis", no_wrap=True), refresh=True)
                await asyncio.sleep(LIVE_EVERY_S)

    async def _plain(self, engine: Engine) -> None:
        while True:
            await asyncio.sleep(PLAIN_EVERY_S)
            self._console.print(self._line(engine), soft_wrap=True, highlight=False)
