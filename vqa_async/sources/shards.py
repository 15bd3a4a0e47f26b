"""WebDataset shards: a tar file -> rows, read once from its beginning to its end.

Members that follow each other under one key, the name up to the first dot, are one row. Images are its
images in the order in which they stand there; a ``json`` member is merged into the row; ``txt`` becomes
``text``; other small texts stand under their suffix, and what is no text is only referred to.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

import orjson

from vqa_async.config import Columns
from vqa_async.errors import InputError
from vqa_async.sources.embedded import TableRow, member_reference
from vqa_async.sources.folder import IMAGE_SUFFIXES
from vqa_async.sources.pieces import MAX_TEXT_BYTES
from vqa_async.sources.row_batches import PulledBytes

_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
_TEXTS = frozenset(["txt", "text", "caption", "cls", "id", "label", "url"])
_TEXT_BYTES = 1 << 20


class ShardRows:
    """The rows of one shard.

    Args:
        stream: gives its bytes, unpacked.
        name: what it is called in messages.
        file: what references call it.
        columns: the fields that the images stand in.
    """

    def __init__(self, stream: PulledBytes, name: str, file: str, columns: Columns) -> None:
        self._stream = stream
        self._name = name
        self._file = file
        self._columns = columns

    def __iter__(self) -> Iterator[TableRow]:
        sample: _Sample | None = None
        try:
            for key, suffix, member, read in self._members():
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample.row()
                    sample = _Sample(key, self._name, self._columns.image_key)
                sample.add(suffix, member_reference(self._file, member.name), member.size, read)
        except tarfile.TarError:
            raise InputError(
                f"{self._name} is cut off or no tar file. The samples before that place were read; get the "
                "whole file and run the same command again."
            ) from None
        if sample is not None:
            yield sample.row()

    def _members(self) -> Iterator[tuple[str, str, tarfile.TarInfo, Callable[[], bytes]]]:
        with tarfile.open(fileobj=cast("IO[bytes]", self._stream), mode="r|", bufsize=1 << 16) as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined] # it would keep them all
                found = _MEMBER.fullmatch(member.name)
                if found is not None and member.isfile():
                    opened = cast("IO[bytes]", tar.extractfile(member))
                    yield found[1], found[2].lower(), member, opened.read
            stream = cast("IO[bytes]", tar.fileobj)
            if stream.tell() - tar.offset < tarfile.BLOCKSIZE:  # no block of zeros, which ends a tar file
                raise tarfile.ReadError


class _Sample:
    """The members of one key."""

    def __init__(self, key: str, shard: str, image_key: str) -> None:
        self.key = key
        self._where = f"{shard} sample {key}"
        self._image_key = image_key
        self._row: dict[str, Any] = {"__key__": key}
        self._images: list[bytes] = []
        self._references: list[str] = []
        self._reason = ""
        self._raw = key.encode("utf-8", "surrogatepass")

    def add(self, suffix: str, reference: str, size: int, read: Callable[[], bytes]) -> None:
        """One more member of it."""
        kind = suffix.rpartition(".")[2]
        if size > MAX_TEXT_BYTES:
            self._reason = (
                f"its member .{suffix} has {size >> 20} MiB; the limit is {MAX_TEXT_BYTES >> 20} MiB"
            )
        elif f".{kind}" in IMAGE_SUFFIXES:
            self._images.append(read())
            self._references.append(reference)
        elif kind == "json":
            self._merge(suffix, read())
        elif kind in _TEXTS and size <= _TEXT_BYTES:
            name = "text" if suffix == "txt" else suffix
            self._row.setdefault(name, read().decode("utf-8", "replace").removesuffix("\n"))
        else:
            self._row.setdefault(suffix, reference)

    def row(self) -> TableRow:
        """All of them."""
        if self._reason:
            return TableRow({}, None, self._where, self._reason, "bad_sample", self._raw)
        if not self._images:
            return TableRow(self._row, None, self._where)
        asked = {**self._row, self._image_key: self._images}
        written = {**self._row, self._image_key: self._references}
        return TableRow(asked, written, self._where, weight=sum(map(len, self._images)))

    def _merge(self, suffix: str, text: bytes) -> None:
        try:
            content = orjson.loads(text)
        except ValueError as error:
            self._reason, self._raw = f"its member .{suffix} is not JSON: {error}", text
            return
        if isinstance(content, dict):
            self._row.update(content)
        else:
            self._row[suffix.removesuffix(".json")] = content
