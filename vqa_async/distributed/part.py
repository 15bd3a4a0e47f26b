"""One engine with one run that stays open: records are handed in one by one, results are kept in a part.

To the engine it is a journalled run like any other, over a source that waits. So drain, stop rules, budgets
and group commit are those of a plain run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from vqa_async.api import open_engine
from vqa_async.config import Budget, Config
from vqa_async.distributed.desk import Stop
from vqa_async.engine import Engine
from vqa_async.errors import ClusterError, VQAError
from vqa_async.events import Event, Notice, RecordFinished
from vqa_async.journal import Journal
from vqa_async.journal.parts import Done, done_in, new_part, part_paths
from vqa_async.journal.replay import FAILED, SUCCEEDED
from vqa_async.models import AttemptFailed, Failure, Record, Result, Success
from vqa_async.sources import Source
from vqa_async.spending import Spending

Answered: TypeAlias = Success | Failure | bytes | None
"""A result; the state in which a record was found on the disk; or None where the run has ended before it."""


@dataclass(slots=True)
class Counters:
    """What a part has counted since somebody asked."""

    retries: int = 0
    requests: int = 0
    cost: float | None = None
    in_flight: int = 0
    width: int = 0
    notices: list[str] = field(default_factory=list)


class Part:
    """An open run. Belongs to one event loop.

    Args:
        config: the share of this worker.
        folder: OUT.parts.
        name: of the worker, the same when it starts again.

    Attributes:
        ended: why the run ended, None while it goes on.
    """

    def __init__(self, config: Config, folder: str, name: str) -> None:
        self._config = config
        self._folder = folder
        self._name = name
        self._items: asyncio.Queue[Record | Failure] = asyncio.Queue()
        self._pending: dict[str, asyncio.Future[Result | None]] = {}
        self._done = Done()
        self._engine: Engine | None = None
        self._counters = Counters()
        self._requests, self._cost = 0, 0.0
        self._opened = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self.ended: VQAError | str | None = None

    async def open(self) -> None:
        """Look up what an earlier one of this name has done, and begin. Never raises: see ``ended``."""
        self._tasks.append(asyncio.create_task(self._live(), name="vqa-part"))
        await self._opened

    def watch(self, stopped: Callable[[Stop | None], Awaitable[Stop]], left: Callable[[], None]) -> None:
        """Let ``stopped`` say when to end, and say with ``left`` when that is done."""
        self._tasks[0].add_done_callback(lambda _: left())
        self._tasks.append(asyncio.create_task(self._listen(stopped), name="vqa-part-stop"))

    async def _listen(self, stopped: Callable[[Stop | None], Awaitable[Stop]]) -> None:
        stop = None
        while self.ended is None and (stop is None or not stop.at_once):
            stop = await stopped(stop)
            self.stop(stop)

    def stop(self, stop: Stop) -> None:
        """End the run, with what is in flight or without."""
        if self._engine is None:
            self.ended = self.ended or stop.reason
        elif stop.at_once:
            self._engine.abort()
        else:
            self._engine.stop(stop.reason)

    async def answer(self, item: Record | Failure) -> Answered:
        """What becomes of a record; returns when it is kept."""
        if (state := self._done.states.get(item.id)) is not None:
            return state
        if self.ended is not None:
            return None
        if (pending := self._pending.get(item.id)) is None:
            pending = self._pending[item.id] = asyncio.get_running_loop().create_future()
            self._items.put_nowait(item)
        return await pending

    def counters(self) -> Counters:
        """What was counted since the last call."""
        counted, self._counters = self._counters, Counters()
        if self._engine is not None:
            now = self._engine.statistics()
            counted.requests, self._requests = now.requests - self._requests, now.requests
            counted.in_flight, counted.width = now.in_flight, now.width
            if now.cost is not None:
                counted.cost, self._cost = now.cost - self._cost, now.cost
        return counted

    def on_event(self, event: Event) -> None:
        """Take note of what the engine tells."""
        match event:
            case RecordFinished(result):
                self._done.states.set(result.id, SUCCEEDED if result.ok else FAILED)
                if (pending := self._pending.pop(result.id, None)) is not None and not pending.done():
                    pending.set_result(result)
            case AttemptFailed():
                self._counters.retries += 1
            case Notice(message):
                self._counters.notices.append(message)
            case _:
                pass

    async def _live(self) -> None:
        try:
            await self._run()
        except VQAError as error:
            self.ended = error
        except OSError as error:
            self.ended = ClusterError(
                f"The folder {self._folder} cannot be used from {os.uname().nodename}: {error.strerror}. "
                "All machines must see it under this name."
            )
        finally:
            self.ended = self.ended or ClusterError(f"The worker {self._name} has ended.")
            self._set_opened()
            for pending in self._pending.values():
                if not pending.done():
                    pending.set_result(None)
            self._pending.clear()

    async def _run(self) -> None:
        path = await asyncio.to_thread(self._look_up)
        async with open_engine(self._config, observer=self) as engine:
            spent = self._spent()
            self._requests, self._cost = spent.requests, spent.cost or 0.0
            self._engine = engine
            self._set_opened()
            if self.ended is not None:
                return
            journal = Journal(path, self._config, source="a distributed run")
            source = Source(self._rows(), name="chunks", folder="")
            summary = await engine.run_source(source, journal, preflight=True, spent=spent)
            self._counters = self.counters()
            self.ended, self._engine = summary.error or summary.reason, None

    def _look_up(self) -> str:
        folder = Path(self._folder)
        self._done = done_in(part_paths(folder, self._name))
        return str(new_part(folder, self._name))

    def _spent(self) -> Spending:
        """What an earlier one of this name has spent of our share; but for what it had in flight."""
        b = self._config.budget
        spent = Spending(Budget(price_input=b.price_input, price_output=b.price_output), "")
        if b.max_cost:
            spent = Spending(b, self._config.all_endpoints()[0].model)
        spent.requests = self._done.requests
        spent.prompt_tokens = self._done.prompt_tokens
        spent.answer_tokens = self._done.answer_tokens
        return spent

    def _set_opened(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    async def _rows(self) -> AsyncGenerator[Record | Failure, None]:
        while True:
            yield await self._items.get()

    async def aclose(self) -> None:
        """End all of it; for tests and for who has no process to end."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
