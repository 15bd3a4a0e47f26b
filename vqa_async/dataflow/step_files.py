"""The answers of a step as rows in the order of its input, in the file that the storage wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

from vqa_async.errors import ConfigError
from vqa_async.export.example import examples
from vqa_async.export.files import Row, cell, csv_table, json_array, json_lines
from vqa_async.export.ordered import OrderedLines, Place
from vqa_async.export.origin import Origin
from vqa_async.journal import JournalPaths
from vqa_async.journal.replacing import replaced

_AT_ONCE = 1000
"""Rows that are turned into columns at a time."""


def _row_id(line: Row) -> str:
    """Which row a line is about."""
    meta = line["_meta"]
    return str((meta.get("group") or meta)["id"])


class StepRows:
    """The answered rows of a journal, each with its answer in one of its fields; may be gone through often.

    Args:
        journal: where the step has kept its answers.
        place: where a record stands in the step's input, None for one that is not in it any more.
        key: field of the answer.
        lists: whether each row has a list of answers, one for each of its questions, None for a failed one;
            then a row is there although all of them have failed.
    """

    def __init__(self, journal: Path, place: Place, key: str, *, lists: bool) -> None:
        paths = JournalPaths.of(journal)
        self._lines = OrderedLines(paths, known=True, place=place, failures=lists)
        self._origin = Origin.of(paths)
        self._key = key
        self._lists = lists

    def __iter__(self) -> Iterator[Row]:
        if self._lists:
            yield from self._with_lists()
            return
        for example in examples(self._lines, self._origin):
            yield {**example.row, self._key: example.text}

    def _with_lists(self) -> Iterator[Row]:
        for _, lines in groupby(self._lines, _row_id):
            found: dict[int, str | None] = {}
            row: Row = {}
            of = 0
            for line in lines:
                group = line["_meta"].get("group")
                if "error" in line and group is None:
                    continue  # what was wrong with the row itself: nobody knows how many questions it has
                number, of = (group["number"], group["of"]) if group else (1, 1)
                found[number] = None if "error" in line else line[self._key]
                row = row or next(examples([line], self._origin, ungrouped=True)).row
            if of:
                yield {**row, self._key: [found.get(number) for number in range(1, of + 1)]}


def write_rows(path: Path, form: str, rows: StepRows) -> int:
    """Write ``rows`` to ``path`` as json, jsonl, csv or parquet; returns how many. It is replaced when whole.

    Raises:
        ConfigError: it cannot be written, or its form needs the extra ``parquet``.
    """
    try:
        with replaced(path) as file:
            return _write(file, form, rows)
    except OSError as error:
        raise ConfigError(f"The step file {path} cannot be written: {error.strerror}.") from None


def _write(file: BinaryIO, form: str, rows: StepRows) -> int:
    if form == "parquet":
        return _write_parquet(file, rows)
    opened = {
        "json": lambda: json_array(file),
        "jsonl": lambda: json_lines(file),
        "csv": lambda: csv_table(file, list(_columns(rows))),
    }
    count = 0
    with opened[form]() as add:
        for count, row in enumerate(rows, 1):  # noqa: B007 - the count is wanted after the loop
            add(row)
    return count


def _columns(rows: Iterable[Row]) -> dict[str, bool]:
    """All fields, in order; and whether each holds lists of texts and nothing else."""
    columns: dict[str, bool] = {}
    for row in rows:
        for name, value in row.items():
            columns[name] = columns.get(name, True) and _is_texts(value)
    return columns


def _is_texts(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and all(one is None or type(one) is str for one in value)
    )


def _write_parquet(file: BinaryIO, rows: StepRows) -> int:
    """Texts and lists of texts as such; all else as in CSV, for one column has one type."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError("Parquet needs pyarrow: pip install 'vqa-async[parquet]'.") from None
    columns = _columns(rows)
    kinds = [
        (name, pyarrow.list_(pyarrow.string()) if lists else pyarrow.string())
        for name, lists in columns.items()
    ]
    schema, count = pyarrow.schema(kinds), 0
    held: list[Row] = []
    with parquet.ParquetWriter(file, schema) as writer:
        for row in rows:
            held.append({n: row.get(n) if lists else _text(row.get(n)) for n, lists in columns.items()})
            count += 1
            if len(held) == _AT_ONCE:
                writer.write_table(pyarrow.Table.from_pylist(held, schema))
                held = []
        writer.write_table(pyarrow.Table.from_pylist(held, schema))
    return count


def _text(value: Any) -> str | None:
    return None if value is None else cell(value)
