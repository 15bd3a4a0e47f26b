"""The input as chunks of records, read by ``sources/`` in a task of Ray.

The ids and positions of all records follow from all that comes before them, so one task reads all of it, as a
plain run does. It costs some 20 us a record, and one machine feeds many. Images are not read here; those that
stand in the input itself (Parquet, tar) go along with their records.

Where chunks begin depends on the input and on what was known at the start alone: read again, they are the
same, which Ray takes for granted when it reads again what was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial

from vqa_async.config import Config
from vqa_async.errors import VQAError
from vqa_async.journal.journal import needs_no_request
from vqa_async.journal.replay import FAILED
from vqa_async.keytable import RecordTable
from vqa_async.models import Failure, Record
from vqa_async.prompts import asking_for
from vqa_async.sources import Finished, InputFormat, Source, open_source

_MOST_BYTES = 8 << 20
"""Of images in one chunk, about."""

_MOST_SKIPPED = 100_000
"""Finished rows after which a chunk goes out though it holds nothing, so that somebody hears of them."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is to be read, and how.

    Attributes:
        input, format, limit: as for ``open_source``.
        config: all options.
        known: what earlier runs know of records.
        folder: the working directory of who wants it.
        chunk: records in a chunk at most.
    """

    input: str
    format: InputFormat
    limit: int | None
    config: Config
    known: RecordTable
    folder: str
    chunk: int

    def source(self) -> Source:
        """The records, those that need no request as ``Finished``."""
        return open_source(
            self.input,
            self.config.columns,
            asking=asking_for(self.config),
            format=self.format,
            limit=self.limit,
            selection=self.config.selection,
            known=self.known,
            is_finished=partial(needs_no_request, options=self.config.journal),
        )


@dataclass(slots=True)
class Chunk:
    """Some records, one after the other.

    Attributes:
        number: its place among the chunks, from 0.
        items: records, and rows that are none.
        skipped, skipped_failed: records passed over on the way here, since an earlier run has finished them.
        fraction: share of the input that is read with it, None where that is not known.
        is_last: whether there are no more.
        error: why the input could not be read any further.
    """

    number: int
    items: list[Record | Failure] = field(default_factory=list)
    skipped: int = 0
    skipped_failed: int = 0
    fraction: float | None = None
    is_last: bool = False
    error: VQAError | None = None

    def pack(self) -> bytes:
        """The chunk as bytes, for another process."""
        return pickle.dumps(self, protocol=5)


async def chunks(source: Source, most: int) -> AsyncIterator[Chunk]:
    """The records of ``source``, so many at a time; the last chunk says so."""
    chunk, size = Chunk(0), 0
    async with source:
        try:
            async for item in source:
                if isinstance(item, Finished):
                    chunk.skipped += 1
                    chunk.skipped_failed += item.state == FAILED
                else:
                    chunk.items.append(item)
                    size += _weight(item)
                if len(chunk.items) >= most or size >= _MOST_BYTES or chunk.skipped >= _MOST_SKIPPED:
                    chunk.fraction = source.fraction()
                    yield chunk
                    chunk, size = Chunk(chunk.number + 1), 0
        except VQAError as error:
            chunk.error = error
    chunk.is_last = True
    yield chunk


def _weight(item: Record | Failure) -> int:
    images = item.images if isinstance(item, Record) else ()
    return sum(len(image.value) for image in images if image.kind == "bytes")


def packed_chunks(reading: Reading) -> Iterator[bytes]:
    """The chunks of an input, for a process that has no event loop."""
    with working_in(reading.folder), asyncio.Runner() as runner:
        try:
            source = reading.source()
        except VQAError as error:
            yield Chunk(0, is_last=True, error=error).pack()
            return
        found = chunks(source, reading.chunk)
        try:
            while (chunk := runner.run(_next(found))) is not None:
                yield chunk.pack()
        finally:
            runner.run(source.aclose())


async def _next(chunks: AsyncIterator[Chunk]) -> Chunk | None:
    return await anext(chunks, None)


@contextlib.contextmanager
def working_in(folder: str) -> Iterator[None]:
    """Names as the driver means them: relative to where that was started, if there is such a folder here."""
    before = os.getcwd()
    with contextlib.suppress(OSError):
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
