"""Every line of the parts that counts, in one pass over each file. A record is known at some 30 bytes.

Answers are copied byte for byte. A record that two parts answered is looked up where it stood first: the
same bytes are a copy and count once; anything else is refused. Of failures only the newest of a record
counts, and none where any part has its answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vqa_async.errors import InputError, JournalDamaged
from vqa_async.journal.codec import LineMeta, meta_fields
from vqa_async.journal.scanning import Accept, Findings, Line, scan
from vqa_async.keytable import KeyTable

_PART_BYTES, _START_BYTES = 3, 6


@dataclass(slots=True)
class Lines:
    """What the parts hold.

    Attributes:
        succeeded, failed: records by their newest result.
        copies: answers that stand in two parts with the same bytes.
        torn: files that end in the middle of a line.
    """

    succeeded: int = 0
    failed: int = 0
    copies: int = 0
    torn: list[Path] = field(default_factory=list)
    _answered: KeyTable = field(default_factory=lambda: _places())
    _failed: KeyTable = field(default_factory=lambda: _places())

    def copy_answers(self, files: list[Path], into: BinaryIO) -> list[int]:
        """Write the answers of all parts; how many each part has.

        Raises:
            InputError: two parts have different answers of a record.
            JournalDamaged: a line is not as it was written.
        """
        counts = []
        for number, path in enumerate(files):
            before, copies = self.succeeded, self.copies
            self._scan(path, self._answers_of(number, files, into))
            counts.append(self.succeeded - before + self.copies - copies)
        return counts

    def _answers_of(self, number: int, files: list[Path], into: BinaryIO) -> Accept:
        def accept(meta: LineMeta, line: Line) -> str:
            if meta.retryable is not None:
                return "is a failure among answers"
            before = self._answered.setdefault(meta.id, _packed(number, line))
            if before is None:
                self.succeeded += 1
                into.write(_ended(line.data))
                return ""
            at, start = _unpacked(before)
            if at == number:
                return f"answers record {meta.id[:200]!r} a second time"
            if _line_at(files[at], start) != _ended(line.data):
                raise _two_answers(meta.id, files[at], files[number], line.number)
            self.copies += 1
            return ""

        return accept

    def copy_failures(self, files: list[Path], into: BinaryIO) -> None:
        """Write the newest failure of each record without an answer; after ``copy_answers``."""
        for number, path in enumerate(files):
            self._scan(path, self._failures_of(number, files))
        self.failed = len(self._failed)
        for number, path in enumerate(files if self.failed else ()):
            self._scan(path, self._current(number, into), again=True)

    def _failures_of(self, number: int, files: list[Path]) -> Accept:
        def accept(meta: LineMeta, line: Line) -> str:
            if meta.retryable is None:
                return "is an answer among failures"
            if self._answered.get(meta.id) is None:
                before = self._failed.get(meta.id)
                if before is None or self._is_newer(line, number, before, files):
                    self._failed.set(meta.id, _packed(number, line))
            return ""

        return accept

    def _is_newer(self, line: Line, number: int, before: bytes, files: list[Path]) -> bool:
        at, start = _unpacked(before)
        return at == number or _finished_at(line.data) >= _finished_at(_line_at(files[at], start))

    def _current(self, number: int, into: BinaryIO) -> Accept:
        def accept(meta: LineMeta, line: Line) -> str:
            if self._failed.get(meta.id) == _packed(number, line):
                into.write(_ended(line.data))
            return ""

        return accept

    def _scan(self, path: Path, accept: Accept, *, again: bool = False) -> None:
        if not path.exists():
            return
        findings = scan(path, accept, known=True, to_the_end=False)
        if findings.damage:
            raise _damaged(path, findings)
        if findings.torn and not again:
            self.torn.append(path)


def _places() -> KeyTable:
    return KeyTable(key_bytes=11, value_bytes=_PART_BYTES + _START_BYTES)


def _packed(number: int, line: Line) -> bytes:
    return number.to_bytes(_PART_BYTES, "big") + line.start.to_bytes(_START_BYTES, "big")


def _unpacked(place: bytes) -> tuple[int, int]:
    return int.from_bytes(place[:_PART_BYTES], "big"), int.from_bytes(place[_PART_BYTES:], "big")


def _line_at(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return _ended(file.readline())


def _ended(data: bytes) -> bytes:
    return data if data.endswith(b"\n") else data + b"\n"


def _finished_at(data: bytes) -> float:
    found = (meta_fields(data.rstrip(b"\n")) or {}).get("finished_at")
    return float(found) if isinstance(found, int | float) else 0.0


def _two_answers(id: str, first: Path, second: Path, number: int) -> InputError:
    return InputError(
        f"{second}, line {number}, answers record {id[:200]!r} a second time: {first} has another answer. "
        "Nothing was merged. Take the part that does not belong here out."
    )


def _damaged(path: Path, findings: Findings) -> JournalDamaged:
    number, what = min(findings.damage.items())
    return JournalDamaged(
        f"{path}, line {number}, {what}. Nothing was merged. Put the file back as it was, or run its shard "
        "again with --repair, then merge."
    )
