"""The lines of an output, in the order of the input.

One pass notes where each line stands (some 40 bytes a line, twice that while they are sorted), then the
lines are read in the order of their ``index``. Nothing of the lines themselves is held in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from vqa_async.errors import InputError, JournalDamaged
from vqa_async.journal.codec import LineMeta, decode_line
from vqa_async.journal.replay import Replayed
from vqa_async.journal.scanning import Line, scan

Place: TypeAlias = Callable[[str, int], int | None]


def ordered_lines(
    output: Path, *, known: bool = False, place: Place | None = None
) -> Iterator[dict[str, Any]]:
    """Every answered record of ``output``, sorted by its position in the input.

    Args:
        output: OUT.jsonl; an unfinished end is passed over.
        place: a record's id and its index when it was asked -> where it goes, or None to leave it out. By
            default its index, which is right as long as the input is as it was then.
        known: whether a run file says that it is ours, so that even its only line may be unfinished.

    Raises:
        InputError: there is no such output.
        JournalDamaged: a line is not as it was written.
    """
    try:
        indexes, starts = _positions(output, known, place or (lambda _, index: index))
        order = sorted(range(len(indexes)), key=indexes.__getitem__)
        with output.open("rb") as file:
            for at in order:
                file.seek(starts[at])
                yield decode_line(file.readline())
    except OSError as error:
        raise InputError(f"The output {output} cannot be read: {error.strerror}.") from None


def _positions(output: Path, known: bool, place: Place) -> tuple[array[int], array[int]]:
    indexes, starts, seen = array("q"), array("q"), Replayed()

    def accept(meta: LineMeta, line: Line) -> str:
        complaint = seen.add_success(meta, line)
        at = None if complaint else place(meta.id, meta.position)
        if at is not None:
            indexes.append(at)
            starts.append(line.start)
        return complaint

    findings = scan(output, accept, known=known, to_the_end=False)
    if findings.damage:
        number, what = min(findings.damage.items())
        raise JournalDamaged(
            f"{output}, line {number}, {what}. "
            "If it is the output of a run, run that command again with --repair first."
        )
    return indexes, starts
