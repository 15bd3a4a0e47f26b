"""Records and small images as they stand in the page, or beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pybase64

from vqa_async.report.safe import script_json

_RECORDS_PER_BLOCK = 250
IMAGES_PER_BLOCK = 100
FILES_PER_FOLDER = 1000


def write_text(file: BinaryIO, text: str) -> None:
    """Write a part of the page; what is no character, as its escape."""
    file.write(text.encode("utf-8", "backslashreplace"))


@contextmanager
def record_blocks(file: BinaryIO) -> Iterator[Callable[[Any], None]]:
    """Takes records, and writes them in elements of the page that are no scripts, some in each."""
    block: list[Any] = []

    def flush() -> None:
        if block:
            write_text(
                file, f'<script type="application/json" class="record-data">{script_json(block)}</script>\n'
            )
            block.clear()

    def add(value: Any) -> None:
        block.append(value)
        if len(block) == _RECORDS_PER_BLOCK:
            flush()

    yield add
    flush()


class Inside:
    """Small copies in the page itself, as base64, a line each."""

    bytes_beside = 0

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._block: list[str] = []
        self.count = 0

    def keep(self, number: int, data: bytes) -> None:
        """Take the next copy."""
        self._block.append(pybase64.b64encode_as_string(data))
        self.count = number + 1
        if len(self._block) == IMAGES_PER_BLOCK:
            self.close()

    def close(self) -> None:
        """Write what is left."""
        if self._block:
            text = "\n".join(self._block)
            write_text(self._file, f'<script type="text/plain" class="image-data">{text}</script>\n')
            self._block.clear()


class Beside:
    """Small copies as files in a folder beside the page, a thousand to a folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder
        self.count = 0
        self.bytes_beside = 0

    def keep(self, number: int, data: bytes) -> None:
        """Take the next copy."""
        path = self._path / f"{number // FILES_PER_FOLDER}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        self.count = number + 1
        self.bytes_beside += len(data)

    def close(self) -> None:
        """Nothing is left."""
