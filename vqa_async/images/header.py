"""What an image file says of itself: format, size, how it is turned, whether it is whole. Pure, over bytes.

Nothing here decodes a pixel, opens a file or imports the imaging library. The four formats that every
vision API takes (JPEG, PNG, GIF, WebP) are walked from the first marker to the end of the image, which is
fast enough for every record and finds files that were cut off. The name of a file is never looked at:
its content decides.

Errors are ``ImageError`` whose message continues "Image 'a.png' ..."; who knows the name puts it in front.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from vqa_async.errors import ImageError
from vqa_async.images.png import essential_chunks, read_image_header, read_metadata
from vqa_async.images.tiff import essential_tags

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)

# Recognised only to say so: their decoders are never run.
_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\2\0", "CUR"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"DDS ", "DDS"),
    (b"BLP1", "BLP"),
    (b"BLP2", "BLP"),
    (b"qoif", "QOI"),
    (b"icns", "ICNS"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"SIMPLE  =", "FITS"),
)
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])[\"'<]")
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


class Header(NamedTuple):
    """What the start and the structure of an image file say.

    Attributes:
        format: JPEG, PNG, GIF, WEBP, BMP, TIFF, AVIF or HEIF.
        width: pixels as stored, before turning.
        height: pixels as stored, before turning.
        orientation: EXIF orientation, 1 to 8; 1 is upright.
        sendable: whether an API can be expected to take the file as it is, were it upright.
        lossless: whether the pixels were stored without loss.
        cmyk: whether a JPEG holds four channels of ink.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    sendable: bool = False
    lossless: bool = False
    cmyk: bool = False

    @property
    def mime(self) -> str:
        """The MIME type of the content."""
        return f"image/{self.format.lower()}"

    @property
    def sideways(self) -> bool:
        """Whether width and height change places when the image is turned upright."""
        return self.orientation >= 5


def sniff(data: bytes) -> str:
    """The format that the content has.

    Raises:
        ImageError: it is empty, no image, or an image of a kind that is not taken.
    """
    if not data:
        raise ImageError("is empty (0 bytes): download or copy it again.", code="not_an_image")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and (found := _sniff_boxes(data)):
        return found
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    raise _refusal(data)


def _sniff_boxes(data: bytes) -> str | None:
    """AVIF or HEIF, which share one container: the brands in its first box tell them apart."""
    brands = {data[at : at + 4] for at in range(8, min(int.from_bytes(data[:4], "big"), 128), 4)}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIF" if data[8:12] in _HEIF_BRANDS else None


def _refusal(data: bytes) -> ImageError:
    name = next((name for signature, name in _REFUSED if data.startswith(signature)), None)
    start = data[:1024].lstrip()
    if name is None and (start.startswith(b"<svg") or (start.startswith(b"<?xml") and b"<svg" in start)):
        name = "SVG"
    if name is None:
        return ImageError("is not an image: its content is of no known image format.", code="not_an_image")
    return ImageError(
        f"is a {name} file, which is not taken: convert it to PNG or JPEG.", code="format_not_allowed"
    )


def read_header(data: bytes, format: str) -> Header:
    """Walk a JPEG, PNG, GIF or WebP file from its start to the end of the image.

    Args:
        data: the whole file.
        format: what ``sniff`` found.

    Raises:
        ImageError: the file is cut off or does not follow its format.
    """
    try:
        header = _READERS[format](data)
    except (struct.error, IndexError):  # a field was expected beyond the end of the file
        raise cut_off(data) from None
    if not header.width or not header.height:
        raise ImageError("is damaged: its header gives no size.", code="not_an_image")
    return header


def cut_off(data: bytes) -> ImageError:
    """The error for a file that ends too early."""
    return ImageError(
        f"is cut off after {len(data):,} bytes: download or copy it again.", code="truncated_image"
    )


_WHOLE_NUMBERS = {3: "H", 4: "I"}
"""Types that an orientation is read from: the right one, and one that libraries take as well."""


def exif_orientation(exif: bytes) -> int:
    """The orientation in a block of EXIF, 1 where it is absent or the block is broken."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, at)
            if tag == 0x0112:
                (value,) = struct.unpack_from(order + _WHOLE_NUMBERS.get(kind, "H"), exif, at + 8)
                return value if kind in _WHOLE_NUMBERS and 1 <= value <= 8 else 1
    except struct.error:
        pass  # broken EXIF is common and says nothing about the pixels
    return 1


def _xmp_orientation(xmp: bytes) -> int:
    found = _XMP_ORIENTATION.search(xmp)
    return int(found[1]) if found else 1


def _orientation(exif: bytes, xmp: bytes) -> int:
    """EXIF decides where it says anything but upright, as in the libraries that servers use."""
    turned = exif_orientation(exif) if exif else 1
    return turned if turned != 1 or not xmp else _xmp_orientation(xmp)


# JPEG ------------------------------------------------------------------------------------------------

_EOI = b"\xff\xd9"
_SOS = 0xDA
_STRAY = 0
_LONE = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
"""Markers without a length."""
_NO_FILL = re.compile(rb"[^\xff]")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_COMMON_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive: what every decoder reads


def _after_fill(data: bytes, at: int) -> int:
    """Where the next byte stands that is not 0xFF: in one step, for there may be millions of them."""
    found = _NO_FILL.search(data, at)
    if found is None:
        raise cut_off(data)
    return found.start()


def _jpeg_segments(
    data: bytes, wanted: frozenset[int] = frozenset(range(256))
) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment up to the first scan, the marker's own two bytes included.

    Going from segment to segment by their lengths steps over an embedded thumbnail with its own markers.
    Of the markers, those that are ``wanted`` are given, and the scan; and stray bytes between segments, as
    _STRAY.
    """
    at = end = 2
    while True:
        if data[at] != 0xFF:  # stray bytes between segments are skipped, as decoders do
            at = data.find(b"\xff", at)
            if at < 0:
                raise cut_off(data)
        marker = data[at + 1]
        if marker == 0xFF:
            at = _after_fill(data, at) - 1
        elif marker in _LONE:
            at += 2
        else:
            if at != end and data[end:at].strip(b"\xff"):
                yield _STRAY, end, at
            length = data[at + 2] << 8 | data[at + 3]
            end = at + 2 + length
            if marker in wanted:
                yield marker, at, end
            if marker == _SOS:
                return
            at = end if length > 2 else at + 4


LARGEST_JPEG_SIDE = 65_500
"""Pixels that libjpeg reads and writes across and down, whatever the format could say."""

_LEAST = {0xE0: (b"JFIF", 14), 0xE2: (b"ICC_PROFILE\0", 14), 0xEE: (b"Adobe", 12)}
"""Segments that decoders read: by marker the name, and the bytes that they expect at least."""

_TELLING = _FRAMES | _LEAST.keys() | {0xE1, _SOS}
"""Markers of segments that say something of the image as a whole."""


def _is_too_short(data: bytes, marker: int, start: int, end: int) -> bool:
    """Whether a segment that is listed has less than its name promises: some decoders fail there."""
    name, least = _LEAST[marker]
    return end - start - 4 < least and data.startswith(name, start + 4)


def _read_jpeg(data: bytes) -> Header:
    frame: tuple[int, int, int, int, int] | None = None
    exif = xmp = b""
    is_plain = True
    for marker, start, end in _jpeg_segments(data, _TELLING):
        if marker == _STRAY or (marker in _LEAST and _is_too_short(data, marker, start, end)):
            is_plain = False  # stray bytes, or a segment that not every decoder forgives
        if marker in _FRAMES:
            if frame is not None:
                raise ImageError("is damaged: a JPEG file with two frame headers.", code="truncated_image")
            frame = (marker, *struct.unpack_from(">BHHB", data, start + 4))
            is_plain &= end - start == 10 + 3 * frame[4]
        elif marker == 0xE1 and data.startswith(b"Exif\0\0", start + 4):
            exif = exif or data[start + 4 : end]
        elif marker == 0xE1 and data.startswith(b"http://ns.adobe.com/xap/1.0/\0", start + 4):
            xmp = xmp or data[start + 4 : end]
    if frame is None:
        raise ImageError("is damaged: a JPEG file without a frame header.", code="not_an_image")
    # In a scan 0xFF is always followed by a stuffed zero or a restart marker, so this is a real end.
    # Sought from the back, where it is in every whole file.
    if data.rfind(_EOI, end) < 0:
        raise cut_off(data)
    marker, depth, height, width, channels = frame
    if max(width, height) > LARGEST_JPEG_SIDE:
        raise ImageError(
            f"has {width:,} x {height:,} pixels, and JPEG decoders take {LARGEST_JPEG_SIDE:,} a side at "
            "most: save it as PNG or shrink it.",
            code="image_too_large",
        )
    return Header(
        "JPEG",
        width,
        height,
        _orientation(exif, xmp),
        sendable=is_plain and marker in _COMMON_FRAMES and depth == 8 and channels in (1, 3),
        cmyk=channels == 4,
    )


def _essential_jpeg(data: bytes) -> bytes:
    pieces = [data[:2]]
    scan = 2
    for marker, start, scan in _jpeg_segments(data):
        if marker == _STRAY:
            continue
        described = 0xE0 <= marker <= 0xEF or marker == 0xFE
        # JFIF and Adobe say how the colours are meant; a colour profile is kept for the output.
        meant = marker in (0xE0, 0xEE) or data.startswith(b"ICC_PROFILE\0", start + 4)
        if not described or (meant and not (marker in _LEAST and _is_too_short(data, marker, start, scan))):
            pieces.append(data[start:scan])
    pieces.append(data[scan:])
    return b"".join(pieces)


# PNG -------------------------------------------------------------------------------------------------


def _read_png(data: bytes) -> Header:
    first = read_image_header(data)
    said = read_metadata(data, first)
    return Header(
        "PNG",
        first.width,
        first.height,
        _orientation(said.exif, said.xmp),
        sendable=first.depth <= 8
        and said.is_plain,  # not every decoder behind an API takes 16 bits a channel
        lossless=True,
    )


# GIF -------------------------------------------------------------------------------------------------


def _after_blocks(data: bytes, at: int) -> int:
    """The position after a chain of sub-blocks."""
    while length := data[at]:
        at += 1 + length
    return at + 1


def _after_table(flags: int, at: int) -> int:
    """The position after a colour table, where the flags announce one."""
    return at + (3 << ((flags & 7) + 1)) if flags & 0x80 else at


def _read_gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = _after_table(flags, 13)
    frames = 0
    is_empty = False
    while (kind := data[at]) != 0x3B:
        if kind == 0x2C:
            left, top, w, h, flags = struct.unpack_from("<HHHHB", data, at + 1)
            if not frames:  # decoders grow the canvas where the first frame does not fit
                width, height = max(width, left + w), max(height, top + h)
                is_empty = not w or not h
            frames += 1
            at = _after_blocks(data, _after_table(flags, at + 10) + 1)
        elif kind == 0x21:
            at = _after_blocks(data, at + 2)
        elif kind == 0:
            at += 1  # padding between blocks, which decoders skip
        else:
            raise ImageError("is damaged: a GIF file with an unknown block.", code="not_an_image")
    if not frames:
        raise ImageError("is damaged: a GIF file without pixels.", code="not_an_image")
    return Header("GIF", width, height, sendable=frames == 1 and not is_empty, lossless=True)


# WebP ------------------------------------------------------------------------------------------------


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of the content of each chunk."""
    stop = 8 + int.from_bytes(data[4:8], "little")
    if stop > len(data):
        raise cut_off(data)
    at = 12
    while at + 8 <= stop:
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > stop:
            raise cut_off(data)
        yield kind, at + 8, at + 8 + length
        at += 8 + length + (length & 1)


def _webp_size(data: bytes, kind: bytes, start: int, end: int) -> tuple[int, int] | None:
    """The size that a chunk gives, None where it is of another kind or broken."""
    content = data[start : min(end, start + 10)]
    if kind == b"VP8X" and len(content) == 10:
        return int.from_bytes(content[4:7], "little") + 1, int.from_bytes(content[7:], "little") + 1
    if kind == b"VP8L" and len(content) >= 5 and content[0] == 0x2F:
        (bits,) = struct.unpack_from("<I", content, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a" and len(content) == 10:
        width, height = struct.unpack_from("<HH", content, 6)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _read_webp(data: bytes) -> Header:
    chunks = {kind: (start, end) for kind, start, end in _webp_chunks(data)}
    first = data[12:16]
    canvas = _webp_size(data, first, *chunks[first]) if first in chunks else None
    if canvas is None:
        raise ImageError("is damaged: a WebP file without an image.", code="not_an_image")
    pixels = chunks.keys() & {b"VP8 ", b"VP8L", b"ANMF"}
    if not pixels:
        raise ImageError("is damaged: a WebP file without pixels.", code="not_an_image")
    exif, xmp = (data[slice(*chunks.get(kind, (0, 0)))] for kind in (b"EXIF", b"XMP "))
    return Header(
        "WEBP",
        *canvas,
        _orientation(exif, xmp),
        # One image, and as large as the canvas; what else there may be is left to the decoder.
        sendable=all(_webp_size(data, kind, *chunks[kind]) == canvas for kind in pixels),
        lossless=b"VP8L" in chunks,
    )


_READERS = {"JPEG": _read_jpeg, "PNG": _read_png, "GIF": _read_gif, "WEBP": _read_webp}
NATIVE = frozenset(_READERS)
"""Formats that every vision API takes, and that ``read_header`` reads."""


def essential(data: bytes, format: str) -> bytes:
    """The file without what a decoder does not need: EXIF, text, thumbnails, further frames of a PNG.

    Broken or hostile metadata then cannot fail an image whose pixels are fine.

    Raises:
        ImageError: a TIFF file whose tags hold more than the file does.
    """
    strip = {"JPEG": _essential_jpeg, "PNG": essential_chunks, "TIFF": essential_tags}.get(format)
    return strip(data) if strip else data
