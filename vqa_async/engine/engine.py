"""The engine: any number of single records, streams and journalled runs at once, over one client."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from vqa_async.client import VLMClient, Wait
from vqa_async.config import Config
from vqa_async.endpoints import EndpointPool
from vqa_async.engine.goal import Goal, GoalReached
from vqa_async.engine.run import Run
from vqa_async.errors import ConfigError, DiskError, JournalError, RecordError, VQAError
from vqa_async.events import (
    Event,
    Notice,
    Observer,
    RecordFinished,
    RunStarted,
    RunStatistics,
    Tally,
)
from vqa_async.images import ImageLoader, ImageStatistics
from vqa_async.journal import Journal, JournalPaths
from vqa_async.logs import named_run, run_id
from vqa_async.models import AttemptFailed, Failure, Record, Result
from vqa_async.preflight import EndpointCheck, check_endpoints
from vqa_async.prompts import asking_for
from vqa_async.quality import Review
from vqa_async.sources import InputFormat, Rows, Source, local_files, open_source, rows_source, shown
from vqa_async.spending import Spending
from vqa_async.transport import Transport

log = logging.getLogger("vqa_async")

_END = None
"""Put behind the last result of a stream."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """How a run ended.

    Attributes:
        state: ``finished``, ``stopped`` (run the same command again to resume) or ``interrupted``.
        reason: why it ended early, "" where it did not.
        error: the error that ended it, if one did.
        statistics: the counters at the end.
        paths: the files of the output.
        verification: how the verification of its pairs ended, where that was asked for.
        review: what was kept and dropped, where somebody wants to know.
        run_id: what its log lines and its run file call it.
    """

    state: str
    reason: str
    error: VQAError | None
    statistics: RunStatistics
    paths: JournalPaths
    verification: RunSummary | None = None
    review: Review | None = None
    run_id: str = ""

    @property
    def ok(self) -> bool:
        """Whether every record of the input has an answer, or as many were accepted as were wanted."""
        s = self.statistics
        return self.state == "finished" and s.failed == 0 and s.skipped_failed == 0


class Engine:
    """An open client with everything it needs; made by ``open_engine``. Any number of calls at once."""

    def __init__(
        self,
        config: Config,
        client: VLMClient,
        pool: EndpointPool,
        images: ImageLoader,
        transport: Transport,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._transport = transport
        self.config = config
        self._asking = asking_for(config)
        self._client = client
        self._pool = pool
        self._images = images
        self._observers = tuple(observers)
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._ended = Tally()  # single records, and runs that are over
        self._spent = client.spending.fresh()  # by runs that are over
        self._runs: set[Run] = set()
        self._streams: set[asyncio.Task[None]] = set()
        self._calls: set[asyncio.Future[Result]] = set()
        self._closing: set[asyncio.Future[None]] = set()

    async def generate(self, record: Record | Mapping[str, Any]) -> Result:
        """Answer one record.

        Args:
            record: a row as in an input file, such as ``{"image": "a.png", "conversation": [...]}``,
                or a Record.

        Returns:
            Success or Failure; never raises for the record's sake.

        Example:
            >>> result = await engine.generate({"image": "cat.jpg", "conversation": "What is this?"})
            >>> print(result.text if result.ok else result.error)
        """
        async with self._rows([record], check_columns=False) as source:
            item, *others = [item async for item in source]
        item = _several(item, 1 + len(others)) if others else item
        result = item if isinstance(item, Failure) else await self._answer(item)
        self._ended.count(result)
        self.notify(RecordFinished(result))
        return result

    async def _answer(self, record: Record) -> Result:
        call = asyncio.ensure_future(self._client.complete(record, notify=self._on_retry))
        self._calls.add(call)
        try:
            return await call
        finally:
            self._calls.discard(call)

    def _on_retry(self, event: AttemptFailed) -> None:
        self._ended.retries += 1
        self.notify(event)

    async def stream(self, records: Rows) -> AsyncGenerator[Result, None]:
        """Answer many records, in completion order, with bounded memory.

        Args:
            records: any iterable or async iterable of rows or Records, as long as it likes. Rows cost about
                20 bytes each while the stream lasts, by which repeats are told apart; Records cost none.

        Yields:
            Success or Failure for each record: one for a row, or for each question of its list.

        Raises:
            VQAError: the run cannot go on (wrong key, unknown model, outage); what was answered came first.
            Exception: whatever ``records`` raised, after the results of what came before.
        """
        results: asyncio.Queue[Result | None] = asyncio.Queue(self.config.limits.width_bound)
        async with self._open_stream(records, results) as (run, task):
            # When the task ends while the queue is full, no end mark fits in: hence the second condition.
            while not (task.done() and results.empty()) and (result := await results.get()) is not _END:
                yield result
            task.result()
            if isinstance(run.stopping, VQAError):
                raise run.stopping
            if run.input_error is not None:
                raise run.input_error

    @asynccontextmanager
    async def _open_stream(
        self, records: Rows, results: asyncio.Queue[Result | None]
    ) -> AsyncIterator[tuple[Run, asyncio.Task[None]]]:
        """A task that runs ``records`` into ``results``; ended with the block, however that is left."""
        source = self._rows(records)
        with self._run(source, deliver=results.put, save_on_wire=False) as run:
            with named_run():  # only for the task: whoever reads the stream has a context of his own
                task = asyncio.create_task(run.execute(), name="vqa-stream")
            task.add_done_callback(lambda _: None if results.full() else results.put_nowait(_END))
            self._streams.add(task)
            try:
                yield run, task
            finally:
                # A loop that is left by `break` gets here in a task of the event loop's own making, which the
                # engine waits for when it is closed.
                with self._being_closed():
                    self._streams.discard(task)
                    try:
                        await _end(task)
                    finally:
                        await source.aclose()

    @contextmanager
    def _being_closed(self) -> Iterator[None]:
        """Let ``aclose`` wait for the end of this block."""
        closed = asyncio.get_running_loop().create_future()
        self._closing.add(closed)
        try:
            yield
        finally:
            self._closing.discard(closed)
            closed.set_result(None)

    async def run(
        self,
        input: str,
        output: str,
        *,
        limit: int | None = None,
        format: InputFormat = "auto",
        preflight: bool = False,
        goal: Goal | None = None,
        folder: str | None = None,
    ) -> RunSummary:
        """Answer every record of a file. Journalled: the same call again goes on where this one stopped.

        Args:
            input: a file, a pattern, a folder, an address or "-", as in ``sources.open_source``.
            output: path of OUT.jsonl; failures, settings and lock stand beside it.
            limit: only the first so many rows of the input.
            format: what the input is, where its content does not tell; see ``config.InputFormat``.
            preflight: look at the endpoints before the first record, see the method of this name.
            goal: ends the run once it is reached, before the end of the input.
            folder: where relative image paths are looked for first; default: the folder of the input.

        Raises:
            ConfigError: nothing was sent. InputError, a kind of it, also comes when the input breaks off in
                the middle; what stands before is answered and kept first.
            JournalError: the output is locked, damaged or made with other settings; nothing was sent.
        """
        journal = Journal(output, self.config, source=shown(input), limit=limit, format=format)
        if limit is not None and limit < 1:
            raise ConfigError("limit must be at least 1.")
        source = open_source(
            input,
            self.config.columns,
            asking=self._asking,
            format=format,
            limit=limit,
            selection=self.config.selection,
            folder=folder,
            known=journal.known,
            is_finished=journal.is_finished,
        )
        files = partial(local_files, input, format)
        return await self.run_source(source, journal, preflight=preflight, goal=goal, files=files)

    async def run_source(
        self,
        source: Source,
        journal: Journal,
        *,
        preflight: bool = False,
        goal: Goal | None = None,
        altered: Callable[[Result], Result] | None = None,
        files: Callable[[], Sequence[str]] | None = None,
    ) -> RunSummary:
        """``run`` for a source that somebody else has made, and the journal that it knows.

        Args:
            altered: what is kept of a result, and counted, instead of it.
            files: the files that the source reads, none of which may be the journal's own. May block.
        """

        async def deliver(result: Result) -> None:
            await journal.append(altered(result) if altered else result)
            if goal is not None and goal.count(result):
                run.stop(goal.reached())

        plain = altered is None and goal is None
        with (
            named_run(),
            self._being_closed(),
            self._run(
                source,
                deliver=journal.append if plain else deliver,
                save_on_wire=True,
                before_first=self._look_first if preflight else None,
            ) as run,
        ):
            if goal is not None and not goal.left:
                run.stop(goal.reached())
            if files is not None:
                _require_distinct(await asyncio.to_thread(files), journal.paths)
            async with source, journal:
                return await self._journalled(run, journal)

    async def _journalled(self, run: Run, journal: Journal) -> RunSummary:
        self.notify(RunStarted(str(journal.paths.successes), journal.finished_before))
        for notice in journal.notices:
            self.notify(Notice(notice))
        broken: JournalError | None = None
        try:
            await run.execute()
        except JournalError as error:
            broken = error
        summary = self._summary(run, journal, broken)
        await _close(journal, summary)
        if run.input_error is not None and not (broken or run.stopping):
            raise run.input_error
        return summary

    def _summary(self, run: Run, journal: Journal, broken: JournalError | None) -> RunSummary:
        cause = broken or run.stopping or run.input_error
        stopped = isinstance(cause, BaseException)
        return RunSummary(
            state="finished"
            if cause is None or isinstance(cause, GoalReached)
            else "stopped"
            if stopped
            else "interrupted",
            reason="" if cause is None else str(cause),
            error=cause if isinstance(cause, VQAError) else None,
            statistics=self._snapshot(run.tally, run.spending, run),
            paths=journal.paths,
            run_id=run_id(),
        )

    async def preflight(self, *, thorough: bool = False) -> list[EndpointCheck]:
        """``check_endpoints``, for who cannot go on without one.

        Raises:
            RequestError: no endpoint can be used.
        """
        return _require_one(await self.check_endpoints(thorough=thorough))

    async def _look_first(self, spending: Spending) -> list[EndpointCheck]:
        return _require_one(await self._check_endpoints(spending, thorough=False))

    async def check_endpoints(self, *, thorough: bool = False) -> list[EndpointCheck]:
        """Ask each endpoint whether it takes the key and knows the model, before anything is paid for.

        Those that cannot be used beside others are not asked any more.

        Args:
            thorough: also where it takes a small call to find out.

        Returns:
            How each stands, in their order; one that cannot be used has its error.
        """
        return await self._check_endpoints(self._client.spending, thorough=thorough)

    async def _check_endpoints(self, spending: Spending, *, thorough: bool) -> list[EndpointCheck]:
        checks = await check_endpoints(
            self._pool.endpoints, self._client, self._transport, spending, thorough=thorough
        )
        for endpoint, check in zip(self._pool.endpoints, checks, strict=True):
            if check.error is not None:
                self._pool.failed(endpoint, check.error)
        return checks

    def statistics(self) -> RunStatistics:
        """Counters since the engine was opened, over all calls and runs; time and input of a current run."""
        total, spent = Tally(), self._client.spending.fresh()
        total.add(self._ended)
        spent.add(self._client.spending)
        spent.add(self._spent)
        for run in tuple(self._runs):  # whoever asks may be another thread
            total.add(run.tally)
            spent.add(run.spending)
        return self._snapshot(total, spent, next(iter(self._runs), None))

    def _snapshot(self, tally: Tally, spending: Spending, run: Run | None) -> RunStatistics:
        started = run.started if run else self._started
        return tally.snapshot(
            in_flight=self._pool.in_flight,
            width=self._pool.width,
            elapsed_s=self._loop.time() - started,
            expected=run.expected() if run else 0,
            expected_is_exact=run.input_read if run else False,
            endpoints=self._pool.statistics(),
            requests=spending.requests,
            cost=spending.cost,
        )

    def waits(self) -> list[Wait]:
        """What the records wait for that are being answered, the most common first."""
        return self._client.waits()

    def image_statistics(self) -> ImageStatistics:
        """What the image loader did and holds."""
        return self._images.statistics()

    @property
    def is_running(self) -> bool:
        """Whether a run or stream has begun to send."""
        return any(run.has_begun for run in self._runs)

    def stop(self, reason: str = "stopped") -> None:
        """Drain all runs: nothing new is sent, what is in flight is finished and kept."""
        for run in tuple(self._runs):
            run.stop(reason)

    def abort(self) -> None:
        """End all runs now, requests in flight included. What is finished is kept."""
        for run in tuple(self._runs):
            run.stop("aborted")
            run.abort()

    async def aclose(self) -> None:
        """End whatever still runs, journalled runs of other tasks included; part of leaving ``open_engine``.

        Single records that other tasks still wait for are cancelled: there is nothing left to answer them.
        """
        self.abort()
        for task in tuple(self._streams):
            await _end(task)
        if self._closing:
            await asyncio.wait(self._closing)
        for call in tuple(self._calls):
            await _end(call)
        self._pool.close()

    def _rows(self, records: Rows, *, check_columns: bool = True) -> Source:
        return rows_source(records, self.config.columns, asking=self._asking, check_columns=check_columns)

    @contextmanager
    def _run(self, source: Source, **how: Any) -> Iterator[Run]:
        run = Run(self._client, self.config, source, notify=self.notify, **how)
        self._runs.add(run)
        try:
            yield run
        finally:
            self._runs.discard(run)
            self._ended.add(run.tally)
            self._spent.add(run.spending)

    def notify(self, event: Event) -> None:
        """Tell the observers; what one raises is logged and ends nothing."""
        for observer in self._observers:
            self._tell(observer, event)

    @staticmethod
    def _tell(observer: Observer, event: Event) -> None:
        try:
            observer.on_event(event)
        except Exception:
            # Whatever a watcher does wrong, the run it watches is worth more.
            log.exception("an observer failed on %s", type(event).__name__)
        except asyncio.CancelledError:
            # Its own, for nothing is awaited here; passed on, it would end a worker without a word.
            log.exception("an observer failed on %s", type(event).__name__)


def _require_one(checks: list[EndpointCheck]) -> list[EndpointCheck]:
    """``checks``, unless they leave nobody to ask."""
    hopeless = [check.error for check in checks if check.error is not None and check.error.stops_run]
    if hopeless:
        raise hopeless[0]
    return checks


def _require_distinct(inputs: Sequence[str], paths: JournalPaths) -> None:
    """What a run writes it may not read: it would never come to the end."""
    for path in (paths.successes, paths.failures, paths.damaged, paths.run):
        if path.exists() and any(os.path.exists(input) and path.samefile(input) for input in inputs):
            raise ConfigError(f"Input and output are the same file, {path}. Choose another -o.")


async def _close(journal: Journal, summary: RunSummary) -> None:
    statistics = summary.statistics
    counts = {
        name: getattr(statistics, name)
        for name in ("succeeded", "failed", "skipped", "skipped_failed", "retries", "requests")
    } | {
        "prompt_tokens": statistics.prompt_tokens,
        "completion_tokens": statistics.completion_tokens,
        "cost": statistics.cost,
        "elapsed_s": round(statistics.elapsed_s, 3),
    }
    try:
        await journal.close(summary.state, summary.reason, counts)
    except DiskError:
        if summary.error is None:
            raise
        # The disk that ended the run also refuses the note of it; the lines are what counts.


def _several(first: Record | Failure, count: int) -> Failure:
    """The Failure for a row that cannot have its answers in one result."""
    record = first.record if isinstance(first, Failure) else first
    error = RecordError(
        f"it asks {count} questions, and gets one result each: use stream or run.", code="several_questions"
    )
    return Failure(record, error, attempts=0, finished_at=time.time())


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel ``task`` and wait until it is over, however often we are cancelled meanwhile.

    Its exceptions were for whoever is gone.
    """
    task.cancel()
    waiting = asyncio.gather(task, return_exceptions=True)
    cancelled = False
    while not waiting.done():
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            cancelled = True
            task.cancel()
    if cancelled:
        raise asyncio.CancelledError
