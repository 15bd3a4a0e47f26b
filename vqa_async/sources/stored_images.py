"""The bytes of an image that stands in an input, again: for exports, and for who has only the written rows.

References and their form: embedded.py. Asked in the order of the input, which is how exports ask, every file
is read once from its beginning to its end; asked backwards, from the beginning of the row group or the shard.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any, Protocol, Self, cast

from vqa_async.errors import InputError
from vqa_async.sources.compression import Decompressor, compression_of
from vqa_async.sources.embedded import Reference, read_reference, stored_bytes
from vqa_async.sources.formats import suffix_of
from vqa_async.sources.hub import SCHEME
from vqa_async.sources.remote import RemoteFile, is_address
from vqa_async.sources.tables import arrow_slices, parquet_slices

_READ_BYTES = 1 << 18


class StoredImages:
    """Looks up embedded images; keeps the file of the last one open. Blocks. Use as ``with``.

    Args:
        folder: the folder of the input, which references are relative to; then the working directory.

    Example:
        >>> with StoredImages("data") as images:
        ...     content = images.get("train-00000.parquet#17/image/0/cat.png")
    """

    def __init__(self, folder: str = "") -> None:
        self._folder = folder
        self._path = ""
        self._reader: _Reader | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file that is open."""
        if self._reader is not None:
            self._reader.close()
            self._reader, self._path = None, ""

    def get(self, reference: str) -> bytes | None:
        """The image that ``reference`` refers to; None where it is no reference to an embedded image.

        Raises:
            InputError: the file is gone or cannot be read, or there is no such image in it.
        """
        found = read_reference(reference)
        if found is None or (kind := _kind(found.file)) is None:
            return None
        if found.file.startswith(SCHEME):
            raise InputError(f"{reference} stands in a data set of the Hub, which is only read as a stream.")
        path = self._find(found.file)
        if path != self._path:
            self.close()
            self._reader, self._path = kind(path), path
        assert self._reader is not None
        content = self._reader.get(found)
        if content is None:
            raise InputError(f"{reference}: there is no such image in that file. Was it replaced?")
        return content

    def _find(self, file: str) -> str:
        if is_address(file):
            return file
        for candidate in (os.path.join(self._folder, file), file):
            if os.path.exists(candidate):
                return candidate
        raise InputError(f"{file} was not found in {self._folder or 'the working directory'}: is it gone?")


class SharedImages:
    """The same for several threads, which are answered one after the other."""

    def __init__(self) -> None:
        self._images = StoredImages()
        self._lock = threading.Lock()
        self._closed = False

    def get(self, reference: str) -> bytes | None:
        """As ``StoredImages.get``."""
        with self._lock:
            try:
                return self._images.get(reference)
            finally:
                if self._closed:  # meanwhile
                    self._images.close()

    def close(self) -> None:
        """Close the file that is open; where a thread is reading it, that does so. Does not wait."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            self._images.close()
            self._lock.release()


def image_bytes(reference: str, folder: str = "") -> bytes | None:
    """One embedded image; for many, ``StoredImages`` is faster. See there."""
    with StoredImages(folder) as images:
        return images.get(reference)


class _Reader(Protocol):
    def get(self, reference: Reference) -> bytes | None: ...

    def close(self) -> None: ...


def _kind(file: str) -> type[_Table] | type[_Shard] | None:
    suffix = suffix_of(file)
    if suffix == ".tar":
        return _Shard
    return _Table if suffix in (".parquet", ".arrow") or file.startswith(SCHEME) else None


class _Table:
    """A Parquet or Arrow file: the slice of the column that the last image was in."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._column = ""
        self._slices: Iterator[tuple[int, list[Any]]] = iter(())
        self._first, self._values = 0, list[Any]()

    def get(self, reference: Reference) -> bytes | None:
        if len(reference.parts) < 2 or not reference.parts[0].isdecimal():
            return None
        row, column = int(reference.parts[0]), reference.parts[1]
        if column != self._column or row < self._first:
            self.close()
            read = parquet_slices if suffix_of(self._path) == ".parquet" else arrow_slices
            self._slices, self._column = read(self._path, column, row), column
        while row >= self._first + len(self._values):
            self._first, self._values = next(self._slices, (row, []))
            if not self._values:
                self._column = ""  # at its end: begin anew with the next
                return None
        return _image_in(self._values[row - self._first], reference.parts)

    def close(self) -> None:
        close = getattr(self._slices, "close", None)
        if close is not None:
            close()
        self._first, self._values, self._column = 0, [], ""


def _image_in(value: Any, parts: tuple[str, ...]) -> bytes | None:
    if isinstance(value, list):
        at = int(parts[2]) if len(parts) > 2 and parts[2].isdecimal() else 0
        value = value[at] if at < len(value) else None
    return stored_bytes(value)


class _Shard:
    """A tar file, read onwards from the last member that was asked for."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._members: Iterator[tuple[str, tarfile.TarFile, tarfile.TarInfo]] = iter(())
        self._stack = contextlib.ExitStack()
        self._last = ("", b"")

    def get(self, reference: Reference) -> bytes | None:
        name = "/".join(reference.parts)
        if name == self._last[0]:
            return self._last[1]
        return self._onwards(name) or self._from_the_beginning(name)

    def close(self) -> None:
        self._stack.close()

    def _from_the_beginning(self, name: str) -> bytes | None:
        self.close()
        self._members = self._opened()
        return self._onwards(name)

    def _onwards(self, name: str) -> bytes | None:
        try:
            for found, tar, member in self._members:
                if found == name:
                    content = cast("IO[bytes]", tar.extractfile(member)).read()
                    self._last = (name, content)
                    return content
        except (tarfile.TarError, OSError) as error:
            raise InputError(f"{self._path} cannot be read: {error}.") from None
        return None

    def _opened(self) -> Iterator[tuple[str, tarfile.TarFile, tarfile.TarInfo]]:
        stream = self._stack.enter_context(contextlib.closing(_Unpacked(self._path)))
        opened = tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|")  # noqa: SIM115 - the stack's
        tar = self._stack.enter_context(opened)
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined] # it would keep them all
            if member.isfile():
                yield member.name, tar, member


class _Unpacked:
    """A file, unpacked if it is packed, as something to read from."""

    def __init__(self, path: str) -> None:
        self._file: Any = RemoteFile(path) if is_address(path) else open(path, "rb")  # noqa: SIM115
        start = self._file.read(4)
        method = compression_of(start)
        self._unpacking = Decompressor(os.path.basename(path), method) if method else None
        self._pieces: Iterator[bytes] = self._unpacking.feed(start) if self._unpacking else iter((start,))
        self._left = memoryview(b"")

    def read(self, size: int) -> bytes:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                data = self._file.read(_READ_BYTES)
                if not data:
                    return b""
                self._pieces = self._unpacking.feed(data) if self._unpacking else iter((data,))
                continue
            self._left = memoryview(piece)
        piece = bytes(self._left[:size])
        self._left = self._left[size:]
        return piece

    def close(self) -> None:
        self._file.close()
