"""A JSON array, or JSON values one after the other, cut into the texts of its items. Pure.

Only the structure is looked at here (strings and brackets, by regular expression); each item is then read
like a line of JSON lines, by the same parser. So both forms give the same rows and the same ids, an item
that is not valid costs one record, and an item nested without end costs memory for one byte a level.
Streaming parsers were tried instead: they end at the first invalid item, build the path of every level
(10,000 levels take 250 MB), and read an unpaired surrogate as a question mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto

from vqa_async.errors import InputError
from vqa_async.models import Failure, Record
from vqa_async.sources.pieces import MAX_TEXT_BYTES, Oversize, Pieces
from vqa_async.sources.rows import RowReader

# None of these can fail to match, and each runs once over what it matches: no backtracking to fear.
_SPACE = re.compile(rb"[ \t\r\n]*")
_SCALAR = re.compile(rb'[^ \t\r\n,\[\]{}"]*')
_FLAT = re.compile(rb'(?:[^"\[\]{}]+|"[^"\\]*(?:\\.[^"\\]*)*")*', re.DOTALL)
_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)


def _whole_object(depth: int) -> bytes:
    """A pattern for objects nested at most so deep. What may come next is told by one byte at each place."""
    flat = rb'[^"\[\]{}]*(?:"[^"\\]*(?:\\.[^"\\]*)*"[^"\[\]{}]*)*'
    inside = flat
    for _ in range(depth - 1):
        inside = rb"%b(?:(?:\{%b\}|\[%b\])%b)*" % (flat, inside, inside, flat)
    return rb"\{%b\}" % inside


# Nearly every item of nearly every array: one match where the steps below take twenty. Four levels hold
# a row, its conversation, a turn, and one more; whatever does not match is left to those steps.
_COMMON = re.compile(rb"[ \t\r\n]*(%b)[ \t\r\n]*," % _whole_object(4), re.DOTALL)

_QUOTE = ord('"')
_COMMA = ord(",")
_OPEN = ord("[")
_CLOSE = ord("]")
_CLOSERS = {ord("{"): ord("}"), ord("["): ord("]")}
_NO_VALUE = frozenset(b",:]}")


class _State(Enum):
    OPENING = auto()  # before the array's "["
    FIRST = auto()  # after it
    NEXT = auto()  # after a comma
    ANY = auto()  # where values simply follow each other
    NESTED = auto()  # inside an object or a list
    STRING = auto()
    ESCAPE = auto()  # inside a string, after a backslash
    SCALAR = auto()  # inside a number or a word
    AFTER = auto()  # after an item of the array
    DONE = auto()  # after the array's "]"


class ValueSplitter:
    """Cuts chunks into the texts of JSON values.

    Args:
        name: what the input is called in messages.
        array: the values are the items of one array; otherwise they follow each other.
        limit: longest value that is held, in bytes.

    Attributes:
        count: values that were complete so far.
    """

    def __init__(self, name: str, *, array: bool, limit: int = MAX_TEXT_BYTES) -> None:
        self.count = 0
        self._name = name
        self._array = array
        self._state = _State.OPENING if array else _State.ANY
        self._closers = bytearray()
        self._open = Pieces(limit)

    def feed(self, chunk: bytes) -> Iterator[bytes | Oversize]:
        """The values that end in ``chunk``.

        Raises:
            InputError: the structure is broken; all values before that place were given.
        """
        at = 0
        while at < len(chunk):
            if self._state is _State.FIRST or self._state is _State.NEXT:
                while common := _COMMON.match(chunk, at):
                    at = common.end()
                    self._state = _State.NEXT
                    self.count += 1
                    yield common[1]
            if self._state not in _INSIDE:
                at = self._step(chunk, at)
                continue
            end = self._scan(chunk, at)
            self._open.add(chunk[at:end])
            at = end
            if self._state not in _INSIDE:
                yield self._take()

    def end(self) -> Iterator[bytes | Oversize]:
        """The last value, where only the end of the input ends it.

        Raises:
            InputError: the input ends too early.
        """
        if self._state is _State.SCALAR and not self._array:
            yield self._take()
        if self._state not in (_State.DONE, _State.ANY):
            raise self._broken("the file ends before its JSON does")

    def _take(self) -> bytes | Oversize:
        self._state = _State.AFTER if self._array else _State.ANY
        self.count += 1
        return self._open.take()

    def _step(self, chunk: bytes, at: int) -> int:
        """Go over one token between values, or up to the first byte of a value."""
        at = _end(_SPACE, chunk, at)
        if at == len(chunk):
            return at
        byte = chunk[at]
        match self._state:
            case _State.DONE:
                raise self._broken("something follows the end of the array")
            case _State.OPENING if byte == _OPEN:
                self._state = _State.FIRST
            case _State.OPENING:
                raise self._broken("an array begins with '['")
            case _State.FIRST | _State.AFTER if byte == _CLOSE:
                self._state = _State.DONE
            case _State.AFTER if byte == _COMMA:
                self._state = _State.NEXT
            case _State.AFTER:
                raise self._broken("a ',' or ']' is missing before it")
            case _:
                return self._begin(byte, at)
        return at + 1

    def _begin(self, byte: int, at: int) -> int:
        if byte in _NO_VALUE:
            raise self._broken(f"it begins with {chr(byte)!r}, as no value does")
        if byte in _CLOSERS:
            self._state = _State.NESTED
        else:
            self._state = _State.NESTED if byte == _QUOTE else _State.SCALAR
        return at

    def _scan(self, chunk: bytes, at: int) -> int:
        """Go on to the end of the value, or of the chunk."""
        if self._state is _State.SCALAR:
            at = _end(_SCALAR, chunk, at)
            self._leave_if(at < len(chunk))
            return at
        while at < len(chunk) and self._state in _INSIDE:
            if self._state is _State.NESTED:
                at = self._scan_nested(chunk, at)
            else:
                at = self._scan_string(chunk, at)
        return at

    def _scan_nested(self, chunk: bytes, at: int) -> int:
        closers = self._closers
        while True:
            if closers:
                at = _end(_FLAT, chunk, at)
            if at == len(chunk):
                return at
            byte = chunk[at]
            at += 1
            if byte in _CLOSERS:
                closers.append(_CLOSERS[byte])
            elif byte == _QUOTE:
                self._state = _State.STRING
                return at
            elif byte != closers.pop():
                raise self._broken(f"{chr(byte)!r} closes what it did not open")
            elif not closers:
                self._leave_if(True)
                return at

    def _scan_string(self, chunk: bytes, at: int) -> int:
        if self._state is _State.ESCAPE:
            self._state = _State.STRING
            return at + 1
        at = _end(_STRING, chunk, at)
        if at == len(chunk):
            return at
        if chunk[at] == _QUOTE:
            self._state = _State.NESTED
            self._leave_if(not self._closers)
        else:
            self._state = _State.ESCAPE
        return at + 1

    def _leave_if(self, complete: bool) -> None:
        if complete:
            self._state = _State.AFTER

    def _broken(self, reason: str) -> InputError:
        return InputError(
            f"{self._name} item {self.count} is not valid JSON: {reason}. The items before it were read; "
            "mend the file and run the same command again."
        )


_INSIDE = (_State.NESTED, _State.STRING, _State.ESCAPE, _State.SCALAR)


class JsonValues:
    """Reads the records of a JSON array, or of values that follow each other, from chunks.

    Args:
        name: what the input is called in messages.
        rows: reads each row.
        array: whether it is one array.
        limit: longest item that is read, in bytes.
        first: index of the first row.

    Attributes:
        consumed: bytes that became rows so far, about.
        count: rows so far.
    """

    def __init__(
        self, name: str, rows: RowReader, *, array: bool, limit: int = MAX_TEXT_BYTES, first: int = 0
    ) -> None:
        self.consumed = 0
        self.count = 0
        self._first = first
        self._name = name
        self._rows = rows
        self._splitter = ValueSplitter(name, array=array, limit=limit)

    def feed(self, chunk: bytes) -> Iterator[Record | Failure]:
        """The records whose item ends in ``chunk``."""
        return self._read(self._splitter.feed(chunk))

    def end(self) -> Iterator[Record | Failure]:
        """The record that only the end of the input ends."""
        return self._read(self._splitter.end())

    def _read(self, items: Iterator[bytes | Oversize]) -> Iterator[Record | Failure]:
        for item in items:
            self.consumed += len(item) + 1
            where = f"{self._name} item {self.count}"
            if isinstance(item, Oversize):
                yield self._rows.passed_over(item, index=self._first + self.count, where=where, what="item")
            else:
                yield self._rows.read_json(item, index=self._first + self.count, where=where)
            self.count += 1


def _end(pattern: re.Pattern[bytes], chunk: bytes, at: int) -> int:
    match = pattern.match(chunk, at)
    assert match is not None
    return match.end()
