"""Encoded images kept for the next record that asks: bounded in bytes, the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from vqa_async.models import PreparedImage


class ImageCache:
    """Keeps prepared images.

    Args:
        capacity: bytes of encoded images at most; 0 keeps nothing.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._images: OrderedDict[Hashable, PreparedImage] = OrderedDict()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"ImageCache({len(self._images)} images, {self._bytes:,} of {self._capacity:,} bytes)"

    @property
    def bytes(self) -> int:
        """Bytes of encoded images kept."""
        return self._bytes

    def get(self, key: Hashable) -> PreparedImage | None:
        """The image kept under ``key``, or None."""
        image = self._images.get(key)
        if image is not None:
            self._images.move_to_end(key)
        return image

    def keep(self, key: Hashable, image: PreparedImage) -> None:
        """Keep an image, unless it alone is more than there is room for."""
        if image.size > self._capacity or key in self._images:
            return
        self._images[key] = image
        self._bytes += image.size
        while self._bytes > self._capacity:
            _, dropped = self._images.popitem(last=False)
            self._bytes -= dropped.size
