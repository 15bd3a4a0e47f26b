"""One way to open any input: which kind it is, and what all kinds have in common."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
)
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeAlias

from vqa_async.config import Columns, InputFormat, Sampling, Selection
from vqa_async.keytable import KeyTable, RecordTable
from vqa_async.models import Failure, Record
from vqa_async.prompts import Asking
from vqa_async.sources.files import Files
from vqa_async.sources.locations import folder_of, known_location, require
from vqa_async.sources.remote import shown
from vqa_async.sources.rows import RowReader, Several
from vqa_async.sources.selection import selected, wanted

Rows: TypeAlias = Iterable[Mapping[str, Any] | Record] | AsyncIterable[Mapping[str, Any] | Record]
"""What Python callers may give for an input: rows or Records, from anything that can be iterated."""

_Results: TypeAlias = AsyncGenerator[Record | Failure, None]

# A plain iterable never suspends; a run that skips its finished rows would hold the loop until it has gone
# through them. Every so many rows the others get their turn: about 2 ms.
_ROWS_PER_TURN = 256


PLACE_BYTES = 6


class Source:
    """Records of one input, in order, once: ``async with source: async for result in source: ...``.

    Attributes:
        name: the input as the user named it.
        folder: where its relative image paths are looked for first ("" for the working directory alone).
    """

    def __init__(
        self,
        results: _Results,
        *,
        name: str,
        folder: str,
        fraction: Callable[[], float | None] = lambda: None,
        limit: int | None = None,
        embeds: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self.folder = folder
        self._rows = 0
        self._limit = limit
        self._results = self._apart(results)
        self._fraction = fraction
        self._embeds = embeds

    @property
    def embeds(self) -> bool:
        """Whether its records hold the bytes of their images, as far as it was read."""
        return self._embeds()

    def __repr__(self) -> str:
        fraction = self.fraction()
        return f"<Source {self.name}{'' if fraction is None else f', {fraction:.0%} read'}>"

    def fraction(self) -> float | None:
        """Share of the input that became records so far, from 0 to 1: of its bytes, or of the rows that are
        wanted. None where it is not known."""
        fraction = self._fraction()
        return fraction if self._limit is None else max(fraction or 0.0, self._rows / self._limit)

    async def _apart(self, results: _Results) -> _Results:
        """Row by row, up to the limit; a row of several questions as so many records."""
        async with aclosing(results):
            async for result in results:
                self._rows += 1
                if type(result) is Several:
                    for one in result.records:
                        yield one
                else:
                    yield result
                if self._rows == self._limit:
                    return

    def __aiter__(self) -> AsyncIterator[Record | Failure]:
        # The generator itself: one call less for each of millions of records.
        return self._results

    async def aclose(self) -> None:
        """Stop reading and close the input; harmless when repeated."""
        await self._results.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def open_source(
    path: str | os.PathLike[str],
    columns: Columns | None = None,
    *,
    prompt: str = "",
    asking: Asking | None = None,
    format: InputFormat = "auto",
    limit: int | None = None,
    selection: Selection | None = None,
    folder: str | None = None,
    clock: Callable[[], float] = time.time,
    known: RecordTable | None = None,
    is_finished: Callable[[bytes], bool] = lambda _: False,
) -> Source:
    """The records of an input: a file or several, a folder, an address, or ("-") standard input.

    Args:
        path: a file, a pattern or range of files, a folder, an address, or "-"; see ``locations.py``. Nothing
            but its status is read before the first record is asked for.
        columns: which fields hold the images and the conversation.
        prompt: question for rows without a conversation, and for the images of a folder.
        asking: how rows are asked, in place of ``prompt``.
        format: what it is, where content and suffix do not tell.
        limit: only the first so many rows.
        selection: which of its records are wanted. All have their ids and positions from the whole input.
        folder: where relative image paths are looked for first; default: the folder of the input.
        clock: gives the Unix time in seconds.
        known: what earlier runs know of records; the ids of the input are noted in it.
        is_finished: whether a record in that state needs no request. Those come as ``Finished``, with their
            conversations unread: going through a million of them takes seconds.

    Raises:
        InputError: there is no such input. Iterating raises it too: when the input cannot be read, is empty,
            in no form that is known, or breaks off in the middle (then after all records before that place).
        ConfigError: on iterating, a library that such an input needs is not installed, or at the first row
            a template does not fit that.
    """
    location = os.fspath(path)
    columns, asking = columns or Columns(), asking or Asking(Sampling(prompt=prompt))
    selection = selection or Selection()
    require(location)
    own_folder = folder_of(location)
    folder = own_folder if folder is None else folder
    rows = RowReader(
        columns,
        asking=asking,
        folder=folder,
        clock=clock,
        known=known,
        is_finished=is_finished,
        keep=wanted(selection),
    )
    place = known_location(location, format)
    files = Files(location, own_folder, rows, columns, prompt=asking.prompt, format=format, place=place)
    results = files.results()
    if selection:
        results = selected(results, selection, columns, embedded=lambda: files.embedded)
    return Source(
        results,
        name=shown(location),
        folder=folder,
        fraction=files.fraction,
        embeds=lambda: files.embedded,
        limit=limit,
    )


def rows_source(
    rows: Rows,
    columns: Columns | None = None,
    *,
    prompt: str = "",
    asking: Asking | None = None,
    check_columns: bool = True,
    folder: str = "",
    clock: Callable[[], float] = time.time,
) -> Source:
    """The records in rows that Python code has at hand.

    Args:
        rows: dicts, or Records, which pass through untouched; a generator is asked for one row at a time.
        columns: which fields hold the images and the conversation; images may also be bytes or path objects.
        prompt: question for rows without a conversation.
        asking: how rows are asked, in place of ``prompt``.
        check_columns: hold the templates against the first row, see ``RowReader``.
        folder: where relative image paths are looked for first.
        clock: gives the Unix time in seconds.
    """
    reader = RowReader(
        columns or Columns(),
        prompt=prompt,
        asking=asking,
        check_columns=check_columns,
        folder=folder,
        clock=clock,
    )
    return Source(_read_rows(rows, reader), name="rows", folder=folder)


async def _read_rows(rows: Rows, reader: RowReader) -> _Results:
    pairs = _numbered_async(rows) if isinstance(rows, AsyncIterable) else _numbered(rows)
    async with aclosing(pairs):
        async for index, row in pairs:
            if isinstance(row, Record):
                yield row
            else:
                yield reader.read(row, index=index, where=f"record {index}")


async def _numbered(rows: Iterable[Any]) -> AsyncGenerator[tuple[int, Any], None]:
    for index, row in enumerate(rows):
        if index % _ROWS_PER_TURN == 0:
            await asyncio.sleep(0)
        yield index, row


async def _numbered_async(rows: AsyncIterable[Any]) -> AsyncGenerator[tuple[int, Any], None]:
    index = 0
    iterator = aiter(rows)
    try:
        async for row in iterator:
            yield index, row
            index += 1
    finally:
        if isinstance(iterator, AsyncGenerator):  # nobody else goes on with it
            await iterator.aclose()


async def places_of(source: Source) -> KeyTable:
    """Where each record of ``source`` stands in the whole input, in ``PLACE_BYTES`` bytes, by its id.

    Args:
        source: read to its end, and closed.
    """
    places = KeyTable(key_bytes=12, value_bytes=PLACE_BYTES)
    async with source:
        async for result in source:
            record = result.record if isinstance(result, Failure) else result
            places.set(record.id, record.index.to_bytes(PLACE_BYTES, "big"))
    return places
