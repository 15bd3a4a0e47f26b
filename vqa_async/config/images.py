"""How images are found, checked, shrunk and encoded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from vqa_async.config.values import MIB, require


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How images are prepared. What the API takes and is small enough goes out byte for byte."""

    max_side: int = 0
    """Shrink so that neither side is longer than this many pixels. 0: no limit."""

    max_pixels: int = 0
    """Shrink to at most this many pixels. 0: no limit."""

    max_bytes: int = 0
    """Re-encode until an image file has at most this many bytes. 0: no limit."""

    jpeg_quality: int = 90
    """JPEG quality where an image must be re-encoded, 1 to 95."""

    detail: Literal["auto", "low", "high"] | None = None
    """The API's own 'detail' setting for images. Default: not sent."""

    validate: Literal["header", "full"] = "header"
    """How images are checked before sending: header and end of file, or by decoding them in full."""

    fetch_images: bool = False
    """Download http(s) images and send them inline. Default: the URL itself is handed to the endpoint."""

    no_image_urls: bool = False
    """Refuse records whose images are http(s) URLs."""

    image_root: str = ""
    """Folder that local images must be in, links resolved: for records of others. Default: any file."""

    allow_private_urls: bool = False
    """Let --fetch-images reach private, loopback and link-local addresses."""

    max_file_bytes: int = 100 * MIB
    """Refuse image files larger than this."""

    max_decode_pixels: int = 200_000_000
    """Refuse images with more pixels than this (decompression bombs). Phones make up to 200 million."""

    image_cache_bytes: int = 32 * MIB
    """Keep encoded images up to this many bytes for records that ask about the same image."""

    encoded_bytes: int = 256 * MIB
    """Encoded images in memory at once at most, over all records being worked on."""

    def __post_init__(self) -> None:
        for name in ("max_side", "max_pixels", "max_bytes", "image_cache_bytes"):
            require(getattr(self, name) >= 0, f"{name} must not be negative.")
        for name in ("max_file_bytes", "max_decode_pixels", "encoded_bytes"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1.")
        require(1 <= self.jpeg_quality <= 95, "jpeg_quality must be from 1 to 95.")
        require(
            not (self.no_image_urls and self.fetch_images),
            "--no-image-urls refuses what --fetch-images would download: choose one.",
        )
        if self.image_root:
            object.__setattr__(self, "image_root", os.path.realpath(self.image_root))
            require(
                os.path.isdir(self.image_root),
                f"The folder {self.image_root} of --image-root does not exist.",
            )
