"""Data sets by name, ``hf://NAME[:SPLIT]``, streamed by Hugging Face's own library. Blocking.

The one place that touches that library. A name may also be the path of a local folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vqa_async.config import Columns
from vqa_async.errors import ConfigError, InputError
from vqa_async.sources.embedded import TableRow, table_row

SCHEME = "hf://"


class HubRows:
    """The rows of one data set, of all its splits where none is named. References begin with its name."""

    def __init__(self, address: str, columns: Columns) -> None:
        self.fraction: float | None = None
        self._address = address
        self._columns = columns

    def __iter__(self) -> Iterator[TableRow]:
        name, _, split = self._address.removeprefix(SCHEME).partition(":")
        try:
            for part, rows in _splits(name, split):
                file = f"{SCHEME}{name}:{part}"
                for number, values in enumerate(rows):
                    where = f"{file} row {number + 1}"
                    yield table_row(values, self._columns, file, number, where)
        except (OSError, ValueError, RuntimeError, LookupError) as error:
            reason = str(error).splitlines()[0][:200].rstrip(".") if str(error) else type(error).__name__
            raise InputError(f"{self._address} cannot be read: {reason}. Check name and split.") from None


def _splits(name: str, split: str) -> Iterator[tuple[str, Any]]:
    try:
        import datasets
    except ImportError:
        raise ConfigError(f"{SCHEME}{name} needs an extra: pip install 'vqa-async[hf]'.") from None
    loaded = datasets.load_dataset(name, split=split or None, streaming=True)
    parts = {split: loaded} if split else loaded
    for part, rows in parts.items():
        yield str(part), rows.decode(False)  # images as their bytes: they are looked at later, by us
