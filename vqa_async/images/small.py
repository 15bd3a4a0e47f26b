"""Small copies of images, for people to look at. Blocks; meant for threads."""

from __future__ import annotations

from dataclasses import dataclass

from vqa_async.config import ImageOptions
from vqa_async.images.codec import thumbnail
from vqa_async.images.prepare import inspect

_OPTIONS = ImageOptions()


@dataclass(frozen=True, slots=True)
class SmallCopy:
    """An image as a small JPEG file.

    Attributes:
        data: the file.
        width, height: its pixels.
        original_width, original_height: those of the image that it shows, upright.
        format: that image's.
    """

    data: bytes
    width: int
    height: int
    original_width: int
    original_height: int
    format: str


def small_copy(data: bytes, side: int, max_bytes: int) -> SmallCopy:
    """A copy of at most ``side`` pixels and about ``max_bytes`` of the image file ``data``.

    Raises:
        ImageError: it is no image that can be decoded; the message begins where the image's name should be.
    """
    header = inspect(data, _OPTIONS)
    made, width, height = thumbnail(data, header, side, max_bytes)
    size = (header.width, header.height)
    across, down = reversed(size) if header.sideways else size
    return SmallCopy(made, width, height, across, down, header.format)
