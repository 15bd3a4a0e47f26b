"""Rows into one file: a JSON array, JSON lines, CSV. Each gives a function that takes the next row."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeAlias

from vqa_async.journal.json_text import to_json

Row = dict[str, Any]
Add: TypeAlias = Callable[[Row], None]


@contextmanager
def json_array(file: BinaryIO) -> Iterator[Add]:
    """One array, indented by two blanks, as the standard library writes it."""
    is_empty = True
    file.write(b"[")

    def add(row: Row) -> None:
        nonlocal is_empty
        text = to_json([row], indent=True)
        file.write((b"\n" if is_empty else b",\n") + text.removeprefix(b"[\n").removesuffix(b"\n]"))
        is_empty = False

    yield add
    file.write(b"]\n" if is_empty else b"\n]\n")


@contextmanager
def json_lines(file: BinaryIO) -> Iterator[Add]:
    """One object a line."""

    def add(row: Row) -> None:
        file.write(to_json(row) + b"\n")

    yield add


@contextmanager
def csv_table(file: BinaryIO, columns: Sequence[str]) -> Iterator[Add]:
    """A header and a line for each row, in UTF-8, as RFC 4180 has it. Nested values are JSON; no value is an
    empty cell."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(columns)

    def add(row: Row) -> None:
        writer.writerow([cell(row.get(name)) for name in columns])

    try:
        yield add
    finally:
        text.detach()  # the file is closed by whoever has opened it


def cell(value: Any) -> str:
    """A value as the text of a cell."""
    if value is None:
        return ""
    return value if isinstance(value, str) else to_json(value).decode()
