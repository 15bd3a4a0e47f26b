"""A run over many processes, from the process that wants it: start, count, stop, and make one output of all.

It has the methods of an engine that people look at and stop: ``statistics``, ``stop``, ``abort``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, TypeAlias

from vqa_async.api import open_engine
from vqa_async.config import Config, InputFormat
from vqa_async.distributed.cluster import cluster, cpus_for, machines
from vqa_async.distributed.desk import Desk, Stop
from vqa_async.distributed.feeding import Feed, results_of
from vqa_async.distributed.reading import Reading
from vqa_async.distributed.sharing import require_possible, sharers
from vqa_async.distributed.totals import Totals
from vqa_async.distributed.work import ChunkDone, Job, keys_of
from vqa_async.engine import RunSummary
from vqa_async.engine.engine import require_distinct
from vqa_async.errors import BudgetReached, ClusterError, ConfigError, JournalError, VQAError
from vqa_async.events import Event, Notice, Observer, RecordFinished, RunStarted, RunStatistics, RunStopping
from vqa_async.journal import Journal
from vqa_async.journal.writer import see_through
from vqa_async.models import Failure, Record
from vqa_async.sources import local_files, open_source, shown

Watch: TypeAlias = Callable[[Any], AbstractAsyncContextManager[None]]

_MARGIN_S = 5.0
"""Beyond what a drain may take, for workers to say that they have ended."""

_LEAST_CHUNK, _MOST_CHUNK = 64, 512


@contextlib.asynccontextmanager
async def _unwatched(_: object) -> AsyncIterator[None]:
    yield


class DistributedRun:
    """One run on Ray.

    Args:
        config: all options.
        observer: told what happens; of failures, about the first of each kind in a chunk.
        watch: what goes on beside it, such as a display.

    Raises:
        ConfigError: an option has no meaning over many processes.
    """

    def __init__(
        self, config: Config, *, observer: Observer | None = None, watch: Watch = _unwatched
    ) -> None:
        require_possible(config)
        self.config = config
        self._observer, self._watch = observer, watch
        self._totals = Totals()
        self._started = time.monotonic()
        self._desk: Any = None
        self._is_over = threading.Event()
        self._stopping: Stop | None = None
        self._cause: VQAError | str | None = None
        self._waiting: asyncio.Task[None] | None = None

    # --- for who looks at it and stops it ---------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether workers may have begun to send."""
        return self._desk is not None

    def statistics(self) -> RunStatistics:
        """Counters since the start, as of the last chunk of each worker."""
        return self._totals.statistics(time.monotonic() - self._started)

    def stop(self, reason: VQAError | str) -> None:
        """Drain all workers: nothing new is sent, what is in flight is finished and kept."""
        if self._stopping is None and not self._is_over.is_set():
            self._cause = reason
            self._notify(RunStopping(str(reason), self.statistics().in_flight))
            self._tell(Stop(reason))

    def abort(self) -> None:
        """End all workers now, requests in flight included. What is finished is kept."""
        self._cause = self._cause or "aborted"
        self._tell(Stop(self._cause, at_once=True))

    def _tell(self, stop: Stop) -> None:
        self._stopping = stop
        if self._desk is not None and self._waiting is None:
            self._waiting = asyncio.create_task(self._wait_for_end(), name="vqa-stop")
        if self._desk is not None:
            self._desk.stop.remote(stop)

    async def _wait_for_end(self) -> None:
        """Until all workers have ended; who does not say so in time was killed, or is to be."""
        is_budget = isinstance(self._cause, BudgetReached) and self._cause.code == BudgetReached.code
        patience = self.config.timeouts.timeout if is_budget else self.config.timeouts.drain_timeout
        left = asyncio.wrap_future(self._desk.all_left.remote().future())
        await asyncio.wait({left}, timeout=patience + _MARGIN_S)
        await asyncio.sleep(
            _MARGIN_S
        )  # what is still on its way comes back empty, and then this is cancelled
        self._is_over.set()

    # --- the run ----------------------------------------------------------------------------------------

    async def run(
        self, input: str, output: str, *, limit: int | None = None, format: InputFormat = "auto"
    ) -> RunSummary:
        """Answer every record of a file, as ``Engine.run`` does; the same call again resumes.

        Raises:
            ConfigError: nothing was sent.
            JournalError: the output is locked, damaged or made with other settings; nothing was sent.
        """
        if limit is not None and limit < 1:
            raise ConfigError("limit must be at least 1.")
        if input == "-":
            raise ConfigError("--engine ray reads INPUT where Ray runs, and cannot read '-': give a file.")
        await open_source(input, format=format).aclose()  # there is such an input
        async with open_engine(self.config):  # and these options can be used
            pass
        journal = Journal(output, self.config, source=shown(input), limit=limit, format=format)
        require_distinct(await asyncio.to_thread(local_files, input, format), journal.paths)
        async with journal, self._watch(self):
            self._begin(journal)
            await self._work(
                Reading(input, format, limit, self.config, journal.known, os.getcwd(), 1), journal
            )
            summary = await self._taken_in(journal)
            await journal.close(summary.state, summary.reason, _counts(summary.statistics))
            if self._totals.input_error is not None and self._cause is self._totals.input_error:
                raise self._totals.input_error
            return summary

    def _begin(self, journal: Journal) -> None:
        self._started = time.monotonic()
        self._notify(RunStarted(str(journal.paths.successes), journal.finished_before))
        for notice in journal.notices:
            self._notify(Notice(notice))

    async def _work(self, reading: Reading, journal: Journal) -> None:
        """Have the chunks done; all of Ray from one thread, which is free of it when this returns."""
        loop = asyncio.get_running_loop()
        parts = str(journal.paths.parts)

        def on_done(done: ChunkDone) -> None:
            loop.call_soon_threadsafe(self._count, done)

        def on_desk(desk: Any) -> None:
            loop.call_soon_threadsafe(self._has_desk, desk)

        def drive() -> None:
            options = self.config.distribution
            with cluster(options.ray_address, sharers(self.config, options.ray_actors or 2)):
                if self._is_over.is_set():
                    return
                workers = sharers(self.config, options.ray_actors or max(2, machines()))
                feed = self._feed(reading, parts, workers, on_desk)
                for done in results_of(feed, self._is_over.is_set):
                    on_done(done)

        deadline = self._set_deadline(loop)
        with ThreadPoolExecutor(1, thread_name_prefix="vqa-ray") as thread:
            try:
                await see_through(loop.run_in_executor(thread, drive), on_cancel=self._is_over.set)
            except ClusterError as error:
                self._cause = self._cause or error
            finally:
                self._desk = None
                self._is_over.set()
                with contextlib.suppress(OSError):  # nothing was written
                    journal.paths.parts.rmdir()
                if deadline is not None:
                    deadline.cancel()
                if self._waiting is not None:
                    self._waiting.cancel()
        self._cause = self._cause or self._totals.input_error or self._totals.gap()

    def _feed(self, reading: Reading, parts: str, workers: int, on_desk: Callable[[Any], None]) -> Feed:
        import ray

        os.makedirs(parts, exist_ok=True)
        desk = (
            ray.remote(Desk)
            .options(num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=100_000)
            .remote(workers)
        )
        on_desk(desk)
        width = max(1, self.config.limits.width_bound // workers)
        return Feed(
            job=Job(self.config, workers, parts, reading.folder, keys_of(self.config), desk),
            reading=replace(reading, chunk=min(_MOST_CHUNK, max(_LEAST_CHUNK, 2 * width))),
            cpus=cpus_for(workers),
        )

    def _has_desk(self, desk: Any) -> None:
        self._desk = desk
        if self._stopping is not None:  # while Ray was being started
            self._tell(self._stopping)

    def _set_deadline(self, loop: asyncio.AbstractEventLoop) -> asyncio.TimerHandle | None:
        seconds = self.config.budget.deadline
        if not seconds:
            return None
        said = f"The deadline of this run, {seconds:,.6g} s after its start, is reached (--deadline)."
        return loop.call_later(seconds, self.stop, BudgetReached(said, code="deadline"))

    def _count(self, done: ChunkDone) -> None:
        for message in self._totals.add(done):
            self._notify(Notice(message))
        for id, error in done.failures.values():
            self._notify(RecordFinished(Failure(Record(id, 0, {}, ()), error, 1, time.time())))
        if done.left and done.stop is not None and self._stopping is None:
            self.stop(done.stop)

    async def _taken_in(self, journal: Journal) -> RunSummary:
        """What all workers have written, in the output; how it stands."""
        cause = self._cause
        try:
            taken = await journal.take_in()
        except JournalError as error:
            cause, statistics = error, self.statistics()
        else:
            for notice in taken.notices:
                self._notify(Notice(notice))
            if taken.repeated:
                self._notify(Notice(_repeated(taken.repeated)))
            statistics = replace(
                self.statistics(), succeeded=taken.succeeded, failed=taken.failed, in_flight=0
            )
        return RunSummary(
            state="finished"
            if cause is None
            else "stopped"
            if isinstance(cause, VQAError)
            else "interrupted",
            reason="" if cause is None else str(cause),
            error=cause if isinstance(cause, VQAError) else None,
            statistics=statistics,
            paths=journal.paths,
        )

    def _notify(self, event: Event) -> None:
        if self._observer is not None:
            self._observer.on_event(event)


def _repeated(count: int) -> str:
    said = "1 record was" if count == 1 else f"{count:,} records were"
    return f"{said} answered twice, because a worker was killed; each stands in the output once."


def _counts(s: RunStatistics) -> dict[str, Any]:
    names = ("succeeded", "failed", "skipped", "skipped_failed", "retries", "requests")
    return {name: getattr(s, name) for name in names} | {
        "prompt_tokens": s.prompt_tokens,
        "completion_tokens": s.completion_tokens,
        "cost": s.cost,
        "elapsed_s": round(s.elapsed_s, 3),
    }
