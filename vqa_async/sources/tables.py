"""Parquet and Arrow files -> rows, a few megabytes at a time. Blocking: read in a thread of its own.

Parquet is read by row group, and within one by batches of as many rows as make some megabytes; nothing is
read ahead, so that not even one row group of gigabytes is held. Arrow files are read batch by batch as they
were written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from vqa_async.config import Columns
from vqa_async.errors import ConfigError, InputError
from vqa_async.sources.embedded import TableRow, table_row
from vqa_async.sources.remote import RemoteFile, is_address, shown

_BATCH_BYTES = 4 << 20
_MOST_ROWS = 1024
_BUFFER_BYTES = 1 << 20

_FILE_MAGIC = b"ARROW1"


class ParquetRows:
    """The rows of one Parquet file.

    Args:
        path: a path or an address.
        name: what it is called in messages.
        file: what references call it.
        columns: which columns hold the images and the conversation.

    Attributes:
        fraction: share of it that became rows.
    """

    def __init__(self, path: str, name: str, file: str, columns: Columns) -> None:
        self.fraction: float | None = 0.0
        self._path = path
        self._name = name
        self._file = file
        self._columns = columns

    def __iter__(self) -> Iterator[TableRow]:
        pq = _pyarrow(self._name, "Parquet").parquet
        with _readable(self._name), contextlib.closing(_open(self._path)) as source:
            parquet = pq.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER_BYTES)
            number, total = 0, parquet.metadata.num_rows
            for batch in _batches(parquet):
                for values in batch.to_pylist():
                    where = f"{self._name} row {number + 1}"
                    yield table_row(values, self._columns, self._file, number, where)
                    number += 1
                    self.fraction = number / total


def _batches(parquet: Any, first_group: int = 0, columns: list[str] | None = None) -> Iterator[Any]:
    for number in range(first_group, parquet.num_row_groups):
        group = parquet.metadata.row_group(number)
        if group.num_rows:
            each = max(1, group.total_byte_size // group.num_rows)
            size = min(_MOST_ROWS, max(1, _BATCH_BYTES // each))
            yield from parquet.iter_batches(
                batch_size=size, row_groups=[number], columns=columns, use_threads=False
            )


class ArrowRows:
    """The rows of one Arrow file, of either kind; arguments and attribute as for Parquet."""

    def __init__(self, path: str, name: str, file: str, columns: Columns) -> None:
        self.fraction: float | None = None
        self._path = path
        self._name = name
        self._file = file
        self._columns = columns

    def __iter__(self) -> Iterator[TableRow]:
        pa = _pyarrow(self._name, "Arrow")
        number = 0
        with _readable(self._name), contextlib.closing(_open(self._path)) as source:
            for batch in _record_batches(pa, source):
                for values in _sliced(batch):
                    where = f"{self._name} row {number + 1}"
                    yield table_row(values, self._columns, self._file, number, where)
                    number += 1


def _record_batches(pa: Any, source: Any) -> Iterator[Any]:
    start = source.read(len(_FILE_MAGIC))
    source.seek(0)
    if start != _FILE_MAGIC:
        yield from pa.ipc.open_stream(source)
        return
    file = pa.ipc.open_file(source)
    for at in range(file.num_record_batches):
        yield file.get_batch(at)


def _sliced(batch: Any) -> Iterator[dict[str, Any]]:
    """The rows of a batch, of which few are Python objects at once."""
    each = max(1, batch.nbytes // max(1, batch.num_rows))
    size = min(_MOST_ROWS, max(1, _BATCH_BYTES // each))
    for at in range(0, batch.num_rows, size):
        yield from batch.slice(at, size).to_pylist()


def parquet_slices(path: str, column: str, row: int) -> Iterator[tuple[int, list[Any]]]:
    """One column of a Parquet file from the row group on that holds ``row``: slices, each with its first row.

    Raises:
        InputError: it cannot be read.
    """
    pq = _pyarrow(path, "Parquet").parquet
    with _readable(shown(path)), contextlib.closing(_open(path)) as source:
        parquet = pq.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        if column not in parquet.schema_arrow.names:
            return
        sizes = [parquet.metadata.row_group(n).num_rows for n in range(parquet.num_row_groups)]
        first, group = 0, 0
        while group < len(sizes) and first + sizes[group] <= row:
            first, group = first + sizes[group], group + 1
        for batch in _batches(parquet, group, [column]):
            yield first, batch.column(0).to_pylist()
            first += batch.num_rows


def arrow_slices(path: str, column: str, row: int) -> Iterator[tuple[int, list[Any]]]:
    """The same of an Arrow file, from the record batch on that holds ``row``."""
    pa = _pyarrow(path, "Arrow")
    first = 0
    with _readable(shown(path)), contextlib.closing(_open(path)) as source:
        for batch in _record_batches(pa, source):
            if first + batch.num_rows > row and column in batch.schema.names:
                yield first, batch.column(column).to_pylist()
            first += batch.num_rows


def _open(path: str) -> Any:
    import pyarrow

    return RemoteFile(path) if is_address(path) else pyarrow.OSFile(path)


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """Say in a sentence what is wrong with a file that cannot be read on."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise InputError(
            f"{name} cannot be read: {reason[:200]}. The rows before that place were read."
        ) from None


def _pyarrow(name: str, kind: str) -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(
            f"{shown(name)} is {kind}, which needs an extra: pip install 'vqa-async[parquet]'."
        ) from None
    return pyarrow
