"""One run over one source: producer -> bounded queue -> workers -> results kept; drain, cancel, stop rules.

There are somewhat more workers than permits, so that images are prepared and retries waited for without
leaving a permit unused; the permits (endpoints) are what bounds requests. Where their number is found by
trying, so is the number of workers. Everything is bounded, so memory does not depend on the number of
records. One TaskGroup owns every task.

A run ends in one of these ways: the input is used up; it is stopped (signal, wrong key, outage, budget), and
then nothing new is sent, what is on the wire gets ``drain_timeout`` to finish, all else stays open for the
next run; or the files cannot be written, and then it ends at once.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from vqa_async.client import VLMClient, Wait
from vqa_async.config import Config
from vqa_async.engine.goal import GoalReached
from vqa_async.engine.handover import Handover
from vqa_async.errors import BudgetReached, JournalError, VQAError
from vqa_async.events import Event, Notice, RecordFinished, RunStopping, Tally
from vqa_async.journal.replay import FAILED
from vqa_async.models import AttemptFailed, Failure, ImageRef, Record, Result
from vqa_async.sources import Finished, Source
from vqa_async.spending import Spending

_READ_AHEAD = 1000
"""Records that wait for a worker at most."""

_LONGEST_SILENCE_S = 600.0
"""Seconds between two notices that nothing finishes, at most."""

_TRUNCATED = (
    "An answer was cut off at max_tokens. It is kept as far as it goes, and marked: 'truncated' in its _meta"
)

_YOUNG_OBJECTS = 10_000


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let the garbage collector look at young objects less often, and put it back afterwards.

    Hundreds of records in flight are tens of thousands of objects that come and go together, so that by
    default it looks after every dozen of them, and never finds anything: records are no cycles.
    """
    young, *older = gc.get_threshold()
    if not 0 < young < _YOUNG_OBJECTS:  # another run has done it, or our host has its own mind
        yield
        return
    gc.set_threshold(_YOUNG_OBJECTS, *older)
    try:
        yield
    finally:
        if gc.get_threshold() == (_YOUNG_OBJECTS, *older):
            gc.set_threshold(young, *older)


def _only_journal_error(group: BaseExceptionGroup[BaseException]) -> JournalError | None:
    """The first of the journal's errors in ``group``, if there is nothing else in it."""
    ours, others = group.split(JournalError)
    if ours is None or others is not None:
        return None
    first: BaseException = ours
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, JournalError)
    return first


def _silence(seconds: float, waits: Sequence[Wait], pauses: Sequence[str]) -> str:
    """A sentence on what is waited for."""
    parts = [f"{wait.records:,} for {wait.what} (the longest {wait.longest_s:,.0f} s)" for wait in waits]
    held = f" {'. '.join(pauses)}." if pauses else ""
    return f"Nothing has finished for {seconds:,.0f} s. Records wait: {', '.join(parts)}.{held}"


def _shared(item: Record | Failure) -> str | None:
    """What a record has in common with others that are better sent one after the other: its first image."""
    for message in item.messages if isinstance(item, Record) else ():
        for part in message.parts:
            if isinstance(part, ImageRef):
                return part.value if isinstance(part.value, str) else None
    return None


def _weight(item: Record | Failure) -> int:
    """Bytes of images that a record holds."""
    images = item.images if isinstance(item, Record) else ()
    return sum(len(image.value) for image in images if image.kind == "bytes")


class Run:
    """The tasks of one run over one source.

    Args:
        client: answers records.
        config: widths and times.
        source: the records.
        deliver: keeps a result; when it returns, the result is safe.
        save_on_wire: whether ``deliver`` belongs to the request, so that what is paid for and not yet saved
            never exceeds the permits (a journal); or comes after it, so that a slow reader holds no permit.
        notify: told what happens.
        before_first: awaited before the first record that is to be asked about, with what the run may spend;
            its VQAError ends the run.
    """

    def __init__(
        self,
        client: VLMClient,
        config: Config,
        source: Source,
        *,
        deliver: Callable[[Result], Awaitable[None]],
        save_on_wire: bool,
        notify: Callable[[Event], None],
        before_first: Callable[[Spending], Awaitable[object]] | None = None,
    ) -> None:
        self._before_first = before_first
        self._client = client
        self._config = config
        self._read = 0
        self.input_read = False
        self.is_over = False
        self._deliver = deliver
        self._save_on_wire = save_on_wire
        self._notify = notify
        self._records = Handover[Record | Failure](min(config.limits.width_bound, _READ_AHEAD))
        self._workers: set[_Worker] = set()
        self._numbers = itertools.count()
        self._group: asyncio.TaskGroup | None = None
        self._producer: asyncio.Task[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._finished_before = 0
        self._silent_s = 0.0
        self._told_truncated = False
        self.source = source
        self.started = asyncio.get_running_loop().time()
        self.tally = Tally()
        self.spending = client.spending.fresh()
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
            with _rare_collections():
                async with asyncio.TaskGroup() as self._group:
                    self._producer = self._group.create_task(self._produce(), name="vqa-producer")
                    self._hire()
                    self._set_deadline()
                    self._watch(self._config.timeouts.stall_notice)
        except BaseExceptionGroup as group:
            # Not `except*`: what is raised in that comes out in a group of its own before Python 3.11.4.
            first = _only_journal_error(group)
            if first is None:
                raise
            raise first from None
        finally:
            self.is_over = True
            for timer in self._timers.values():
                timer.cancel()

    def _wanted(self) -> int:
        """Workers that are of use. Beyond the permits: a quarter for images being prepared and retries being
        waited for."""
        width = self._client.width
        return width + max(4, width // 4)

    def _hire(self) -> None:
        """As many workers as are of use now."""
        assert self._group is not None
        for _ in range(self._wanted() - len(self._workers)):
            self._workers.add(_Worker(self, self._group, next(self._numbers)))

    def _is_needed(self, worker: _Worker) -> bool:
        """Whether ``worker`` should take another record, where the width is found by trying."""
        if len(self._workers) > self._wanted():
            self._workers.discard(worker)
            return False
        self._hire()
        return True

    def _set_deadline(self) -> None:
        seconds = self._config.budget.deadline
        if seconds:
            said = f"The deadline of this run, {seconds:,.6g} s after its start, is reached (--deadline)."
            error = BudgetReached(said, code="deadline")
            self._set_timer("deadline", seconds, lambda: self.stop(error))

    def _watch(self, interval_s: float) -> None:
        """Look in so many seconds whether anything has finished meanwhile."""
        if interval_s and self.stopping is None:
            finished = self._finished()
            self._set_timer("watch", interval_s, lambda: self._look(finished, interval_s))

    def _set_timer(self, name: str, seconds: float, what: Callable[[], None]) -> None:
        """Call ``what`` then, unless the run is over before, or the timer is set anew."""
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, what)

    def _look(self, finished_before: int, interval_s: float) -> None:
        """Say what everything waits for, if nothing has finished; ever more rarely while that goes on."""
        if self.is_over:
            return
        waits = self._client.waits()
        if self._finished() > finished_before or not waits:
            self._watch(self._config.timeouts.stall_notice)
            return
        self._silent_s += interval_s
        self._notify(Notice(_silence(self._silent_s, waits, self._client.pauses())))
        self._watch(min(2 * interval_s, max(interval_s, _LONGEST_SILENCE_S)))

    def _finished(self) -> int:
        finished = self.tally.succeeded + self.tally.failed + self.tally.skipped
        if finished > self._finished_before:
            self._finished_before, self._silent_s = finished, 0.0
        return finished

    @property
    def has_begun(self) -> bool:
        """Whether it has got as far as reading its input."""
        return self._producer is not None

    def expected(self) -> int:
        """Records that the input holds, as far as can be told from the share of it that was read; else 0."""
        fraction = 1.0 if self.input_read else self.source.fraction()
        return round(self._read / fraction) if fraction else 0

    def stop(self, reason: VQAError | str) -> None:
        """Send nothing new; let what is on the wire finish within ``drain_timeout``; leave the rest open.

        Where a budget is used up or a goal is reached, nobody is in a hurry, and what is on the wire was paid
        for: that gets as long as it needs.

        Does nothing to a run that is stopping or over; one that has not begun will not.
        """
        if self.stopping is not None or self.is_over:
            return
        self.stopping = reason
        if self._producer is not None:
            self._producer.cancel()
        on_wire = [worker for worker in self._workers if self._client.is_on_wire(worker.task)]
        for worker in self._workers:
            if worker not in on_wire and not worker.is_keeping:
                worker.task.cancel()
        self._notify(RunStopping(str(reason), len(on_wire)))
        is_budget = isinstance(reason, BudgetReached) and reason.code == BudgetReached.code
        if not (is_budget or isinstance(reason, GoalReached)):
            self._set_timer("drain", self._config.timeouts.drain_timeout, self._cut_off)

    def _cut_off(self) -> None:
        """End what is still on the wire, but not the keeping of answers that are there."""
        for worker in self._workers:
            if not worker.is_keeping:
                worker.task.cancel()

    def abort(self) -> None:
        """End all of it now, but for answers that are on their way into the journal: they are counted too."""
        if self._producer is not None:
            self._producer.cancel()
        for worker in self._workers:
            if not (self._save_on_wire and worker.is_keeping):
                worker.task.cancel()

    async def _produce(self) -> None:
        try:
            async for item in self.source:
                if self.stopping is not None:
                    return  # a source of the caller's may have made nothing of being cancelled
                if isinstance(item, Finished):
                    self.tally.skipped += 1
                    self.tally.skipped_failed += item.state == FAILED
                elif await self._may_begin():
                    await self._records.put(item, _shared(item), _weight(item) if self.source.embeds else 0)
                self._read += 1
            self.input_read = True
        except Exception as error:
            # The caller's iterable may raise anything: what came before it is still answered and kept,
            # then the error goes to the caller.
            self.input_error = error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self.input_error = error  # of something that the caller's iterable waited for: we are wanted
        self._records.end()

    async def _may_begin(self) -> bool:
        """Whether records may be asked about; looked at once, when there is one."""
        if self._before_first is not None:
            before_first, self._before_first = self._before_first, None
            try:
                await before_first(self.spending)
            except VQAError as error:
                self.stop(error)
        return self.stopping is None

    def tell_truncated(self) -> None:
        """Say that there are answers that were cut off; once."""
        self._told_truncated = True
        ceiling = self._config.answers.max_tokens_ceiling
        advice = (
            "raise --max-tokens-ceiling" if ceiling else "raise --max-tokens, or give --max-tokens-ceiling"
        )
        self._notify(Notice(f"{_TRUNCATED}: {advice}."))

    def _may_retry(self) -> bool:
        return self.stopping is None

    def _on_attempt(self, event: AttemptFailed) -> None:
        self.tally.retries += 1
        self._notify(event)


class _Worker:
    """One of the tasks of a run: takes a record, has it answered, keeps the result, takes the next.

    Attributes:
        task: the task.
        is_keeping: whether a result is on its way to where it is kept.
    """

    __slots__ = ("_run", "is_keeping", "task")

    def __init__(self, run: Run, group: asyncio.TaskGroup, number: int) -> None:
        self._run = run
        self.is_keeping = False
        self.task = group.create_task(self._work(), name=f"vqa-worker-{number}")

    async def _work(self) -> None:
        run = self._run
        save = self._keep if run._save_on_wire else None
        is_adaptive = run._config.limits.is_adaptive
        while run.stopping is None and (item := await run._records.get()) is not None:
            if isinstance(item, Failure):
                await self._keep(item)
                continue
            result = await run._client.complete(
                item,
                save=save,
                may_retry=run._may_retry,
                notify=run._on_attempt,
                spending=run.spending,
            )
            if isinstance(result, Failure) and result.error.stops_run:
                run.stop(result.error)
            elif save is None:
                await self._keep(result)
            if is_adaptive and not run._is_needed(self):
                return

    async def _keep(self, result: Result) -> None:
        run = self._run
        self.is_keeping = True
        try:
            await run._deliver(result)
        except JournalError:
            run.abort()  # before our permit is handed on: whoever got it would send what cannot be kept
            raise
        finally:
            self.is_keeping = False
        run.tally.count(result)
        run._notify(RecordFinished(result))
        if run.tally.truncated and not run._told_truncated:
            run.tell_truncated()
