"""Small copies of a report's images: made in threads, in the order of the records, each image once.

Images that stand in the input itself are read here one after the other, for their files are read onwards;
everything else is read where it is decoded. So many are in work at once as there are threads, and a few more.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Any, TypeVar

from vqa_async.errors import ImageError, InputError
from vqa_async.export.pictures import image_file
from vqa_async.images import SmallCopy, small_copy
from vqa_async.keytable import KeyTable
from vqa_async.models import ImageRef
from vqa_async.report.entries import LONGEST_FIELD, MOST_IMAGES, clipped
from vqa_async.sources import StoredImages

_PAGE_BYTES = 54_000_000
"""What texts and copies inside a page are to take together: with all else it stays below 60 MB."""

_LEAST_BYTES = 1_800
_SIZES = ((100, 640, 60_000), (1_000, 384, 16_000), (4_000, 256, 8_000), (8_000, 192, 4_000))
"""Up to so many of them, so many pixels and bytes: what is few can be looked at closely."""

_SMALLEST = 160, 3_000

_READ_AHEAD = 100
"""Records without images that wait behind one whose image is in work, at most."""

_KNOWN = Struct(">IHHII4s")
"""What is known of a copy: its number, its size, that of the original and its format."""

T = TypeVar("T")
Keep = Callable[[int, bytes], None]


@dataclass(frozen=True, slots=True)
class Size:
    """How large copies may be: pixels of the longer side, and bytes."""

    side: int
    max_bytes: int

    @classmethod
    def fitting(cls, images: int, text_bytes: int) -> Size:
        """What suits so many images inside a page, beside so much text."""
        side, size = next(((side, size) for most, side, size in _SIZES if images <= most), _SMALLEST)
        left = (_PAGE_BYTES - text_bytes) * 3 // 4  # base64
        return cls(side, max(min(left // max(images, 1), size), _LEAST_BYTES))


BESIDE = Size(320, 24_000)
"""Where each image is a file, there is room."""


class Thumbnails:
    """Makes and numbers the copies. Use as ``with``.

    Args:
        folder: of the input, where relative references are looked for first.
        size: of copies; None: none are made.
        keep: takes each copy with its number, in order from 0.

    Attributes:
        missing: images that could not be shown.
    """

    def __init__(self, folder: str, size: Size | None, keep: Keep) -> None:
        self._folder = folder
        self._size = size
        self._keep = keep
        self._stored = StoredImages(folder)
        self._threads = min(4, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="vqa-report")
        self._known = KeyTable(key_bytes=12, value_bytes=_KNOWN.size)
        self._count = 0
        self.missing = 0

    def __enter__(self) -> Thumbnails:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._stored.close()

    def shown(
        self, items: Iterable[tuple[T, Sequence[ImageRef]]]
    ) -> Iterator[tuple[T, list[dict[str, Any]]]]:
        """Each item with what the page knows of its images: name, number of the copy, or what is wrong."""
        waiting: deque[tuple[T, list[_Asked]]] = deque()
        in_work = 0
        for item, refs in items:
            waiting.append((item, [self._ask(ref) for ref in refs[:MOST_IMAGES]]))
            in_work += len(waiting[-1][1])
            while waiting and (in_work > 4 * self._threads or len(waiting) > _READ_AHEAD):
                in_work -= len(waiting[0][1])
                yield self._finished(*waiting.popleft())
        while waiting:
            yield self._finished(*waiting.popleft())

    def _finished(self, item: T, asked: list[_Asked]) -> tuple[T, list[dict[str, Any]]]:
        return item, [self._image(one) for one in asked]

    def _ask(self, ref: ImageRef) -> _Asked:
        name = image_name(ref)
        if ref.kind == "url":
            return _Asked(ref, name, "", "A URL: nothing is downloaded for a report.")
        key = _key(ref)
        if self._size is None or self._known.get(key) is not None:
            return _Asked(ref, name, key)
        try:
            stored = (
                self._stored.get(ref.value) if ref.kind == "path" and isinstance(ref.value, str) else None
            )
        except InputError as error:
            return _Asked(ref, name, key, error.message)
        source = ref if stored is None else ImageRef("bytes", stored)
        return _Asked(ref, name, key, work=self._pool.submit(_copy, source, self._folder, self._size))

    def _image(self, asked: _Asked) -> dict[str, Any]:
        shown: dict[str, Any] = {"name": asked.name}
        if asked.key and (known := self._known.get(asked.key)) is not None:
            return shown | _said(known)
        problem = asked.problem
        if asked.work is not None:
            try:
                return shown | self._kept(asked.key, asked.work.result())
            except ImageError as error:
                problem = error.message
        if problem:
            self.missing += 1
            shown["problem"] = clipped(problem, LONGEST_FIELD)
        return shown

    def _kept(self, key: str, copy: SmallCopy) -> dict[str, Any]:
        number, self._count = self._count, self._count + 1
        self._keep(number, copy.data)
        size = (copy.width, copy.height, copy.original_width, copy.original_height)
        known = _KNOWN.pack(number, *size, copy.format.encode())
        self._known.set(key, known)
        return _said(known)


@dataclass(frozen=True, slots=True)
class _Asked:
    ref: ImageRef
    name: str
    key: str
    problem: str = ""
    work: Future[SmallCopy] | None = None


def _copy(ref: ImageRef, folder: str, size: Size) -> SmallCopy:
    return small_copy(image_file(ref, folder), size.side, size.max_bytes)


def _said(known: bytes) -> dict[str, Any]:
    number, width, height, across, down, format = _KNOWN.unpack(known)
    said = f"{across:,} × {down:,} {format.rstrip(bytes(1)).decode()}"
    return {"at": number, "size": [width, height], "said": said}


def image_name(ref: ImageRef) -> str:
    """What the page calls an image: never its content."""
    if ref.kind in ("path", "url"):
        return clipped(str(ref.value), LONGEST_FIELD)
    return f"(in the row itself, {len(ref.value):,} {'bytes' if ref.kind == 'bytes' else 'characters'})"


def _key(ref: ImageRef) -> str:
    raw = ref.value if isinstance(ref.value, bytes) else ref.value.encode("utf-8", "surrogatepass")
    return f"{ref.kind} {blake2b(raw, digest_size=16).hexdigest()}"
