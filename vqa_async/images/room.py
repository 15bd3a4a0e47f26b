"""Memory for decoded pixels: what an image takes, and the turns that the threads of the process take.

Files are small where pixels are large: a few threads that each decode a large image would need gigabytes
together. They take turns instead, in order, so that small images cannot keep a large one waiting for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vqa_async.errors import ImageError

_MOST = 900_000_000
"""Bytes that one image may take: with it a process stays below 1 GiB. Photos of 108 million pixels, which
phones make, fit turned; beyond, a JPEG can be shrunk while it is decoded."""

_STORED = {"1": 1, "L": 1, "P": 1, "LA": 4, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""Bytes a pixel of a decoded image, by its mode, where they are not four."""

_REMADE = {"1": 2, "L": 1, "P": 8, "CMYK": 8, "I;16": 8, "I;16B": 8, "I;16L": 8, "I": 8, "F": 8}
"""Bytes a pixel beside it while it is converted and turned, where they are not four: each makes a copy."""

_WORKING = {"WEBP": 8, "AVIF": 8}
"""Bytes a pixel that decoders take for themselves."""
_PROGRESSIVE = 6
"""The same for a JPEG in several scans, all of which are kept until the last."""


def bytes_to_decode(
    format: str, mode: str, pixels: int, *, progressive_pixels: int = 0, is_remade: bool = False
) -> int:
    """About how many bytes of memory an image takes while it is decoded.

    Args:
        format: of the file.
        mode: of the pixels, as the imaging library calls it.
        pixels: how many are decoded.
        progressive_pixels: how many a JPEG in several scans has, before it is shrunk.
        is_remade: whether the pixels are converted or turned afterwards.

    Raises:
        ImageError: more than one image may take.
    """
    each = _STORED.get(mode, 4) + _WORKING.get(format, 0) + (_REMADE.get(mode, 4) if is_remade else 0)
    need = each * pixels + _PROGRESSIVE * progressive_pixels
    if need > _MOST:
        raise ImageError(
            f"needs about {need / 1e6:,.0f} MB of memory to be decoded, over {_MOST / 1e6:,.0f} MB: "
            "shrink it first.",
            code="image_too_large",
        )
    return need


class DecodingRoom:
    """Bounds the bytes of pixels in memory at once, over threads.

    Args:
        total: bytes at most; who needs more gets all of them, alone.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._in_use = 0
        self._turn = threading.Lock()  # held by the one that is next
        self._freed = threading.Condition()

    def __repr__(self) -> str:
        return f"DecodingRoom({self._in_use:,} of {self._total:,} bytes)"

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Wait for ``amount`` bytes, or for all of them where that is less; give them back with the block."""
        amount = min(amount, self._total)
        with self._turn, self._freed:
            self._freed.wait_for(lambda: self._in_use + amount <= self._total)
            self._in_use += amount
        try:
            yield
        finally:
            with self._freed:
                self._in_use -= amount
                self._freed.notify()
