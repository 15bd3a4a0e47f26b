"""The bytes of an image file -> what goes into the request. Runs in a thread; keeps nothing.

An upright JPEG, PNG, GIF or WebP within the limits is sent byte for byte and its pixels are never decoded
(unless ``validate`` is "full"). Everything else goes through the codec.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import orjson
import pybase64
from xxhash import xxh3_128_hexdigest

from vqa_async.config import ImageOptions
from vqa_async.errors import ImageError
from vqa_async.images.codec import check_pixels, fitting_size, read_foreign_header, recode
from vqa_async.images.files import check_size, locate, read
from vqa_async.images.header import NATIVE, Header, read_header, sniff
from vqa_async.models import ImageRef, PreparedImage


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """What is known of an image without encoding it.

    Attributes:
        width: pixels as they would be sent, turned and shrunk; 0 for a URL that is passed on.
        height: pixels likewise.
        mime: MIME type of the content as it is stored; "" for a URL that is passed on.
    """

    width: int
    height: int
    mime: str


def prepare_file(data: bytes, name: str, options: ImageOptions) -> PreparedImage:
    """Check an image file and encode it for a request, re-encoding the image only where it must be.

    Args:
        data: the whole file.
        name: how messages call it.
        options: limits, quality, and how thorough the check is.

    Raises:
        ImageError: it cannot be sent.
    """
    with _named(name):
        header = inspect(data, options)
        if not _passes(data, header, options):
            data, header = recode(data, header, options)
        elif options.validate == "full":
            check_pixels(data, header)
    return _encoded(data, header)


def pass_through(data: bytes, name: str, options: ImageOptions) -> PreparedImage | None:
    """``prepare_file`` for files that need no decoding; None for those that do.

    Raises:
        ImageError: it cannot be sent.
    """
    if options.validate == "full":
        return None
    try:
        format = sniff(data)
        if format not in NATIVE:
            return None
        header = inspect(data, options, format)
    except ImageError as error:
        raise _about(name, error) from None
    return _encoded(data, header) if _passes(data, header, options) else None


def _encoded(data: bytes, header: Header) -> PreparedImage:
    start = f"data:{header.mime};base64,".encode()
    encoded = pybase64.b64encode(data)
    size = len(start) + len(encoded)
    return PreparedImage((start, encoded), size, xxh3_128_hexdigest(data), header.width, header.height)


def prepare_url(url: str) -> PreparedImage:
    """A URL that is handed to the endpoint as it is."""
    piece = orjson.dumps(url)[1:-1]
    return PreparedImage((piece,), len(piece), xxh3_128_hexdigest(url.encode()), 0, 0)


def inspect(data: bytes, options: ImageOptions, format: str | None = None) -> Header:
    """Read the header and check the structure, without decoding.

    Args:
        data: the whole file.
        options: ``max_decode_pixels`` is applied.
        format: what ``sniff`` found, where it was asked already.

    Raises:
        ImageError: it is not an image, cut off, of a kind that is not taken, or has too many pixels.
    """
    format = format or sniff(data)
    header = read_header(data, format) if format in NATIVE else read_foreign_header(data, format)
    if header.width * header.height > options.max_decode_pixels:
        raise ImageError(
            f"has {header.width:,} x {header.height:,} pixels, over max_decode_pixels "
            f"({options.max_decode_pixels:,}): shrink it or raise the limit.",
            code="image_too_large",
        )
    return header


def check_image(ref: ImageRef, folder: str, options: ImageOptions) -> CheckedImage:
    """Find, read and check an image as a run would, without encoding it. Blocks; opens no connection.

    Args:
        ref: where the record says it is.
        folder: where a relative path is tried first.
        options: as for a run. With ``validate="full"`` it is decoded.

    Raises:
        ImageError: it cannot be sent.
    """
    source = locate(ref, folder, options)
    if source.kind == "url":
        return CheckedImage(0, 0, "")
    data, _ = read(source, options)
    check_size(len(data), source.name, options)
    with _named(source.name):
        header = inspect(data, options)
        if options.validate == "full":
            check_pixels(data, header)
    width, height = fitting_size(header, options)
    width, height = (height, width) if header.sideways else (width, height)
    return CheckedImage(width, height, header.mime)


def _passes(data: bytes, header: Header, options: ImageOptions) -> bool:
    """Whether the file goes out byte for byte."""
    small = not options.max_bytes or len(data) <= options.max_bytes
    fits = fitting_size(header, options) == (header.width, header.height)
    return header.sendable and header.orientation == 1 and small and fits


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the image's name in front of errors from rooms that do not know it."""
    try:
        yield
    except ImageError as error:
        raise _about(name, error) from None


def _about(name: str, error: ImageError) -> ImageError:
    return ImageError(f"Image {name} {error.message}", code=error.code)
