"""Pixels: decode, turn, shrink, encode. Bytes in, bytes out; the only importer of the imaging library.

What can be sent as it is never comes here. Strategy for the rest:

- Only the decoders of the formats we take are imported, and each is called by name. ``Image.open`` would
  try others, and its limit against decompression bombs is one global of the process, which is not ours to
  set; the number of pixels is checked by the caller, from the header, before anything is decoded.
- Large JPEGs are shrunk while they are decoded (``draft``), which costs a third of decoding them in full.
- Lossless sources become PNG, others JPEG; what was shrunk becomes JPEG unless it is transparent.
- Whatever the decoders raise becomes one ``ImageError``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from math import isqrt, sqrt
from typing import IO, Any, TypeAlias

from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from vqa_async.config import ImageOptions
from vqa_async.errors import ImageError
from vqa_async.images.header import LARGEST_JPEG_SIDE, Header, essential, exif_orientation
from vqa_async.images.png import check_pixel_data
from vqa_async.images.room import DecodingRoom, bytes_to_decode

_Box: TypeAlias = tuple[float, float, float, float]

_DECODERS: dict[str, Callable[[IO[bytes]], Image.Image]] = {
    "JPEG": JpegImageFile,  # the class, not its factory: a multi-picture file is taken as its first picture
    "PNG": PngImageFile,
    "GIF": GifImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "AVIF": AvifImageFile,
}

# What the decoders above raise on damaged files, by reading them and by feeding them noise. Warnings are
# among it because a host may turn them into errors.
_DECODER_ERRORS = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
    BufferError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_FILTER = Image.Resampling.BICUBIC
"""What ``thumbnail`` takes too. Lanczos costs 1.7 times as much, and more than the decoding of a draft."""

_FAITHFUL_QUALITY = 95
"""JPEG quality where an image is only turned or converted: beyond it files grow and nothing is gained."""

_QUALITY_STEPS = (85, 75, 60, 45)
"""Qualities tried to get under max_bytes; below the last one fewer pixels look better than worse ones."""

_ROOM = DecodingRoom(512 << 20)
"""One for the process, because its memory is one. Two photos of 30 million pixels at once fit, turned."""

_SMALL_QUALITIES = (85, 70, 55, 40)
_SMALLEST_SIDE = 64
"""Below that a copy to look at shows nothing."""

_SHRINK_ROUNDS = 12
"""Each round at least takes a quarter off both sides, so the last is at most 1/24 of the first."""


@contextmanager
def _translated(code: str, what: str) -> Iterator[None]:
    """Turn whatever the imaging library raises into an ImageError."""
    try:
        yield
    except MemoryError:
        raise ImageError(
            "needs more memory to decode than there is: shrink it first.", code="image_too_large"
        ) from None
    except _DECODER_ERRORS as error:
        raise ImageError(f"{what} ({str(error)[:200] or type(error).__name__}).", code=code) from None


def _damage_translated() -> AbstractContextManager[None]:
    return _translated("truncated_image", "is cut off or damaged: it cannot be decoded")


def read_foreign_header(data: bytes, format: str) -> Header:
    """The header of a BMP, TIFF, AVIF or HEIF file, without decoding it.

    Raises:
        ImageError: it cannot be read, or its decoder is not installed.
    """
    with _translated("not_an_image", f"is damaged: it cannot be read as {format}"):
        image = _open(data, format)
        # A TIFF decoder turns the pixels itself, and gives the size that results.
        exif = b"" if format == "TIFF" else image.info.get("exif") or b""
        lossless = format in ("BMP", "TIFF")
        return Header(format, image.width, image.height, exif_orientation(exif), lossless=lossless)


def check_pixels(data: bytes, header: Header) -> None:
    """Decode the (first) image in full and throw it away.

    Raises:
        ImageError: it is cut off or damaged.
    """
    image, _ = _opened(data, header)
    with _room_for(image, header, is_remade=False), _damage_translated():
        image.load()
    _check_what_decoders_forgive(data, header)


def recode(data: bytes, header: Header, options: ImageOptions) -> tuple[bytes, Header]:
    """The image upright, within the limits, in a form that every API takes.

    Args:
        data: the whole file.
        header: what is known of it.
        options: limits and quality.

    Returns:
        The new file and its header.

    Raises:
        ImageError: it is cut off or damaged, or cannot be made small enough.
    """
    if options.validate == "full":
        _check_what_decoders_forgive(data, header)
    target = fitting_size(header, options)
    shrunk = target != (header.width, header.height)
    image, box = _opened(data, header, target if shrunk else None)
    with _room_for(image, header, is_remade=True), _translated("not_an_image", "cannot be converted"):
        with _damage_translated():
            image.load()
        image = _presentable(image, header.format)
        if shrunk:
            image = image.resize(target, _FILTER, box=box, reducing_gap=2.0)
        image = _upright(image, header.orientation)
        kept, format = _encode(image, header, shrunk, options.jpeg_quality)
        if 0 < options.max_bytes < len(kept):
            format = "JPEG"
            image, kept = _squeeze(image, options)
    return kept, Header(format, image.width, image.height, sendable=True, lossless=format == "PNG")


def thumbnail(data: bytes, header: Header, side: int, max_bytes: int) -> tuple[bytes, int, int]:
    """A small copy for people to look at: upright, on white where it is transparent, as JPEG.

    Args:
        data: the whole file.
        header: what is known of it.
        side: pixels of the longer side at most.
        max_bytes: kept to by quality first, then by size.

    Returns:
        The new file, its width and its height.

    Raises:
        ImageError: it is cut off or damaged.
    """
    target = fitting_size(header, ImageOptions(max_side=side))
    image, box = _opened(data, header, target)
    with _room_for(image, header, is_remade=True), _damage_translated():
        image.load()
        image = _on_white(_presentable(image, header.format))
        if target != image.size or box:
            image = image.resize(target, _FILTER, box=box, reducing_gap=2.0)
        image = _upright(image, header.orientation)
        return _fitted(image, max_bytes)


def _fitted(image: Image.Image, max_bytes: int) -> tuple[bytes, int, int]:
    """The image at the best quality that fits, else smaller; what never fits is as small as it gets.

    As JPEG: WebP takes fifteen times as long, and of photos this small it makes no smaller files.
    """
    while True:
        for quality in _SMALL_QUALITIES:
            out = BytesIO()
            image.save(out, "JPEG", quality=quality, optimize=True)
            if out.tell() <= max_bytes:
                return out.getvalue(), image.width, image.height
        if max(image.size) <= _SMALLEST_SIDE:
            return out.getvalue(), image.width, image.height
        image = _smaller(image, 0.8)


def fitting_size(header: Header, options: ImageOptions) -> tuple[int, int]:
    """Width and height as stored, shrunk to the limits, proportions kept."""
    width, height = header.width, header.height
    longest = max(width, height)
    if 0 < options.max_side < longest:
        width, height = width * options.max_side // longest, height * options.max_side // longest
    width, height = max(width, 1), max(height, 1)
    if 0 < options.max_pixels < width * height:
        # Integer roots: a float could round up and over the limit.
        fitted = isqrt(options.max_pixels * width // height)
        fitted = min(max(fitted, 1), options.max_pixels)
        width, height = fitted, max(min(height * fitted // width, options.max_pixels // fitted), 1)
    return width, height


def _check_what_decoders_forgive(data: bytes, header: Header) -> None:
    if header.format == "PNG":
        with _damage_translated():
            check_pixel_data(data)


def _open(data: bytes, format: str) -> Image.Image:
    decoder = _heif_decoder() if format == "HEIF" else _DECODERS[format]
    return decoder(BytesIO(essential(data, format)))


def _heif_decoder() -> Callable[[IO[bytes]], Image.Image]:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(
            "is a HEIC file, which needs an extra: pip install 'vqa-async[heif]', or convert it to JPEG.",
            code="format_not_allowed",
        ) from None
    decoder: Callable[[IO[bytes]], Image.Image] = HeifImageFile
    return decoder


def _opened(
    data: bytes, header: Header, target: tuple[int, int] | None = None
) -> tuple[Image.Image, _Box | None]:
    """The image before it is decoded, ready to be shrunk meanwhile; and the part of it that is then meant."""
    with _damage_translated():
        image = _open(data, header.format)
        if image.size != (header.width, header.height):  # two headers, of which only one was checked
            raise ValueError("its headers contradict each other")
        if target and header.format == "JPEG" and not header.cmyk:
            drafted = image.draft("RGB", target)
            return image, drafted[1] if drafted else None
        return image, None


def _room_for(image: Image.Image, header: Header, *, is_remade: bool) -> AbstractContextManager[None]:
    """The memory that decoding an opened image takes, as soon as it is free."""
    progressive = header.width * header.height if image.info.get("progressive") else 0
    pixels = image.width * image.height
    return _ROOM.hold(
        bytes_to_decode(
            header.format, image.mode, pixels, progressive_pixels=progressive, is_remade=is_remade
        )
    )


def _presentable(image: Image.Image, format: str) -> Image.Image:
    """The image as 8-bit grey or RGB, with alpha where it is transparent."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image, format)
    if _is_wide(image.info.get("transparency")):
        del image.info["transparency"]
    transparent = image.has_transparency_data
    mode = "RGBA" if transparent else "L" if image.mode in ("1", "L") else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    if transparent and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")  # a channel that hides nothing would keep the image from being a JPEG
    image.info = {"icc_profile": profile} if _profile_fits(profile, image.mode) else {}
    return image


def _eight_bits(image: Image.Image, format: str) -> Image.Image:
    """Grey of 16 or 32 bits scaled to 8; a plain conversion would clip everything above 255 to white."""
    low, high = 0.0, 65535.0
    if image.mode == "F" or (image.mode == "I" and format != "PNG"):
        found: Any = image.getextrema()  # measurements have no fixed white: spread what is there
        low, high = found
    scale = 255 / (high - low) if high > low else 0.0
    # Half is added because the last step cuts fractions off.
    wide = image.convert("F").point(lambda value: value * scale + (0.5 - low * scale))
    return wide.convert("L")


def _is_wide(transparency: object) -> bool:
    """Whether a transparent colour is given in 16 bits: it matches nothing once the pixels have 8."""
    values = transparency if isinstance(transparency, tuple) else (transparency,)
    return any(isinstance(value, int) and value > 255 for value in values)


def _profile_fits(profile: object, mode: str) -> bool:
    """Whether a colour profile still describes the pixels: one for inks does not after conversion to RGB."""
    space = b"GRAY" if mode == "L" else b"RGB "
    return isinstance(profile, bytes) and profile[16:20] == space


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image.transpose(turn) if turn is not None else image


def _encode(image: Image.Image, header: Header, shrunk: bool, quality: int) -> tuple[bytes, str]:
    is_beyond_jpeg = max(image.size) > LARGEST_JPEG_SIDE
    if image.mode == "RGBA" or (header.lossless and not shrunk) or is_beyond_jpeg:
        return _png(image), "PNG"
    return _jpeg(image, quality if shrunk else _FAITHFUL_QUALITY), "JPEG"


def _png(image: Image.Image) -> bytes:
    out = BytesIO()
    image.save(out, "PNG", icc_profile=image.info.get("icc_profile"))
    return out.getvalue()


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = BytesIO()
    # Full colour resolution where nothing but the form is meant to change.
    subsampling = 0 if quality >= _FAITHFUL_QUALITY else 2
    profile = image.info.get("icc_profile")
    image.save(out, "JPEG", quality=quality, subsampling=subsampling, icc_profile=profile)
    return out.getvalue()


def _squeeze(image: Image.Image, options: ImageOptions) -> tuple[Image.Image, bytes]:
    """The image as a JPEG of at most ``max_bytes``: lower quality first, then fewer pixels."""
    limit = options.max_bytes
    image = _on_white(image)
    if max(image.size) > LARGEST_JPEG_SIDE:
        image = _smaller(image, LARGEST_JPEG_SIDE / max(image.size))
    if len(image.info.get("icc_profile", b"")) * 10 > limit:
        image.info = {}  # the profile alone would take most of the room
    qualities = (options.jpeg_quality, *(q for q in _QUALITY_STEPS if q < options.jpeg_quality))
    for _ in range(_SHRINK_ROUNDS):
        for quality in qualities:
            data = _jpeg(image, quality)
            if len(data) <= limit:
                return image, data
        image = _smaller(image, min(0.75, sqrt(limit / len(data))))
        qualities = qualities[-2:]  # higher ones cannot fit where these nearly did
    raise ImageError(f"cannot be made to fit into max_bytes ({limit:,}): raise it.", code="image_too_large")


def _smaller(image: Image.Image, scale: float) -> Image.Image:
    size = max(int(image.width * scale), 1), max(int(image.height * scale), 1)
    return image.resize(size, _FILTER, reducing_gap=2.0)


def _on_white(image: Image.Image) -> Image.Image:
    """JPEG knows no transparency: what shows through is white, as on a page."""
    if image.mode != "RGBA":
        return image
    page = Image.new("RGB", image.size, "white")
    page.paste(image, mask=image.getchannel("A"))
    page.info = dict(image.info)
    return page
