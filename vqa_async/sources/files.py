"""The records of the files that an input stands for: each opened, told what it is, and read by its reader."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from vqa_async.config import Columns, InputFormat
from vqa_async.errors import InputError
from vqa_async.models import Failure, Record
from vqa_async.prompts import DEFAULT_PROMPT
from vqa_async.sources.batch_requests import batch_rows
from vqa_async.sources.chunks import Chunks
from vqa_async.sources.csv_rows import CsvRows
from vqa_async.sources.folder import read_folder
from vqa_async.sources.formats import FileFormat, file_format
from vqa_async.sources.hub import SCHEME, HubRows
from vqa_async.sources.json_values import JsonValues
from vqa_async.sources.jsonl import JsonLines
from vqa_async.sources.locations import Location, locate
from vqa_async.sources.remote import is_address, shown
from vqa_async.sources.row_batches import PulledBytes, RowBatches, TableRows
from vqa_async.sources.rows import RowReader
from vqa_async.sources.shards import ShardRows
from vqa_async.sources.tables import ArrowRows, ParquetRows

_EMBEDDING = frozenset(["parquet", "arrow", "webdataset"])


class _Parser(Protocol):
    count: int

    def feed(self, piece: Any) -> Iterator[Record | Failure]: ...

    def end(self) -> Iterator[Record | Failure]: ...


class Files:
    """Reads one input, whatever it stands for.

    Args:
        location: as the user named it.
        folder: where its relative paths are looked for first; references to embedded images are relative
            to it.
        rows: reads each row.
        columns: which fields hold the images and the conversation.
        prompt: the question about images of a folder.
        format: what the user said that it is.
        place: what it stands for, where that is known already.

    Attributes:
        embedded: whether its rows hold their images, as far as it was opened.
    """

    def __init__(
        self,
        location: str,
        folder: str,
        rows: RowReader,
        columns: Columns,
        *,
        prompt: str,
        format: InputFormat,
        place: Location | None,
    ) -> None:
        self.embedded = False
        self._location = location
        self._folder = folder
        self._rows = rows
        self._columns = columns
        self._prompt = prompt
        self._format = format
        self._place = place
        self._done = 0
        self._share: Callable[[], float | None] = lambda: None

    def fraction(self) -> float | None:
        """The share that became records."""
        share = self._share()
        if share is None or self._place is None:
            return None
        return min(1.0, (self._done + share) / len(self._place.files))

    async def results(self) -> AsyncGenerator[Record | Failure, None]:
        """All records, of one file after the other."""
        if self._place is None:
            self._place = await asyncio.to_thread(locate, self._location, self._format)
        if self._place.format == "folder":
            async for result in read_folder(
                self._location, self._columns, self._rows, prompt=self._prompt or DEFAULT_PROMPT
            ):
                yield result
            return
        count = 0
        for path in self._place.files:
            async with self._opened(path, self._place.format, count) as (pieces, parser):
                async for piece in pieces:
                    for result in parser.feed(piece):
                        yield result
                for result in parser.end():
                    yield result
                count += parser.count
            self._done, self._share = self._done + 1, lambda: 0.0
        if not count:
            raise InputError(
                f"{self._name_of(self._location)} holds no records. Give an input with at least one."
            )

    @asynccontextmanager
    async def _opened(
        self, path: str, format: InputFormat, first: int
    ) -> AsyncIterator[tuple[AsyncIterator[Any], _Parser]]:
        """What gives the pieces of a file, and what makes records of them."""
        if path.startswith(SCHEME):
            self.embedded = True
            async with RowBatches(HubRows(path, self._columns)) as batches:
                yield batches, TableRows(self._rows, first=first)
            return
        async with Chunks(path, self._name_of(path)) as chunks:
            kind = await self._kind(chunks, format)
            self.embedded = kind in _EMBEDDING
            if kind not in _EMBEDDING:
                parser = self._text_parser(kind, chunks.name, first)
                self._share = lambda: _share_of_text(chunks, parser.consumed)
                yield chunks, parser
                return
            async with self._table(kind, path, chunks) as batches:
                yield batches, TableRows(self._rows, first=first)

    async def _kind(self, chunks: Chunks, format: InputFormat) -> FileFormat:
        columns = (self._columns.image_key, self._columns.conversation_key)
        return file_format(await chunks.head(), chunks.name, format, columns)

    def _text_parser(self, kind: FileFormat, name: str, first: int) -> JsonLines | JsonValues | CsvRows:
        if kind in ("csv", "tsv"):
            return CsvRows(name, self._rows, delimiter="\t" if kind == "tsv" else "", first=first)
        self._rows.adapt = batch_rows(self._columns.conversation_key) if kind == "batch" else None
        if kind in ("jsonl", "batch"):
            return JsonLines(name, self._rows, first=first)
        return JsonValues(name, self._rows, array=kind == "array", first=first)

    @asynccontextmanager
    async def _table(self, kind: FileFormat, path: str, chunks: Chunks) -> AsyncIterator[RowBatches]:
        file = self._reference(path)
        if kind == "webdataset":
            pulled = PulledBytes(chunks)
            self._share = lambda: _share_of_packed(chunks)
            async with RowBatches(ShardRows(pulled, chunks.name, file, self._columns)) as batches:
                try:
                    yield batches
                finally:
                    pulled.leave()
            return
        if chunks.is_packed or (chunks.size is None and not is_address(path)):
            raise InputError(
                f"{chunks.name} is a {kind.title()} file, which is not read from its beginning to its end: "
                "give the file itself, unpacked."
            )
        reader = (ParquetRows if kind == "parquet" else ArrowRows)(path, chunks.name, file, self._columns)
        self._share = lambda: reader.fraction
        async with RowBatches(reader) as batches:
            yield batches

    def _reference(self, path: str) -> str:
        """What references to the images in a file call it."""
        if path == "-" or is_address(path):
            return shown(path)
        return os.path.relpath(path, self._folder or os.curdir).replace(os.sep, "/")

    def _name_of(self, path: str) -> str:
        """What messages call a file; of several, so much of its path that they can be told apart."""
        if path == "-":
            return "standard input"
        several = self._place is not None and len(self._place.files) > 1 and path != self._location
        return self._reference(path) if several else os.path.basename(shown(path)) or path


def _share_of_text(chunks: Chunks, consumed: int) -> float | None:
    if chunks.is_packed:
        return _share_of_packed(chunks)
    if chunks.size is None:
        return None
    return min(1.0, consumed / chunks.size) if chunks.size else 1.0


def _share_of_packed(chunks: Chunks) -> float | None:
    return min(1.0, chunks.read / chunks.size) if chunks.size else None
