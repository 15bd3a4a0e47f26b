"""What a run looks like while it goes on: a panel on a terminal or in a notebook, else a line now and then.

Everything shown comes from ``Engine.statistics()``, twice a second, and from the events; what a request
costs does not depend on whether anybody watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal, Protocol

from rich.console import Console

from vqa_async.errors import VQAError
from vqa_async.events import (
    Event,
    Notice,
    RecordFinished,
    RunStarted,
    RunStatistics,
    RunStopping,
)
from vqa_async.journal import JournalPaths
from vqa_async.journal.lock import publish
from vqa_async.logs import run_id
from vqa_async.models import AttemptFailed, Failure
from vqa_async.watch.errors_seen import ErrorsSeen
from vqa_async.watch.events import event_facts, event_line, progress_facts
from vqa_async.watch.frame import Frame, can_redraw
from vqa_async.watch.notebook import notebook_cell
from vqa_async.watch.panel import panel
from vqa_async.watch.plain import plain_line
from vqa_async.watch.saying import say, silence
from vqa_async.watch.snapshot import Snapshot, snapshot_of
from vqa_async.watch.speed import Look, Speedometer
from vqa_async.watch.words import count

LIVE_EVERY_S = 0.5
FIRST_AFTER_S = 0.3
"""What is over by then needs no panel, least of all what is refused."""

PLAIN_EVERY_S = 10.0
PUBLISH_EVERY_S = 1.0

HINT_AFTER_S = 1.0
"""How long a run must go on after a failed attempt before it is shown."""

Form = Literal["text", "json"]


class Shown(Protocol):
    """What can be looked at while it runs: an engine, or many of them."""

    @property
    def is_running(self) -> bool: ...

    def statistics(self) -> RunStatistics: ...


class Display:
    """Observer and display of one run.

    Args:
        console: where to show it; its ``is_terminal`` decides the form.
        quiet: say only what matters (notices, stops).
        form: for people, or one JSON object a line.
    """

    def __init__(self, console: Console, *, quiet: bool, form: Form = "text") -> None:
        self._console = console
        self._quiet = quiet
        self._is_json = form == "json"
        self._speed = Speedometer()
        self._errors = ErrorsSeen()
        self._output = ""
        self._shown_errors: set[str] = set()
        self._hints: list[asyncio.TimerHandle] = []
        self.is_stopping = False
        """Whether the run ends early and only waits for what is in flight."""

    # --- events -------------------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Take note of it, and print what cannot wait for the next look."""
        match event:
            case AttemptFailed(error=error):
                self._errors.retried(error)
            case RecordFinished(result=Failure() as failure):
                self._errors.failed(failure.error)
            case RunStarted(output=output):
                self._output = output
            case RunStopping():
                self.is_stopping = True
                self._drop_hints()
            case _:
                pass
        if self._is_json:
            self._emit_event(event)
        else:
            self._tell(event)

    def _emit_event(self, event: Event) -> None:
        told = event_facts(event)
        if told is not None and not (self._quiet and told[0] in ("attempt_failed", "record_failed")):
            self.emit(*told)

    def emit(self, name: str, facts: dict[str, object]) -> None:
        """Print one event as JSON."""
        line = event_line(name, facts, run=run_id(), time=time.time())
        try:
            self._console.out(line, highlight=False)
        except OSError:
            silence(self._console)

    def _tell(self, event: Event) -> None:
        match event:
            case Notice(message):
                say(self._console, f"Note: {message}", "yellow")
            case RunStarted(finished_before=before) if before and not self._quiet:
                say(self._console, f"Resuming: {count(before, 'record')} answered already.")
            case RunStopping(in_flight=in_flight) if in_flight:
                text = f"Stopping: waiting for {count(in_flight, 'request')} in flight. Ctrl-C stops at once."
                say(self._console, text, "yellow")
            case AttemptFailed(error=error):
                self._retrying(error)
            case RecordFinished(result=Failure() as failure):
                self._failed(failure)
            case _:
                pass

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

    # --- looks --------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def watching(self, engine: Shown) -> AsyncIterator[None]:
        """Show how ``engine`` fares until the block is left."""
        # It may be the second engine that is watched.
        self._speed, self._errors, self.is_stopping = Speedometer(), ErrorsSeen(), False
        tasks = [
            asyncio.create_task(self._watch(engine), name="vqa-display"),
            asyncio.create_task(self._publish(engine), name="vqa-publish"),
        ]
        try:
            yield
        finally:
            self._drop_hints()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _publish(self, engine: Shown) -> None:
        """Let other processes see how it goes (`vqa-async status`)."""
        while True:
            await asyncio.sleep(PUBLISH_EVERY_S)
            if self._output and engine.is_running:  # else the lock is no longer ours
                publish(JournalPaths.of(self._output).lock, progress_facts(self.snapshot(engine)))

    async def _watch(self, engine: Shown) -> None:
        if self._quiet:
            return
        if self._is_json:
            await self._every(lambda: self.emit("progress", progress_facts(self.snapshot(engine))))
        elif self._console.is_jupyter:
            await self._in_notebook(engine)
        elif can_redraw(self._console):
            await self._live(engine)
        else:
            await self._every(lambda: say(self._console, plain_line(self.snapshot(engine))))

    def snapshot(self, engine: Shown) -> Snapshot:
        """How ``engine`` stands now."""
        s = engine.statistics()
        look = Look(s.elapsed_s, s.succeeded + s.failed, s.prompt_tokens, s.completion_tokens)
        return snapshot_of(
            s,
            title=Path(self._output).name,
            speed=self._speed.look(look),
            time_left=self._speed.time_left(s.expected - s.seen, is_exact=s.expected_is_exact),
            errors=self._errors.views(),
            now=asyncio.get_running_loop().time(),
            is_stopping=self.is_stopping,
        )

    async def _live(self, engine: Shown) -> None:
        unicode = self._console.encoding.startswith("utf")
        await asyncio.sleep(FIRST_AFTER_S)
        with Frame(self._console) as frame:
            while True:
                size = self._console.size
                # One column less: some terminals break a line when its last column is filled.
                frame.draw(panel(self.snapshot(engine), size.width - 1, size.height - 1, unicode=unicode))
                await asyncio.sleep(LIVE_EVERY_S)

    async def _in_notebook(self, engine: Shown) -> None:
        with notebook_cell() as show:
            while True:
                show(panel(self.snapshot(engine), 100, 40))
                await asyncio.sleep(LIVE_EVERY_S)

    async def _every(self, tell: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(PLAIN_EVERY_S)
            tell()
