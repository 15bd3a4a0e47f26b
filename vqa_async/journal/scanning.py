"""One pass over an output file: which lines are good, which end is torn, which lines are damaged.

Reads only; lines are read one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

from vqa_async.journal.codec import LineMeta, decode_meta, is_written_out

BUFFER_BYTES = 1 << 20

# No line of ours holds a NUL; a run of them is what a power cut leaves where a write never arrived.
_HOLE = b"\0" * 16


class Abandoned(Exception):
    """Whoever wanted to know is gone."""


def nobody_left() -> bool:
    return False


class Line(NamedTuple):
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


Accept: TypeAlias = Callable[[LineMeta, Line], str]
"""Takes in a line that is as it was written; says what is wrong with it all the same, or ""."""


@dataclass(slots=True)
class Findings:
    """What a scan of one file has found.

    Attributes:
        known: whether a run file says that the output is ours, so that even its only line may be torn.
        end: where the last good line ends.
        ends_whole: whether that line has its newline.
        torn: numbers of the lines since then that a kill may have left: a torn end, if nothing good follows.
        damage: numbers of lines that no kill can explain, with what is wrong.
    """

    known: bool
    end: int = 0
    ends_whole: bool = True
    torn: list[int] = field(default_factory=list)
    damage: dict[int, str] = field(default_factory=dict)

    @property
    def is_foreign(self) -> bool:
        """Whether there is nothing in the file, nor beside it, that we wrote."""
        return bool(self.damage) and self.end == 0 and not self.known

    def good(self, line: Line) -> None:
        """Note a line that counts."""
        if self.torn:
            self._damage_torn()
        self.end = line.start + len(line.data)
        self.ends_whole = line.data.endswith(b"\n")

    def bad(self, line: Line, complaint: str) -> None:
        """Note a line that does not count; ``complaint`` where that is not because it was changed."""
        if complaint:
            self.damage[line.number] = complaint
        elif self.end == 0 and not self.known:
            self.damage[line.number] = "was not written by vqa-async"
        elif self._may_be_torn(line.data):
            self.torn.append(line.number)
        else:
            self._damage_torn()
            self.damage[line.number] = "was changed after it was written, or is not from this output"

    def _may_be_torn(self, data: bytes) -> bool:
        if _HOLE in data or not is_written_out(data):
            return True
        # Whole but for blanks behind it, where its newline should be. Two of them are no accident: an editor
        # has gone over the file, and its lines are worth more than to be cut off.
        return not self.torn and decode_meta(data.rstrip()) is not None

    def _damage_torn(self) -> None:
        self.damage.update(dict.fromkeys(self.torn, "is not a line of this output"))
        self.torn.clear()


def scan(
    path: Path,
    accept: Accept,
    *,
    known: bool,
    to_the_end: bool,
    abandoned: Callable[[], bool] = nobody_left,
) -> Findings:
    """Read one file; stop at the first damage unless ``to_the_end``."""
    findings = Findings(known)
    with path.open("rb", buffering=BUFFER_BYTES) as file:
        for line in read_lines(file):
            complaint = accept(line.meta, line) if line.meta is not None else ""
            if line.meta is not None and not complaint:
                findings.good(line)
            else:
                findings.bad(line, complaint)
            if findings.damage and not to_the_end:
                break
            if abandoned():
                raise Abandoned
    return findings
