"""Reading the output files back after a stop of any kind: what is finished, what is torn, what is damaged.

A kill can only tear the end of a file, since lines are only ever appended: an unfinished end is cut off,
kept beside the file, and its records run again. Anything else that is not as it was written is damage:
refused with file and line, and taken out only when the user says so.

Synchronous: it runs in a thread, before the first request. Lines are read one at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

from vqa_async.errors import JournalDamaged
from vqa_async.journal.codec import LineMeta, decode_meta, is_json_object
from vqa_async.keytable import KeyTable

SUCCEEDED = b"s"
FAILED = b"f"
TO_RETRY = b"r"

_BUFFER = 1 << 20


@dataclass(slots=True)
class Replayed:
    """What the output files say.

    Attributes:
        state: the newest state of each record's id: SUCCEEDED, FAILED (for good) or TO_RETRY.
        succeeded: success lines.
        superseded: failure lines that a later line has made void.
        notices: what was mended, in sentences.
    """

    state: KeyTable = field(default_factory=lambda: KeyTable(key_bytes=12, value_bytes=1))
    succeeded: int = 0
    superseded: int = 0
    notices: list[str] = field(default_factory=list)

    def add_success(self, meta: LineMeta) -> bool:
        """Note a success; False where the record had one already."""
        if self.state.get(meta.id) == SUCCEEDED:
            return False
        self.state.set(meta.id, SUCCEEDED)
        self.succeeded += 1
        return True

    def has_answer(self, id: str) -> bool:
        """Whether the record has a success."""
        return self.state.get(id) == SUCCEEDED

    def add_failure(self, meta: LineMeta) -> bool:
        """Note a failure; a success of the same record stands, whatever the order."""
        before = self.state.get(meta.id)
        self.superseded += before is not None
        if before != SUCCEEDED:
            self.state.set(meta.id, TO_RETRY if meta.retryable else FAILED)
        return True


_Accept: TypeAlias = Callable[[LineMeta], bool]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an output file, its newline kept. ``meta`` is None where it is not as it was written."""

    number: int
    start: int
    data: bytes
    meta: LineMeta | None


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """The lines of ``file`` from its start; split at newlines only."""
    start = 0
    for number, data in enumerate(file, 1):
        yield Line(number, start, data, decode_meta(data.rstrip(b"\n")))
        start += len(data)


def replay(successes: Path, failures: Path, damaged: Path, *, repair: bool, known: bool) -> Replayed:
    """Read both files, cut torn ends, and say what is finished.

    Args:
        successes, failures: the two files; either may be missing.
        damaged: where ``repair`` moves lines that are not as they were written.
        repair: take damaged lines out instead of refusing.
        known: whether a run file says that the output is ours, so that even its only line may be torn.

    Raises:
        JournalDamaged: a line is not as it was written, or a record has two answers.
    """
    result = Replayed()
    for path, accept in ((successes, result.add_success), (failures, result.add_failure)):
        if path.exists():
            findings = _scan(path, accept, repair=repair, known=known)
            _mend(path, damaged, findings, result.notices)
    return result


@dataclass(slots=True)
class _Findings:
    """What a scan of one file has found so far.

    Attributes:
        end: where the last good line ends.
        ends_whole: whether that line has its newline.
        noise: numbers of the lines since then that are no JSON: a torn end, if nothing good follows.
        damage: numbers of lines that no kill can explain, with what is wrong.
    """

    known: bool
    end: int = 0
    ends_whole: bool = True
    noise: list[int] = field(default_factory=list)
    damage: dict[int, str] = field(default_factory=dict)

    def good(self, line: Line) -> None:
        self.damage.update(dict.fromkeys(self.noise, "is not a line of this output"))
        self.noise.clear()
        self.end = line.start + len(line.data)
        self.ends_whole = line.data.endswith(b"\n")

    def bad(self, line: Line) -> None:
        if line.meta is not None:
            self.damage[line.number] = f"answers record {line.meta.id!r} a second time"
        elif is_json_object(line.data):
            self.damage[line.number] = "was changed after it was written, or is not from this output"
        elif self.end == 0 and not self.known:
            self.damage[line.number] = "was not written by vqa-async"
        else:
            self.noise.append(line.number)


def _scan(path: Path, accept: _Accept, *, repair: bool, known: bool) -> _Findings:
    findings = _Findings(known)
    with path.open("rb", buffering=_BUFFER) as file:
        for line in read_lines(file):
            if line.meta is not None and accept(line.meta):
                findings.good(line)
            else:
                findings.bad(line)
            if findings.damage and not repair:
                raise _refusal(path, findings)
    return findings


def _refusal(path: Path, findings: _Findings) -> JournalDamaged:
    number, what = min(findings.damage.items())
    if findings.end == 0 and not findings.known:
        return JournalDamaged(
            f"{path} exists and was not written by vqa-async (line {number}). "
            "Choose another output with -o, or move that file away.",
            code="foreign",
        )
    return JournalDamaged(
        f"{path}, line {number}, {what}. Nothing was sent. Put the file back as it was, or add --repair "
        "to move such lines to a side file and run their records again."
    )


def _mend(path: Path, damaged: Path, findings: _Findings, notices: list[str]) -> None:
    if findings.damage:
        _take_out(path, damaged, {*findings.damage, *findings.noise})
        count = len(findings.damage) + len(findings.noise)
        notices.append(f"{path}: moved {count} damaged line(s) to {damaged}; their records run again.")
    elif path.stat().st_size > findings.end:
        kept = _cut(path, findings.end)
        notices.append(f"{path}: cut an unfinished line off its end (kept in {kept}); its record runs again.")
    elif not findings.ends_whole:
        with path.open("ab") as file:  # the line is whole, only its newline was lost
            file.write(b"\n")


def _cut(path: Path, end: int) -> Path:
    """Move what lies behind ``end`` into a file of its own, then shorten ``path``."""
    kept = path.with_name(f"{path.name}.torn-{time.strftime('%Y%m%dT%H%M%S')}")
    with path.open("r+b") as file:
        file.seek(end)
        with kept.open("ab") as side:
            while block := file.read(_BUFFER):
                side.write(block)
            _sync(side)
        file.truncate(end)
        _sync(file)
    return kept


def _take_out(path: Path, damaged: Path, numbers: Container[int]) -> None:
    with damaged.open("ab") as side, path.open("rb", buffering=_BUFFER) as file:
        for line in read_lines(file):
            if line.number in numbers:
                side.write(line.data.rstrip(b"\n") + b"\n")
        _sync(side)
    rewrite(path, lambda line: line.number not in numbers)


def drop_superseded(failures: Path, state: KeyTable) -> None:
    """Keep one line for each record that has failed, its newest, and none for those that succeeded."""
    newest = KeyTable(key_bytes=12, value_bytes=6)
    with failures.open("rb", buffering=_BUFFER) as file:
        for line in read_lines(file):
            if line.meta is not None:
                newest.set(line.meta.id, line.number.to_bytes(6, "big"))

    def is_current(line: Line) -> bool:
        if line.meta is None:
            return True
        number = line.number.to_bytes(6, "big")
        return state.get(line.meta.id) != SUCCEEDED and newest.get(line.meta.id) == number

    rewrite(failures, is_current)


def rewrite(path: Path, keep: Callable[[Line], bool]) -> None:
    """Replace ``path`` by those of its lines that ``keep`` wants: the old file or the new one, never less."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with path.open("rb", buffering=_BUFFER) as file, fresh.open("xb") as out:
            for line in read_lines(file):
                if keep(line):
                    out.write(line.data.rstrip(b"\n") + b"\n")
            _sync(out)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames and new files in ``folder`` survive a power cut."""
    if os.name == "nt":  # Windows has no handle for a folder to sync
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
