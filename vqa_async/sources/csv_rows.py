"""CSV and TSV: chunks of bytes -> rows, by the standard library's reader. Pure.

The first line names the columns. A cell that holds a JSON list or object is read as that, any other is text;
an empty cell is no value, for the two cannot be told apart. A row with quoted line breaks may be spread over
any number of chunks: the lines of an unfinished row are kept and read again when there are more. One bad row
costs one record, and a quote that is never closed only its own line.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, TypeAlias

from vqa_async.errors import InputError
from vqa_async.models import Failure, Record
from vqa_async.sources.embedded import json_cell
from vqa_async.sources.pieces import MAX_TEXT_BYTES
from vqa_async.sources.rows import RowReader

_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"')
_BREAK = re.compile(r"[\r\n]")

_Found: TypeAlias = "tuple[list[str], list[str], str]"
"""The lines of a row, its cells, and what is wrong with it."""

_NO_LIMIT = (1 << 31) - 1
"""Of a cell: rows are bounded here, and a cell that the library refuses would take its lines with it."""


class _Starved(Exception):
    """There are no more lines, for now."""


class CsvRows:
    """Reads the records of a CSV file from chunks.

    Args:
        name: what the input is called in messages.
        rows: reads each row.
        delimiter: what stands between cells; "" to tell by the first line.
        first: index of the first row.
        limit: longest row that is read, in characters.

    Attributes:
        consumed: bytes that became rows so far, about.
        count: rows so far.
    """

    def __init__(
        self,
        name: str,
        rows: RowReader,
        *,
        delimiter: str = "",
        first: int = 0,
        limit: int = MAX_TEXT_BYTES,
    ) -> None:
        self.consumed = 0
        self.count = 0
        self._name = name
        self._rows = rows
        self._delimiter = delimiter
        self._first = first
        self._limit = limit
        self._cut = _Lines(limit)
        self._lines: deque[str] = deque()
        self._line = 1  # the number of the first of them
        self._waiting = 0  # characters that were too few for a whole row
        self._header: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Record | Failure]:
        """The records whose row ends in ``chunk``."""
        self.consumed += len(chunk)
        return self._read(self._cut.feed(chunk), is_end=False)

    def end(self) -> Iterator[Record | Failure]:
        """The record in a last line without a line break."""
        return self._read(self._cut.end(), is_end=True)

    def _read(self, lines: Iterator[str | None], *, is_end: bool) -> Iterator[Record | Failure]:
        for line in lines:
            if line is not None:
                self._lines.append(line)
                continue
            yield from self._take(to_the_end=True)
            yield self._broken("", f"the line has more than {self._limit >> 20} MiB", "line_too_long")
            self._line += 1
        held = sum(map(len, self._lines))
        # A row of very many lines is not read anew with each chunk, but whenever it has doubled.
        if is_end or held >= 2 * self._waiting or held > self._limit:
            yield from self._take(to_the_end=is_end or held > self._limit)

    def _take(self, *, to_the_end: bool) -> Iterator[Record | Failure]:
        """The rows in the lines that are there; to their end: what is unfinished then, is broken."""
        while self._lines:
            for lines, cells, reason in self._parse():
                if reason:
                    yield self._broken("".join(lines), reason, "bad_row")
                elif not self._header:
                    self._header = self._columns(cells)
                elif cells:
                    yield self._row(lines, cells)
                self._line += len(lines)
            if not to_the_end:
                break
            if self._lines:
                unclosed = self._lines.popleft()
                yield self._broken(unclosed, "a quote in it is never closed", "unclosed_quote")
                self._line += 1
        self._waiting = sum(map(len, self._lines))

    def _parse(self) -> list[_Found]:
        """All whole rows; the lines of an unfinished one stay."""
        found: list[_Found] = []
        taken: list[str] = []
        reader = csv.reader(self._given(taken), delimiter=self._delimiter or self._told_delimiter())
        before = csv.field_size_limit(_NO_LIMIT)
        try:
            while True:
                taken.clear()
                try:
                    cells, reason = next(reader), ""
                except csv.Error as error:
                    cells, reason = [], f"it is no CSV: {error}"
                found.append((taken.copy(), cells, reason))
        except _Starved:
            self._lines.extendleft(reversed(taken))
        finally:
            csv.field_size_limit(before)  # a setting of the whole process: others may rely on it
        return found

    def _given(self, taken: list[str]) -> Iterator[str]:
        while self._lines:
            taken.append(self._lines.popleft())
            yield taken[-1]
        raise _Starved

    def _told_delimiter(self) -> str:
        first = _QUOTED.sub("", self._lines[0])
        self._delimiter = max(_DELIMITERS, key=first.count)
        return self._delimiter

    def _columns(self, cells: list[str]) -> list[str]:
        names = [cell.strip() or f"column_{number}" for number, cell in enumerate(cells, 1)]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(
                f"{self._name} has several columns that are called {repeated[0]!r}: each needs its own name."
            )
        return names

    def _row(self, lines: list[str], cells: list[str]) -> Record | Failure:
        if len(cells) != len(self._header):
            reason = f"it has {len(cells)} cells, but there are {len(self._header)} columns"
            return self._broken("".join(lines), reason, "cell_count")
        row: dict[str, Any] = {
            name: json_cell(cell) for name, cell in zip(self._header, cells, strict=True) if cell
        }
        return self._rows.read(row, index=self._next(), where=self._where())

    def _broken(self, text: str, reason: str, code: str) -> Failure | Record:
        raw = text.encode("utf-8", "surrogateescape")
        return self._rows.broken(raw, index=self._next(), where=self._where(), reason=reason, code=code)

    def _next(self) -> int:
        self.count += 1
        return self._first + self.count - 1

    def _where(self) -> str:
        return f"{self._name} line {self._line}"


class _Lines:
    """Cuts chunks into lines, each with its line break; None stands for one that is too long to be held."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[str] = []
        self._length = 0
        self._decoder = io.IncrementalNewlineDecoder(
            # What is no UTF-8 becomes text that cannot be written: a Failure for its row.
            codecs.getincrementaldecoder("utf-8")("surrogateescape"),
            translate=False,
        )

    def feed(self, chunk: bytes) -> Iterator[str | None]:
        return self._split(self._decoder.decode(chunk))

    def end(self) -> Iterator[str | None]:
        yield from self._split(self._decoder.decode(b"", final=True))
        if self._length:
            yield self._take()

    def _split(self, text: str) -> Iterator[str | None]:
        if not _BREAK.search(text):
            self._add(text)
            return
        for line in io.StringIO(text, newline=""):
            self._add(line)
            if line.endswith(("\n", "\r")):
                yield self._take()

    def _add(self, text: str) -> None:
        self._length += len(text)
        self._pieces.append(text)
        if self._length > self._limit:
            self._pieces.clear()

    def _take(self) -> str | None:
        line = "".join(self._pieces) if self._length <= self._limit else None
        self._pieces.clear()
        self._length = 0
        return line
