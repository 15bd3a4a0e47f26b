"""The lines of an output, in the order of the input.

One pass notes where each line stands (16 bytes a line), then the lines are read in the order of their
``index``. Nothing of the lines themselves is held in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vqa_async.errors import InputError, JournalDamaged
from vqa_async.journal.codec import decode_line
from vqa_async.journal.replay import read_lines


def ordered_lines(output: Path) -> Iterator[dict[str, Any]]:
    """Every answered record of ``output``, sorted by its position in the input.

    Raises:
        InputError: there is no such output.
        JournalDamaged: a line that is not the unfinished last one is not as it was written.
    """
    indexes, starts = _positions(output)
    order = sorted(range(len(indexes)), key=indexes.__getitem__)
    with output.open("rb") as file:
        for at in order:
            file.seek(starts[at])
            yield decode_line(file.readline())


def _positions(output: Path) -> tuple[array[int], array[int]]:
    indexes, starts = array("q"), array("q")
    broken = 0
    try:
        with output.open("rb", buffering=1 << 20) as file:
            for line in read_lines(file):
                if line.meta is None:
                    broken = broken or line.number
                    continue
                if broken:
                    raise _damaged(output, broken)
                indexes.append(line.meta.index)
                starts.append(line.start)
    except OSError as error:
        raise InputError(f"The output {output} cannot be read: {error.strerror}.") from None
    if broken and not indexes:
        raise _damaged(output, broken)
    return indexes, starts


def _damaged(output: Path, line: int) -> JournalDamaged:
    return JournalDamaged(
        f"{output}, line {line}, is not as vqa-async wrote it. Run the same run command with --repair first."
    )
