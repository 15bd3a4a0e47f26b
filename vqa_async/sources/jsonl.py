"""JSON lines: bytes -> lines -> rows. One bad line costs one record. Pure.

Lines end at LF and nowhere else: U+2028, form feeds and lone CRs may stand inside a JSON text, where
``splitlines`` would cut it. Blank lines are no rows, but they count, so that numbers agree with an editor's.
"""

from __future__ import annotations

from collections.abc import Iterator

from vqa_async.models import Failure, Record
from vqa_async.sources.pieces import MAX_TEXT_BYTES, Oversize, Pieces
from vqa_async.sources.rows import RowReader

_BLANKS = b" \t\r"


class LineSplitter:
    """Cuts chunks into lines, none held much beyond ``limit`` bytes."""

    def __init__(self, limit: int = MAX_TEXT_BYTES) -> None:
        self._open = Pieces(limit)

    def feed(self, chunk: bytes) -> Iterator[bytes | Oversize]:
        """The lines that end in ``chunk``, without their LF."""
        first, *rest = chunk.split(b"\n")
        self._open.add(first)
        if rest:
            yield self._open.take()
            last = rest.pop()
            yield from rest
            self._open.add(last)

    def end(self) -> Iterator[bytes | Oversize]:
        """The last line, where it has no LF."""
        if self._open:
            yield self._open.take()


class JsonLines:
    """Reads the records of JSON lines from chunks.

    Args:
        name: what the input is called in messages.
        rows: reads each row.
        limit: longest line that is read, in bytes.
        first: index of the first row.

    Attributes:
        consumed: bytes that became rows so far.
        count: rows so far.
    """

    def __init__(self, name: str, rows: RowReader, *, limit: int = MAX_TEXT_BYTES, first: int = 0) -> None:
        self.consumed = 0
        self.count = 0
        self._first = first
        self._name = name
        self._rows = rows
        self._splitter = LineSplitter(limit)
        self._lines = 0

    def feed(self, chunk: bytes) -> Iterator[Record | Failure]:
        """The records whose line ends in ``chunk``."""
        return self._read(self._splitter.feed(chunk))

    def end(self) -> Iterator[Record | Failure]:
        """The record in a last line without LF."""
        return self._read(self._splitter.end())

    def _read(self, lines: Iterator[bytes | Oversize]) -> Iterator[Record | Failure]:
        name, rows, first = self._name, self._rows, self._first
        for line in lines:
            self._lines += 1
            self.consumed += len(line) + 1
            where = f"{name} line {self._lines}"
            if isinstance(line, Oversize):
                yield rows.passed_over(line, index=first + self.count, where=where, what="line")
            elif text := line.strip(_BLANKS):
                yield rows.read_json(text, index=first + self.count, where=where)
            else:
                continue
            self.count += 1
