"""A tree of image files as rows, each with the same question.

Order: the files of a folder by the bytes of their names, then its subfolders likewise. Hidden files and
folders are left out, links to folders are not followed (they may lead in a circle). One folder is listed at
a time, in a thread: network file systems take their time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

from vqa_async.config import Columns
from vqa_async.errors import InputError
from vqa_async.models import Failure, Record
from vqa_async.sources.rows import RowReader

# fmt: off
IMAGE_SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff",
    ".heic", ".heif", ".avif", ".jp2", ".ico", ".tga", ".ppm", ".pgm",
])
# fmt: on
"""Files named so are taken for images without a look; whether they are is found out when they are sent."""

_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
_BRANDS = frozenset([b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"hevc"])
_LOOK_BYTES = 12


@dataclass(frozen=True, slots=True)
class _Listing:
    images: list[str]
    folders: list[str]


async def read_folder(
    folder: str, columns: Columns, rows: RowReader, *, prompt: str
) -> AsyncGenerator[Record | Failure, None]:
    """A record for each image below ``folder``.

    Args:
        folder: where to begin.
        columns: the fields that the rows are made with.
        rows: reads each row.
        prompt: the question about every image.

    Raises:
        InputError: a folder cannot be listed, or there is no image in any.
    """
    index = 0
    waiting = [""]
    while waiting:
        listing = await asyncio.to_thread(_list, folder, waiting.pop())
        waiting += reversed(listing.folders)
        for path in listing.images:
            yield _read(path, columns, rows, prompt, index)
            index += 1
    if not index:
        raise InputError(f"{folder} holds no images.")


def _read(path: str, columns: Columns, rows: RowReader, prompt: str, index: int) -> Record | Failure:
    raw = os.fsencode(path)
    where = f"file {raw.decode('utf-8', 'replace')}"
    if raw != path.encode("utf-8", "replace"):
        reason = "its name is not UTF-8, so no result could be written for it: rename it"
        return rows.broken(raw, index=index, where=where, reason=reason, code="bad_image_reference")
    turn = {"from": "human", "value": prompt}
    row = {columns.image_key: path, columns.conversation_key: [turn]}
    return rows.read(row, index=index, where=where)


def _list(folder: str, below: str) -> _Listing:
    listing = _Listing([], [])
    try:
        for entry in _entries(os.path.join(folder, below)):
            path = os.path.join(below, entry.name)
            if entry.is_dir(follow_symlinks=False):
                listing.folders.append(path)
            elif _is_file(entry) and _is_image(entry):
                listing.images.append(path)
    except OSError as error:
        shown = os.path.join(folder, below).rstrip(os.sep)
        raise InputError(f"{shown} cannot be listed: {error.strerror or error}.") from None
    return listing


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from sorted(
            (entry for entry in entries if not entry.name.startswith(".")),
            key=lambda entry: os.fsencode(entry.name),
        )


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _is_image(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    return suffix in IMAGE_SUFFIXES or _looks_like_image(entry.path)


def _looks_like_image(path: str) -> bool:
    try:
        with open(path, "rb", buffering=0) as file:
            start = file.read(_LOOK_BYTES)
    except OSError:  # it has no image's name and cannot be read: nothing says that it was meant
        return False
    return (
        start.startswith(_STARTS)
        or (start[:4] == b"RIFF" and start[8:] == b"WEBP")
        or (start[4:8] == b"ftyp" and start[8:] in _BRANDS)
    )
