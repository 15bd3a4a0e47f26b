"""The chunks of a PNG file: walked, judged, thinned out to what a decoder needs. Pure, over bytes.

Decoders differ in what they forgive: a broken text, a profile that unpacks to gigabytes or a wrong checksum
is nothing to one of them and fails the whole image at another. A file goes out as it is only where all of its
chunks are plain; any other is decoded from its essential chunks and written anew.

Where a file ends too early, ``struct.error`` is raised, which ``header.py`` turns into its own words.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from vqa_async.errors import ImageError

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
_LENGTHS = {b"gAMA": 4, b"sRGB": 1, b"cHRM": 32, b"pHYs": 9, b"IEND": 0}
_TRANSPARENCY = {0: range(2, 3), 2: range(6, 7), 3: range(1, 257)}
"""Lengths that tRNS may have, by colour type; the others have none."""

_MOST_TEXT = 1 << 20
"""Bytes that a text or profile may unpack to. Pillow, which many servers use, fails beyond it."""

_MOST_TEXTS = 64 * _MOST_TEXT
"""The same for all texts together."""

_STEP = 1 << 20
"""Bytes of pixels unpacked at once where they are only counted."""

_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Interlaced: left, top, step across, step down."""


class Chunk(NamedTuple):
    """Where one chunk stands; start and end bound the whole of it, length and checksum included."""

    name: bytes
    start: int
    end: int


class ImageHeader(NamedTuple):
    """What the first chunk says."""

    width: int
    height: int
    depth: int
    colour: int
    is_interlaced: bool

    @property
    def unpacked(self) -> int:
        """Bytes that the pixels unpack to, each row with its filter."""
        bits = self.depth * _CHANNELS[self.colour]
        passes = _PASSES if self.is_interlaced else ((0, 0, 1, 1),)
        total = 0
        for left, top, across, down in passes:
            width, height = -(-(self.width - left) // across), -(-(self.height - top) // down)
            if width > 0 and height > 0:
                total += height * (1 + (width * bits + 7) // 8)
        return total


class Metadata(NamedTuple):
    """What the chunks say, all of them seen.

    Attributes:
        exif: EXIF, wherever it was kept.
        xmp: XMP, unpacked.
        is_plain: whether every decoder can be expected to read the file as it is.
    """

    exif: bytes
    xmp: bytes
    is_plain: bool


def chunks(data: bytes) -> Iterator[Chunk]:
    """Each chunk up to IEND."""
    at = 8
    name = b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise struct.error
        yield Chunk(name, at, end)
        at = end


def read_image_header(data: bytes) -> ImageHeader:
    """The first chunk, which must be IHDR and make sense.

    Raises:
        ImageError: it is not, or does not.
    """
    width, height, depth, colour, packing, filtering, interlace = struct.unpack_from(">IIBBBBB4x", data, 16)
    if data[12:16] != b"IHDR":
        raise ImageError("is damaged: a PNG file without a header.", code="not_an_image")
    fits = data[8:12] == b"\0\0\0\x0d" and depth in _DEPTHS.get(colour, ())
    if (
        not fits
        or packing
        or filtering
        or interlace > 1
        or not _has_right_checksum(data, Chunk(b"IHDR", 8, 33))
    ):
        raise ImageError("is damaged: its header makes no sense.", code="not_an_image")
    return ImageHeader(width, height, depth, colour, bool(interlace))


def read_metadata(data: bytes, header: ImageHeader) -> Metadata:
    """Look at every chunk once.

    Raises:
        ImageError: there are no pixels, or no palette for them.
    """
    texts = _Texts()
    exif, is_plain, last, seen = b"", True, b"", set()
    for chunk in chunks(data):
        name = chunk.name
        if name == b"IDAT":  # most of the file: its checksum would cost more than all the rest of the work
            is_plain &= last == b"IDAT" or b"IDAT" not in seen
        else:
            is_plain &= _is_plain(data, chunk, header.colour) and not (name == b"IHDR" and name in seen)
        if name in _TEXTS or name == b"iCCP":
            texts.take(name, _content(data, chunk))
        elif name == b"eXIf":
            exif = _content(data, chunk)
        last = name
        seen.add(name)
    if b"IDAT" not in seen:
        raise ImageError("is damaged: a PNG file without pixels.", code="not_an_image")
    if header.colour == 3 and b"PLTE" not in seen:
        raise ImageError("is damaged: a PNG file without its palette.", code="not_an_image")
    return Metadata(exif or texts.exif, texts.xmp, is_plain and texts.are_plain)


def essential_chunks(data: bytes) -> bytes:
    """The file without what a decoder does not need: texts, times, further frames, what is not plain."""
    (colour,) = struct.unpack_from("B", data, 25)
    kept = [data[:33]]
    has_profile = False
    for chunk in chunks(data):
        is_kept = chunk.name in _CRITICAL and chunk.name != b"IHDR"
        if chunk.name == b"tRNS":
            is_kept = _is_plain(data, chunk, colour)
        elif chunk.name == b"iCCP" and not has_profile:  # the first: unpacking thousands could take for ever
            has_profile = True
            is_kept = read_text(b"iCCP", _content(data, chunk))[1] is not None
        if is_kept:
            kept.append(data[chunk.start : chunk.end])
    return b"".join(kept)


def check_pixel_data(data: bytes) -> None:
    """See that the pixels have the right checksums and are all there, which not every decoder looks at.

    Raises:
        ImageError: they are not.
    """
    missing = read_image_header(data).unpacked
    unpacker = zlib.decompressobj()
    for chunk in chunks(data):
        if chunk.name != b"IDAT":
            continue
        if not _has_right_checksum(data, chunk):
            raise ImageError("is damaged: the checksum of its pixels is wrong.", code="truncated_image")
        packed = _content(data, chunk)
        while packed and missing > 0 and not unpacker.eof:
            missing -= len(unpacker.decompress(packed, _STEP))
            packed = unpacker.unconsumed_tail
    if missing - len(unpacker.flush(_STEP)) > 0:
        raise ImageError("is damaged: some of its pixels are missing.", code="truncated_image")


def _content(data: bytes, chunk: Chunk) -> bytes:
    return data[chunk.start + 8 : chunk.end - 4]


def _has_right_checksum(data: bytes, chunk: Chunk) -> bool:
    return data[chunk.end - 4 : chunk.end] == struct.pack(
        ">I", zlib.crc32(memoryview(data)[chunk.start + 4 : chunk.end - 4])
    )


def _is_plain(data: bytes, chunk: Chunk, colour: int) -> bool:
    """Whether no decoder stumbles over a chunk that is not of pixels."""
    name, length = chunk.name, chunk.end - chunk.start - 12
    is_known = name in _CRITICAL or (
        name.isalpha() and name[:1].islower()
    )  # what begins small may be ignored
    if not is_known or name in _ANIMATION or not _has_right_checksum(data, chunk):
        return False
    if name in _LENGTHS:
        return length == _LENGTHS[name]
    if name == b"PLTE":
        return 3 <= length <= 768 and length % 3 == 0
    if name == b"tRNS":
        return length in _TRANSPARENCY.get(colour, ())
    return True


# Texts -----------------------------------------------------------------------------------------------

_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})


class _Texts:
    """What the texts and profiles of one file say, unpacked up to a bound over all of them.

    Attributes:
        are_plain: whether every decoder can be expected to unpack them.
    """

    def __init__(self) -> None:
        self.exif = self.xmp = b""
        self.are_plain = True
        self._unpacked = 0

    def take(self, name: bytes, content: bytes) -> None:
        """One more of them."""
        if self._unpacked > _MOST_TEXTS:
            self.are_plain = False
            return
        keyword, text = read_text(name, content)
        self._unpacked += _MOST_TEXT if text is None else len(text)
        if text is None:
            self.are_plain = False
        elif keyword == b"XML:com.adobe.xmp":
            self.xmp = text
        elif keyword == b"Raw profile type exif":  # as ImageMagick keeps it
            self._take_profile(text)

    def _take_profile(self, text: bytes) -> None:
        """EXIF as text: its name, its length, then hexadecimal digits."""
        try:
            self.exif = bytes.fromhex("".join(text.decode("ascii").split()[2:]))
        except ValueError:
            self.are_plain = False


def read_text(name: bytes, content: bytes) -> tuple[bytes, bytes | None]:
    """Keyword and content of a tEXt, zTXt, iTXt or iCCP chunk.

    The content is None where the chunk is malformed, or unpacks to nothing sensible or to too much.
    """
    keyword, found, rest = content.partition(b"\0")
    if name == b"tEXt":
        return keyword, rest
    if not keyword or not found:
        return keyword, None
    if name != b"iTXt":
        return keyword, _unpack(rest[1:]) if rest[:1] == b"\0" else None
    # Two numbers, whether and how it is packed; a language; the keyword in that language; the text.
    is_packed, parts = rest[:2], rest[2:].split(b"\0", 2)
    if len(parts) < 3 or is_packed not in (b"\0\0", b"\1\0"):
        return keyword, None
    return keyword, _unpack(parts[2]) if is_packed == b"\1\0" else parts[2]


def _unpack(packed: bytes) -> bytes | None:
    """What it unpacks to; None where it is broken, or larger than any text."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(packed, _MOST_TEXT)
    except zlib.error:
        return None
    return text if unpacker.eof else None
