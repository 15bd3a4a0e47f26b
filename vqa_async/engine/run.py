"""One run over one source: producer -> bounded queue -> workers -> results kept; drain, cancel, stop rules.

There are somewhat more workers than permits, so that images are prepared and retries waited for without
leaving a permit unused; the permits (endpoints.py) are what bounds requests. Everything is bounded, so
memory does not depend on the number of records. One TaskGroup owns every task.

A run ends in one of these ways: the input is used up; it is stopped (signal, wrong key, outage), and then
nothing new is sent, what is on the wire gets ``drain_timeout`` to finish, all else stays open for the next
run; or the files cannot be written, and then it ends at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from vqa_async.client import VLMClient
from vqa_async.config import Config
from vqa_async.errors import JournalError, VQAError
from vqa_async.events import Event, RecordFinished, RunStopping, Tally
from vqa_async.journal.replay import FAILED
from vqa_async.models import AttemptFailed, Failure, Record, Result
from vqa_async.sources import Source

_END = None
"""Put into the queue by the producer: there are no more records."""


class Run:
    """The tasks of one run over one source.

    Args:
        client: answers records.
        config: widths and times.
        source: the records.
        deliver: keeps a result; when it returns, the result is safe.
        save_on_wire: whether ``deliver`` belongs to the request, so that what is paid for and not yet saved
            never exceeds the permits (a journal); or comes after it, so that a slow reader holds no permit.
        finished: the state of a record that needs no request, None for one that does.
        notify: told what happens.
        limit: only the first so many records.
    """

    def __init__(
        self,
        client: VLMClient,
        config: Config,
        source: Source,
        *,
        deliver: Callable[[Result], Awaitable[None]],
        save_on_wire: bool,
        finished: Callable[[str], bytes | None],
        notify: Callable[[Event], None],
        limit: int | None = None,
    ) -> None:
        self._client = client
        self._config = config
        self._limit = limit
        self._read = 0
        self.input_read = False
        self.is_over = False
        self._keeping: set[asyncio.Task[None] | None] = set()
        self._deliver = deliver
        self._save_on_wire = save_on_wire
        self._finished = finished
        self._notify = notify
        self._queue: asyncio.Queue[Record | Failure | None] = asyncio.Queue(config.limits.max_workers)
        self._workers: list[asyncio.Task[None]] = []
        self._producer: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.source = source
        self.started = asyncio.get_running_loop().time()
        self.tally = Tally()
        self.stopping: VQAError | str | None = None
        self.input_error: BaseException | None = None

    async def execute(self) -> None:
        """Work through the source until its end or until ``stop``.

        Raises:
            JournalError: results cannot be kept; nothing more was sent.
        """
        if self.stopping is not None:
            return
        try:
            async with asyncio.TaskGroup() as group:
                self._producer = group.create_task(self._produce(), name="vqa-producer")
                self._workers = [
                    group.create_task(self._work(), name=f"vqa-worker-{n}")
                    for n in range(self._worker_count())
                ]
        except* JournalError as errors:
            first = errors.exceptions[0]
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise first from None
        finally:
            self.is_over = True
            if self._deadline is not None:
                self._deadline.cancel()

    def _worker_count(self) -> int:
        # Beyond the permits: a quarter for images being prepared and retries being waited for.
        width = self._config.limits.max_workers
        return width + max(4, width // 4)

    @property
    def has_begun(self) -> bool:
        """Whether it has got as far as reading its input."""
        return self._producer is not None

    def expected(self) -> int:
        """Records that the input holds, as far as can be told from the share of it that was read; else 0."""
        fraction = 1.0 if self.input_read else self.source.fraction()
        estimate = round(self._read / fraction) if fraction else 0
        return min(estimate, self._limit or estimate)

    def stop(self, reason: VQAError | str) -> None:
        """Send nothing new; let what is on the wire finish within ``drain_timeout``; leave the rest open.

        Does nothing to a run that is stopping or over; one that has not begun will not.
        """
        if self.stopping is not None or self.is_over:
            return
        self.stopping = reason
        if self._producer is not None:
            self._producer.cancel()
        on_wire = [task for task in self._workers if self._client.is_on_wire(task)]
        for task in self._workers:
            if task not in on_wire and task not in self._keeping:
                task.cancel()
        self._notify(RunStopping(str(reason), len(on_wire)))
        self._deadline = asyncio.get_running_loop().call_later(
            self._config.timeouts.drain_timeout, self._cut_off
        )

    def _cut_off(self) -> None:
        """End what is still on the wire, but not the keeping of answers that are there."""
        for task in self._workers:
            if task not in self._keeping:
                task.cancel()

    def abort(self) -> None:
        """End all of it now, but for answers that are on their way into the journal: they are counted too."""
        for task in (self._producer, *self._workers):
            if task is not None and not (self._save_on_wire and task in self._keeping):
                task.cancel()

    async def _produce(self) -> None:
        try:
            async for item in self.source:
                if self.stopping is not None:
                    return  # a source of the caller's may have made nothing of being cancelled
                if state := self._finished(item.id):
                    self.tally.skipped += 1
                    self.tally.skipped_failed += state == FAILED
                else:
                    await self._queue.put(item)
                self._read += 1
                if self._read == self._limit:
                    break
            self.input_read = True
        except Exception as error:
            # The caller's iterable may raise anything: what came before it is still answered and kept,
            # then the error goes to the caller.
            self.input_error = error
        if self.stopping is None:
            await self._queue.put(_END)

    async def _work(self) -> None:
        while self.stopping is None:
            item = await self._queue.get()
            if item is _END:
                self._queue.put_nowait(_END)  # for the next worker; there is room: nobody else puts now
                return
            await self._settle(item)

    async def _settle(self, item: Record | Failure) -> None:
        if isinstance(item, Failure):
            await self._keep(item)
            return
        result = await self._client.complete(
            item,
            save=self._keep if self._save_on_wire else None,
            may_retry=lambda: self.stopping is None,
            notify=self._on_attempt,
        )
        if isinstance(result, Failure) and result.error.stops_run:
            self.stop(result.error)
        elif not self._save_on_wire:
            await self._keep(result)

    async def _keep(self, result: Result) -> None:
        task = asyncio.current_task()
        self._keeping.add(task)
        try:
            await self._deliver(result)
        finally:
            self._keeping.discard(task)
        self.tally.count(result)
        self._notify(RecordFinished(result))

    def _on_attempt(self, event: AttemptFailed) -> None:
        self.tally.retries += 1
        self._notify(event)
