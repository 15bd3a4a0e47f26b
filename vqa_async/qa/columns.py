"""Reads pairs from lines of a CSV text whose header names a question and an answer column."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from vqa_async.models import QAPair
from vqa_async.qa.labels import KEY_KINDS, Kind
from vqa_async.qa.parts import Part, matched

_DELIMITERS = (",", ";", "\t")
_LONGEST_HEADER = 200


def read_columns(lines: Sequence[str]) -> tuple[QAPair, ...]:
    """The pairs below the first line that is such a header, until a blank line or the end of the fence."""
    for at, line in enumerate(lines):
        if len(line) > _LONGEST_HEADER or not any(map(line.__contains__, _DELIMITERS)):
            continue
        for delimiter in _DELIMITERS:
            names = [cell.strip().strip("\"'") for cell in line.split(delimiter)]
            columns: dict[Kind, int] = {
                kind: place for place, name in enumerate(names) if (kind := KEY_KINDS.get(name.casefold()))
            }
            if len(columns) == 2:
                return matched(_parts(lines[at + 1 :], delimiter, columns, len(names)))
    return ()


def _parts(lines: Sequence[str], delimiter: str, columns: dict[Kind, int], width: int) -> Iterator[Part]:
    rows = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in rows:
            if not row or row[0].startswith("```"):
                return
            # A comma in the last column that nobody has put in quotes.
            cells = [*row[: width - 1], delimiter.join(row[width - 1 :])] if len(row) > width else row
            if len(cells) == width and all(cells[at].strip() for at in columns.values()):
                yield from (
                    Part(kind, lines=cells[columns[kind]].split("\n")) for kind in ("question", "answer")
                )
    except csv.Error:  # a field beyond all measure
        return
