"""Batches that are over -> the journal, each record once.

A file of results is downloaded beside the output, read line by line, and removed; each line goes the way of a
live reply. A part is noted as fetched only after the journal is closed, so a kill in between means that it is
fetched again, and then what has an answer is passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from vqa_async.batches.desk import Desk
from vqa_async.batches.provider import BatchState
from vqa_async.batches.records import Waiting, decode, names
from vqa_async.batches.results import Line, read_line, unanswered
from vqa_async.batches.stored import log_of
from vqa_async.errors import BatchError, EndpointNotFound, JournalDamaged
from vqa_async.events import Tally
from vqa_async.journal import BatchLog, Journal, JournalPaths, Part
from vqa_async.journal.batch_log import lines_of
from vqa_async.journal.replay import SUCCEEDED
from vqa_async.journal.writer import disk_error
from vqa_async.models import Failure, Result

_AROUND_BYTES = 1 << 16
"""What a line of results has around the reply in it."""

_TOGETHER = 128
"""Results that are handed to the journal at once."""


@dataclass(frozen=True, slots=True)
class PartState:
    """A part as the log has it, and its batch as the provider shows it; None where it needs not be asked."""

    part: Part
    state: BatchState | None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched, and what still waits.

    Attributes:
        parts: batches whose results are in the journal now.
        succeeded, failed: records of them; ``failures_by_type`` by error code.
        retryable: those of the failed that a run asks about again.
        prompt_tokens, completion_tokens: as the provider counted them.
        waiting: batches that are not over; ``records_waiting`` the records in them.
        unsent: parts that are still to be handed in, because their submission was interrupted.
    """

    parts: int = 0
    succeeded: int = 0
    failed: int = 0
    retryable: int = 0
    failures_by_type: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    waiting: int = 0
    records_waiting: int = 0
    unsent: int = 0

    def with_more(self, newer: Fetched) -> Fetched:
        """Both together; what still waits is as ``newer`` has it."""
        kinds = Counter(self.failures_by_type) + Counter(newer.failures_by_type)
        return Fetched(
            self.parts + newer.parts,
            self.succeeded + newer.succeeded,
            self.failed + newer.failed,
            self.retryable + newer.retryable,
            dict(kinds),
            self.prompt_tokens + newer.prompt_tokens,
            self.completion_tokens + newer.completion_tokens,
            newer.waiting,
            newer.records_waiting,
            newer.unsent,
        )


async def states(desk: Desk, log: BatchLog, *, give_up: bool = False) -> list[PartState]:
    """How all parts stand; the provider is asked about those that are under way."""
    found = []
    for _, part in sorted(log.parts.items()):
        state = await _state(desk, part, give_up) if part.step == "created" else None
        found.append(PartState(part, state))
    return found


async def _state(desk: Desk, part: Part, give_up: bool) -> BatchState:
    try:
        return await desk.provider.state(part.batch_id)
    except EndpointNotFound:
        if not give_up:
            raise
    return BatchState.lost(part.batch_id)


async def fetch_ended(desk: Desk, output: str | os.PathLike[str], *, give_up: bool) -> Fetched:
    """Fetch the batches of ``output`` that are over; see ``Batches.fetch``."""
    paths = JournalPaths.of(output)
    log = log_of(output)
    log.remove_leftovers()
    found = await states(desk, log, give_up=give_up)
    ended = [one for one in found if one.state is not None and one.state.is_over]
    fetched = Fetched()
    if ended:
        fetched = await _fetch(desk, paths, ended)
    waiting = [one.part for one in found if one.state is not None and not one.state.is_over]
    return replace(
        fetched,
        waiting=len(waiting),
        records_waiting=sum(part.requests for part in waiting),
        unsent=_unsent(log, found),
    )


def _unsent(log: BatchLog, found: list[PartState]) -> int:
    """Parts that are still to be handed in; of a submission that was cut short at least the next one."""
    unsent = sum(one.part.is_pending and one.state is None for one in found)
    assert log.submission is not None
    return unsent or int(not log.submission.is_complete)


async def _fetch(desk: Desk, paths: JournalPaths, ended: list[PartState]) -> Fetched:
    log = BatchLog(paths.batches)
    assert log.submission is not None
    origin = log.submission.source
    journal = Journal(
        paths.successes,
        desk.config,
        source=origin["input"],
        limit=origin["limit"],
        format=origin["format"],
        is_of_batches=True,
    )
    tally = Tally()
    async with journal:
        for notice in journal.notices:
            desk.notify(notice)
        log = BatchLog(paths.batches)  # another process may have fetched some before we got the lock
        done = []
        for one in ended:
            assert one.state is not None
            if log.parts[one.part.number].is_pending:
                done.append(await _PartFetch(desk, journal, log, one.part, one.state, tally).run())
        still = len(log.pending) - len(done)
        reason = f"{still:,} batches are not fetched yet" if still else ""
        await journal.close("submitted" if still else "finished", reason, _counts(tally))
        log.note(*done)
        log.remove_leftovers()
    return Fetched(
        len(done),
        tally.succeeded,
        tally.failed,
        tally.failed_retryable,
        dict(tally.failures_by_type),
        tally.prompt_tokens,
        tally.completion_tokens,
    )


def _counts(tally: Tally) -> dict[str, int]:
    counts = ("succeeded", "failed", "prompt_tokens", "completion_tokens")
    return {name: getattr(tally, name) for name in counts}


class _PartFetch:
    """Fetches one part into the open journal."""

    def __init__(
        self,
        desk: Desk,
        journal: Journal,
        log: BatchLog,
        part: Part,
        state: BatchState,
        tally: Tally,
    ) -> None:
        self._desk = desk
        self._journal = journal
        self._log = log
        self._part = part
        self._state = state
        self._tally = tally
        self._own = Tally()
        self._places: dict[str, int] = {}  # of the records that no result was met for, by custom_id
        self._appends: list[asyncio.Future[None]] = []
        self._strange = 0

    async def run(self) -> Part:
        path = self._log.records_of(self._part.number)
        try:
            self._places = await asyncio.to_thread(_places, path)
        except FileNotFoundError:
            raise JournalDamaged(
                f"{path} is gone, which says whose the answers of {self._part.batch_id} are. Put it back."
            ) from None
        try:
            with path.open("rb") as records:
                for number, file_id in enumerate(self._state.files, 1):
                    await self._take_file(file_id, records, number)
                await self._take_rest(records)
        finally:
            await self._flush()  # whatever ends this, what was read is kept
        self._tell()
        counts = {"succeeded": self._own.succeeded, "failed": self._own.failed}
        return replace(
            self._part, step="fetched", status=self._state.status, counts=counts, at=round(time.time(), 3)
        )

    async def _take_file(self, file_id: str, records: BinaryIO, number: int) -> None:
        path = self._log.results_of(self._part.number, number)
        try:
            await self._desk.provider.download(file_id, path)
            for data in _results(path, self._desk.config.limits.max_response_bytes + _AROUND_BYTES):
                await self._take(read_line(data), records)
        except OSError as error:
            raise disk_error(path, error) from None
        finally:
            with contextlib.suppress(OSError):
                path.unlink()

    async def _take(self, line: Line | None, records: BinaryIO) -> None:
        place = None if line is None else self._places.pop(line.custom_id, None)
        if line is None or place is None:
            self._strange += 1
            return
        waiting = _record_at(records, place)
        if isinstance(line.outcome, BatchError):
            await self._keep(self._failure(waiting, line.outcome))
            return
        result = self._desk.client.reading(
            waiting.record,
            line.outcome,
            digest=waiting.digest,
            endpoint=self._desk.provider.endpoint,
            latency_s=max(0.0, self._state.ended_at - self._state.created_at),
        )
        await self._keep(replace(result, batch=self._state.id))

    async def _take_rest(self, records: BinaryIO) -> None:
        """What is in none of the files has no answer."""
        for place in self._places.values():
            error = unanswered(self._state.status, self._state.trouble)
            await self._keep(self._failure(_record_at(records, place), error))

    def _failure(self, waiting: Waiting, error: BatchError) -> Failure:
        error.endpoint, error.attempts = self._desk.provider.endpoint.url, 1
        self._desk.client.redact(error)
        return Failure(waiting.record, error, 1, time.time(), batch=self._state.id)

    async def _keep(self, result: Result) -> None:
        if self._journal.known.get(result.id) == SUCCEEDED:
            return  # answered by a fetch that was interrupted, or live meanwhile
        self._tally.count(result)
        self._own.count(result)
        self._appends.append(asyncio.ensure_future(self._journal.append(result)))
        if len(self._appends) >= _TOGETHER:
            await self._flush()

    async def _flush(self) -> None:
        appends, self._appends = self._appends, []
        await asyncio.gather(*appends)

    def _tell(self) -> None:
        if self._strange:
            self._desk.notify(
                f"{self._state.id}: {self._strange:,} lines of its results are for no record that waits, and "
                "were passed over."
            )
        if self._state.status != "completed":
            why = f" ({self._state.trouble})" if self._state.trouble else ""
            self._desk.notify(
                f"{self._state.id} is {self._state.status}{why}: {self._own.succeeded:,} of "
                f"{self._part.requests:,} records have an answer."
            )


def _places(path: Path) -> dict[str, int]:
    return {names(line)[0]: place for place, line in lines_of(path)}


def _results(path: Path, most_bytes: int) -> Iterator[bytes]:
    """The lines of a file of results; of one that is longer than any reply may be, only that it is there."""
    with path.open("rb") as file:
        while line := file.readline(most_bytes):
            if line.strip():
                yield line if len(line) < most_bytes or line.endswith(b"\n") else b""
            while len(line) == most_bytes and not line.endswith(b"\n"):
                line = file.readline(most_bytes)


def _record_at(records: BinaryIO, place: int) -> Waiting:
    records.seek(place)
    return decode(records.readline())
