"""A request body in pieces.

All that surrounds the images is serialised into small buffers; the base64 text of an image is put between
them as the very bytes object that the image cache holds. It is never put into a Python dict, run through a
JSON encoder or concatenated, so a request costs one reference per image, whatever the image's size.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import orjson

from vqa_async.models import PreparedImage

_SMALL = 4096
"""Pieces below this are copied into the surrounding buffer: one send call less for each."""


class Body(NamedTuple):
    """A request body, ready to send.

    Attributes:
        pieces: the body's bytes in order.
        size: bytes in all.
        digest: 128-bit hex digest of the texts, the parameters and the contents of the images.
        opening: how many of the bytes come before what is the same for every model: ``{"model":"..."``.
        text_bytes: bytes that are no image.
    """

    pieces: tuple[bytes, ...]
    size: int
    digest: str
    opening: int
    text_bytes: int

    def for_model(self, opening: bytes) -> tuple[tuple[bytes, ...], int]:
        """Pieces and size of the same body with ``opening`` in place of its own, for an endpoint that knows
        the model by another name."""
        first, *rest = self.pieces
        if first.startswith(opening):
            return self.pieces, self.size
        return (opening + first[self.opening :], *rest), self.size + len(opening) - self.opening


def opening_of(model: str) -> bytes:
    """The first bytes of a request for ``model``."""
    return b'{"model":' + orjson.dumps(model)


class Pieces:
    """Collects bytes: small ones are joined, large ones kept by reference. ``text`` adds a small one."""

    __slots__ = ("_digest", "_image_bytes", "_pieces", "_small", "text")

    def __init__(self, start: bytes) -> None:
        self._image_bytes = 0
        self._small = [start]
        self._pieces: list[bytes] = []
        self._digest = blake2b(digest_size=16)
        self.text = self._small.append

    def image(self, image: PreparedImage) -> None:
        # The image counts in the digest by its own: hashing its base64 again would cost more than the rest.
        self._digest.update(image.digest.encode())
        self._image_bytes += image.size
        for piece in image.pieces:
            if len(piece) < _SMALL:
                self.text(piece)
            else:
                self._flush()
                self._pieces.append(piece)

    def _flush(self) -> None:
        if self._small:
            joined = b"".join(self._small)
            self._small.clear()
            self._digest.update(joined)
            self._pieces.append(joined)

    def body(self, opening: int) -> Body:
        self._flush()
        size = sum(map(len, self._pieces))
        digest = self._digest.hexdigest()
        return Body(tuple(self._pieces), size, digest, opening, size - self._image_bytes)
