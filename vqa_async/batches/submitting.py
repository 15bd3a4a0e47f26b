"""An input -> batches. What an earlier submission left is finished first; then the rest of the input follows.

A part is filled, sealed, noted, uploaded and made a batch before the next one is begun, so the disk holds one
file of requests at a time. Several records are prepared at once, because images take time; they are written
in the order in which they are ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from vqa_async.batches.desk import Desk
from vqa_async.batches.filling import RequestFile
from vqa_async.batches.records import names
from vqa_async.batches.sending import send
from vqa_async.batches.stored import kept_config
from vqa_async.chat import Body, opening_of
from vqa_async.errors import ConfigError, RecordError, VQAError
from vqa_async.events import Tally
from vqa_async.journal import BatchLog, Journal, Part, Submission
from vqa_async.journal.batch_log import lines_of
from vqa_async.journal.writer import disk_error
from vqa_async.models import Failure, Record
from vqa_async.prompts import asking_for
from vqa_async.sources import Finished, InputFormat, Source, local_files, open_source, shown

WAITING = b"w"
"""State of a record that is in a batch, beside those that the journal knows."""

_AT_ONCE = 2 * (os.cpu_count() or 1)
"""Records that are prepared at once: enough to keep the processors busy with images."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a submission did.

    Attributes:
        parts: batches that it made, those that an earlier one had begun among them.
        records: how many records are in them.
        failed: records that cannot be asked about, by error code.
        skipped: records that were answered, had failed for good, or waited in a batch before.
    """

    parts: tuple[Part, ...]
    records: int
    failed: dict[str, int] = field(default_factory=dict)
    skipped: int = 0


async def submit(
    desk: Desk, input: str, output: str | os.PathLike[str], *, limit: int | None, format: InputFormat
) -> Submitted:
    """See ``Batches.submit``."""
    config = desk.config
    if limit is not None and limit < 1:
        raise ConfigError("limit must be at least 1.")
    journal = Journal(output, config, source=shown(input), limit=limit, format=format, is_of_batches=True)
    source = open_source(
        input,
        config.columns,
        asking=asking_for(config),
        format=format,
        limit=limit,
        selection=config.selection,
        known=journal.known,
        is_finished=lambda state: state == WAITING or journal.is_finished(state),
    )
    await asyncio.to_thread(_require_distinct, input, format, journal)
    async with source, journal:
        for notice in journal.notices:
            desk.notify(notice)
        return await _Submission(desk, journal, source, _source(input, limit, format)).run()


def _source(input: str, limit: int | None, format: str) -> dict[str, Any]:
    where = input if input == "-" or "://" in input else os.path.abspath(input)
    return {"input": where, "limit": limit, "format": format}


def _require_distinct(input: str, format: InputFormat, journal: Journal) -> None:
    mine = [path for path in (journal.paths.successes, journal.paths.failures) if path.exists()]
    for name in local_files(input, format):
        if any(os.path.exists(name) and path.samefile(name) for path in mine):
            raise ConfigError(f"Input and output are the same file, {name}. Choose another -o.")


class _Submission:
    """One call of ``submit``, while its journal is open."""

    def __init__(self, desk: Desk, journal: Journal, source: Source, origin: dict[str, Any]) -> None:
        self._desk = desk
        self._journal = journal
        self._source = source
        self._origin = origin
        self._log = BatchLog(journal.paths.batches)
        self._opening = opening_of(desk.provider.endpoint.model)
        self._file: RequestFile | None = None
        self._tally = Tally()
        self._sent: list[Part] = []
        self._writing = asyncio.Lock()

    async def run(self) -> Submitted:
        try:
            await self._work()
        except VQAError as error:
            await self._close("stopped", str(error))
            raise
        finally:
            if self._file is not None:
                self._file.drop()
        await self._close("submitted", self._reason())
        return Submitted(
            parts=tuple(self._sent),
            records=sum(part.requests for part in self._sent),
            failed=dict(self._tally.failures_by_type),
            skipped=self._tally.skipped,
        )

    async def _work(self) -> None:
        self._begin()
        self._log.remove_leftovers()
        self._log.remove_unfinished()
        for part in self._log.pending:
            if part.step != "created":
                await self._send(part)
        await asyncio.to_thread(self._mark_waiting)
        await self._fill()
        async with self._writing:
            await self._finish_file()
        self._log.remove_unfinished()
        assert self._log.submission is not None
        self._log.note(replace(self._log.submission, is_complete=True))

    def _begin(self) -> None:
        """Note what is asked for, before anything is made at the provider."""
        before, url = self._log.submission, self._desk.provider.endpoint.url
        if before is not None and self._log.pending and before.endpoint != url:
            raise ConfigError(
                f"Batches of this output are under way at {before.endpoint}: fetch those before anything is "
                f"handed to {url}."
            )
        key = uuid.uuid4().hex if before is None else before.key
        self._log.note(Submission(key, url, kept_config(self._desk.config), self._origin))

    def _mark_waiting(self) -> None:
        """Let the source pass over what is in a batch already."""
        for part in self._log.pending:
            for _, line in lines_of(self._log.records_of(part.number)):
                self._journal.known.set(names(line)[1], WAITING)

    async def _fill(self) -> None:
        """All records of the source into files, several at a time."""
        reading = asyncio.Lock()
        items = aiter(self._source)
        workers = [asyncio.create_task(self._worker(items, reading)) for _ in range(_AT_ONCE)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _worker(self, items: AsyncIterator[Record | Failure], reading: asyncio.Lock) -> None:
        while True:
            async with reading:
                item = await anext(items, None)
            if item is None:
                return
            if isinstance(item, Finished):
                self._tally.skipped += 1
            elif isinstance(item, Failure):
                await self._fail(item)
            else:
                await self._add(item)

    async def _add(self, record: Record) -> None:
        async with contextlib.AsyncExitStack() as stack:
            try:
                body = await stack.enter_async_context(self._desk.client.prepared(record))
            except VQAError as error:
                await self._fail(Failure(record, error, 0, time.time()))
                return
            async with self._writing:
                await self._write(record, body)

    async def _write(self, record: Record, body: Body) -> None:
        """Into the file that is being filled, or the next one where that is full."""
        try:
            while not self._open_file().add(record, body):
                await self._finish_file()
        except RecordError as error:
            await self._fail(Failure(record, error, 0, time.time()))
        except OSError as error:
            raise disk_error(self._log.requests_of(self._log.next_number), error) from None

    def _open_file(self) -> RequestFile:
        if self._file is None:
            number = self._log.next_number
            self._file = RequestFile(
                self._log.requests_of(number),
                self._log.records_of(number),
                self._desk.config.batches,
                self._opening,
            )
        return self._file

    async def _finish_file(self) -> None:
        """Seal the file that is being filled, and hand it in."""
        file, self._file = self._file, None
        if file is None:
            return
        if not file.count:
            file.drop()
            return
        try:
            await asyncio.to_thread(file.seal)
        except OSError as error:
            raise disk_error(self._log.requests_of(self._log.next_number), error) from None
        part = Part(self._log.next_number, "made", file.count, file.size, round(time.time(), 3))
        self._log.note(part)
        await self._send(part)

    async def _send(self, part: Part) -> None:
        sent = await send(self._desk.provider, self._log, part)
        self._sent.append(sent)
        records = "1 record" if sent.requests == 1 else f"{sent.requests:,} records"
        self._desk.notify(f"Batch {sent.number}: {records}, {sent.bytes / 1e6:,.1f} MB, is {sent.batch_id}.")

    async def _fail(self, failure: Failure) -> None:
        await self._journal.append(failure)
        self._tally.count(failure)

    def _reason(self) -> str:
        waiting = sum(part.requests for part in self._log.pending)
        return f"{waiting:,} records wait in batches: vqa-async batch fetch {self._journal.paths.successes}"

    async def _close(self, state: str, reason: str) -> None:
        counts = {"submitted": sum(part.requests for part in self._sent), "failed": self._tally.failed}
        await self._journal.close(state, reason, counts)
