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
    Iterator,
    Mapping,
)
from contextlib import aclosing
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

from vqa_async.config import Columns, Sampling
from vqa_async.errors import InputError
from vqa_async.keytable import KeyTable, RecordTable
from vqa_async.models import Failure, Record
from vqa_async.prompts import DEFAULT_PROMPT, Asking
from vqa_async.sources.chunks import Chunks
from vqa_async.sources.folder import read_folder
from vqa_async.sources.formats import InputFormat, file_format
from vqa_async.sources.json_values import JsonValues
from vqa_async.sources.jsonl import JsonLines
from vqa_async.sources.rows import RowReader, Several

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
    ) -> None:
        self.name = name
        self.folder = folder
        self._rows = 0
        self._limit = limit
        self._results = self._apart(results)
        self._fraction = fraction

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
    clock: Callable[[], float] = time.time,
    known: RecordTable | None = None,
    is_finished: Callable[[bytes], bool] = lambda _: False,
) -> Source:
    """The records in a file, in a folder of images, or ("-") from standard input.

    Args:
        path: the input; nothing but its status is read before the first record is asked for.
        columns: which fields hold the images and the conversation.
        prompt: question for rows without a conversation, and for the images of a folder.
        asking: how rows are asked, in place of ``prompt``.
        format: what it is, where content and suffix do not tell.
        limit: only the first so many rows.
        clock: gives the Unix time in seconds.
        known: what earlier runs know of records; the ids of the input are noted in it.
        is_finished: whether a record in that state needs no request. Those come as ``Finished``, with their
            conversations unread: going through a million of them takes seconds.

    Raises:
        InputError: there is no such input. Iterating raises it too: when the input cannot be read, is empty,
            is no JSON in any form, or breaks off in the middle (then after all records before that place).
        ConfigError: iterating raises it at the first row, where a template does not fit that.
    """
    location = os.fspath(path)
    columns, asking = columns or Columns(), asking or Asking(Sampling(prompt=prompt))
    known_before: dict[str, Any] = {"clock": clock, "known": known, "is_finished": is_finished}
    if format == "folder" or _is_folder(location):
        rows = RowReader(columns, asking=asking, folder=location, **known_before)
        images = read_folder(location, columns, rows, prompt=asking.prompt or DEFAULT_PROMPT)
        return Source(images, name=location, folder=location, limit=limit)
    folder = "" if location == "-" else os.path.dirname(location)
    rows = RowReader(columns, asking=asking, folder=folder, **known_before)
    file = _File(location, rows, format)
    return Source(file.results(), name=location, folder=folder, fraction=file.fraction, limit=limit)


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


class _Parser(Protocol):
    consumed: int
    count: int

    def feed(self, chunk: bytes) -> Iterator[Record | Failure]: ...

    def end(self) -> Iterator[Record | Failure]: ...


class _File:
    """A file, a pipe or standard input: the right parser for its chunks."""

    def __init__(self, path: str, rows: RowReader, format: InputFormat) -> None:
        self._chunks = Chunks(path)
        self._rows = rows
        self._format = format
        self._parser: _Parser | None = None
        self.name = self._chunks.name

    def fraction(self) -> float | None:
        size = self._chunks.size
        if size is None or self._parser is None:
            return None
        return min(1.0, self._parser.consumed / size) if size else 1.0

    async def results(self) -> _Results:
        async with self._chunks as chunks:
            parser = self._parser = self._choose(await chunks.head())
            async for chunk in chunks:
                for result in parser.feed(chunk):
                    yield result
            for result in parser.end():
                yield result
        if not parser.count:
            raise InputError(
                f"{self.name} holds no records. Give a JSON array or JSONL file with at least one."
            )

    def _choose(self, head: bytes) -> _Parser:
        format = file_format(head, self.name, self._format)
        if format == "jsonl":
            return JsonLines(self.name, self._rows)
        return JsonValues(self.name, self._rows, array=format == "array")


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


def _is_folder(path: str) -> bool:
    if path == "-":
        return False
    if not os.path.exists(path):
        raise InputError(f"{path}: there is no such file or folder. Check the path.")
    return os.path.isdir(path)


async def places_of(source: Source) -> KeyTable:
    """Where each record of ``source`` stands: its position, in ``PLACE_BYTES`` bytes, by its id.

    Args:
        source: read to its end, and closed.
    """
    places = KeyTable(key_bytes=12, value_bytes=PLACE_BYTES)
    count = 0
    async with source:
        async for record in source:
            places.set(record.id, count.to_bytes(PLACE_BYTES, "big"))
            count += 1
    return places
