"""The first table of tags in a TIFF file: bounded and thinned out before it is decoded. Pure, over bytes.

Every tag says where its values stand and how many there are. Thousands of tags may all point to the same
megabyte, which decoders then read once for each; and a broken table of EXIF can fail pixels that are fine.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from vqa_async.errors import ImageError

_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
"""Bytes of one value, by its type."""

_FURTHER_TABLES = frozenset({34665, 34853, 40965})
"""EXIF, places, interoperability: nothing that pixels depend on."""


class _Tag(NamedTuple):
    at: int
    number: int
    size: int


def essential_tags(data: bytes) -> bytes:
    """The file without its tables of EXIF: their tags are given numbers that mean nothing.

    Raises:
        ImageError: the tags have more values than the file has bytes.
        struct.error: the table is cut off.
    """
    order = "<" if data[:2] == b"II" else ">"
    tags = list(_tags(data, order))
    # Where values share their bytes a little, as some writers let them, nothing is wrong.
    if sum(tag.size for tag in tags) > 2 * len(data) + 65_536:
        raise ImageError("is damaged: its tags hold more than the whole file does.", code="not_an_image")
    further = [tag for tag in tags if tag.number in _FURTHER_TABLES]
    if not further:
        return data
    changed = bytearray(data)
    for tag in further:
        struct.pack_into(order + "H", changed, tag.at, tag.number + 1)
    return bytes(changed)


def _tags(data: bytes, order: str) -> Iterator[_Tag]:
    is_big = struct.unpack_from(order + "H", data, 2)[0] == 43
    (start,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
    (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), data, start)
    step, entry = (20, "HHQ") if is_big else (12, "HHI")
    first = start + (8 if is_big else 2)
    for at in range(first, min(first + step * count, len(data)), step):
        number, kind, values = struct.unpack_from(order + entry, data, at)
        yield _Tag(at, number, min(values * _SIZES.get(kind, 0), len(data)))
