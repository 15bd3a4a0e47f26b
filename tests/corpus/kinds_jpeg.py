"""JPEG files: as cameras, editors, messengers and broken disks make them."""

from __future__ import annotations

import struct
from functools import cache

from kind import (
    CUT,
    NO_IMAGE,
    TOO_LARGE,
    Kind,
    cut,
    either,
    encoded,
    exif,
    noise,
    picture,
    refused,
    sent,
    shown,
    stored,
)
from PIL import Image

_SOF, _SOS, _DQT, _EOI = b"\xff\xc0", b"\xff\xda", b"\xff\xdb", b"\xff\xd9"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"


def jpeg(**options: object) -> bytes:
    """The picture as a plain file, with all of its colours."""
    return encoded(picture(), "JPEG", quality=95, subsampling=0, **options)


@cache
def _noisy() -> bytes:
    return encoded(noise(), "JPEG", quality=90)


def segment(marker: int, content: bytes, length: int | None = None) -> bytes:
    """One segment, with a length that may be wrong."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2 if length is None else length) + content


def _first(*segments: bytes) -> bytes:
    """The picture with segments right after its start."""
    plain = jpeg()
    return plain[:2] + b"".join(segments) + plain[2:]


def _before(marker: bytes, extra: bytes) -> bytes:
    """The picture with something before a marker."""
    plain = jpeg()
    at = plain.index(marker)
    return plain[:at] + extra + plain[at:]


def _turned(orientation: int) -> bytes:
    return encoded(stored(orientation), "JPEG", quality=95, subsampling=0, exif=exif(orientation))


def _turned_by(block: bytes, orientation: int = 6) -> bytes:
    """The picture turned, with a block that says so in its own way."""
    plain = encoded(stored(orientation), "JPEG", quality=95, subsampling=0)
    return plain[:2] + segment(0xE1, block) + plain[2:]


def _patched(at: bytes, offset: int, value: bytes) -> bytes:
    """The picture with bytes changed that stand at an offset from a marker."""
    plain = jpeg()
    start = plain.index(at) + offset
    return plain[:start] + value + plain[start + len(value) :]


def _second_frame() -> bytes:
    plain = jpeg()
    start = plain.index(_SOF)
    (length,) = struct.unpack_from(">H", plain, start + 2)
    return _before(_SOS, plain[start : start + 2 + length])


def _sized(width: int, height: int) -> bytes:
    return _patched(_SOF, 5, struct.pack(">HH", height, width))


def _thumbnail_and_cut() -> bytes:
    """A photo cut off half way, whose thumbnail has an end."""
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\0" + jpeg()
    return cut(encoded(noise(), "JPEG", exif=block), 60)


def _ycck() -> bytes:
    plain = encoded(picture("CMYK"), "JPEG", quality=95)
    at = plain.index(b"Adobe") + 11
    return plain[:at] + b"\x02" + plain[at + 1 :]


def _no_adobe() -> bytes:
    """Inks without the marker that says how they are meant."""
    plain = encoded(picture("CMYK"), "JPEG", quality=95)
    at = plain.index(b"Adobe") - 4
    return plain[:at] + plain[at + 16 :]


def _mpo() -> bytes:
    return encoded(picture(), "MPO", save_all=True, append_images=[picture()], quality=95, subsampling=0)


def _scan_damaged() -> bytes:
    data = bytearray(_noisy())
    for at in range(len(data) // 2, len(data) // 2 + 400):
        data[at] = 0x55
    return bytes(data)


def _tables(marker: int, content: bytes, length: int | None = None) -> bytes:
    return _before(_SOF, segment(marker, content, length))


def _without(marker: bytes) -> bytes:
    plain = jpeg()
    while (at := plain.find(marker)) >= 0:
        (length,) = struct.unpack_from(">H", plain, at + 2)
        plain = plain[:at] + plain[at + 2 + length :]
    return plain


def _one_pixel(width: int, height: int) -> bytes:
    return encoded(Image.new("RGB", (width, height), "red"), "JPEG")


def _huge_exif() -> bytes:
    return _turned_by(exif(6) + bytes(65_000))


KINDS: tuple[Kind, ...] = (
    shown("jpeg_baseline.jpg", "the plain case", jpeg),
    shown("jpeg_progressive.jpg", "in several scans", lambda: jpeg(progressive=True)),
    shown("jpeg_optimised.jpg", "with Huffman tables of its own", lambda: jpeg(optimize=True)),
    sent("jpeg_grey.jpg", "one channel", lambda: encoded(picture("L"), "JPEG")),
    shown(
        "jpeg_restart_markers.jpg", "a restart marker after each block", lambda: jpeg(restart_marker_blocks=1)
    ),
    shown(
        "jpeg_420.jpg", "colours at a quarter of the size", lambda: encoded(picture(), "JPEG", subsampling=2)
    ),
    shown("jpeg_keep_rgb.jpg", "RGB, not YCbCr", lambda: jpeg(keep_rgb=True)),
    shown("jpeg_cmyk.jpg", "inks, with Adobe's marker", lambda: encoded(picture("CMYK"), "JPEG", quality=95)),
    sent("jpeg_ycck.jpg", "inks as YCCK by Adobe's marker", _ycck),
    sent("jpeg_cmyk_no_adobe.jpg", "inks without Adobe's marker", _no_adobe),
    shown(
        "jpeg_adobe_marker.jpg",
        "Adobe's marker on YCbCr",
        lambda: _first(segment(0xEE, b"Adobe\0d\0\0\0\0\x01")),
    ),
    shown("jpeg_short_adobe.jpg", "Adobe's marker cut short", lambda: _first(segment(0xEE, b"Adobe"))),
    shown(
        "jpeg_short_jfif.jpg",
        "a JFIF marker that holds its name only",
        lambda: _first(segment(0xE0, b"JFIF")),
    ),
    either(
        "jpeg_arithmetic.jpg", "says arithmetic coding (patched)", lambda: _patched(_SOF, 0, b"\xff\xc9"), CUT
    ),
    either(
        "jpeg_lossless.jpg", "says lossless coding (patched)", lambda: _patched(_SOF, 0, b"\xff\xc3"), CUT
    ),
    either(
        "jpeg_hierarchical.jpg", "says hierarchical (patched)", lambda: _patched(_SOF, 0, b"\xff\xc5"), CUT
    ),
    refused("jpeg_12_bit.jpg", "says 12 bits a channel (patched)", lambda: _patched(_SOF, 4, b"\x0c"), CUT),
    refused("jpeg_0_bit.jpg", "says no bits a channel", lambda: _patched(_SOF, 4, b"\x00"), CUT),
    refused(
        "jpeg_two_channels.jpg", "says two channels", lambda: _patched(_SOF, 9, b"\x02"), CUT, hidden=True
    ),
    *(
        shown(f"jpeg_orientation_{o}.jpg", f"EXIF orientation {o}", lambda o=o: _turned(o))
        for o in range(1, 9)
    ),
    shown("jpeg_orientation_intel.jpg", "EXIF of the other byte order", lambda: _turned_by(exif(6, "<"))),
    shown(
        "jpeg_orientation_far.jpg",
        "EXIF whose table stands far behind",
        lambda: _turned_by(exif(6, offset=90)),
    ),
    shown(
        "jpeg_orientation_xmp.jpg",
        "orientation in XMP only",
        lambda: _turned_by(_XMP + b'<rdf:Description tiff:Orientation="6"/>'),
    ),
    sent("jpeg_orientation_long.jpg", "orientation of another type", lambda: _turned_by(exif(6, kind=4))),
    shown(
        "jpeg_orientation_0.jpg", "an orientation that does not exist", lambda: _first(segment(0xE1, exif(0)))
    ),
    shown("jpeg_orientation_9.jpg", "another one", lambda: _first(segment(0xE1, exif(9)))),
    shown("jpeg_huge_exif.jpg", "EXIF of 65,000 bytes, turned", _huge_exif),
    shown(
        "jpeg_two_exif.jpg",
        "two blocks of EXIF: the first counts",
        lambda: _first(segment(0xE1, exif(1)), segment(0xE1, exif(1))),
    ),
    shown(
        "jpeg_broken_exif.jpg",
        "EXIF that points nowhere",
        lambda: _first(segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")),
    ),
    shown("jpeg_empty_exif.jpg", "EXIF that is only its name", lambda: _first(segment(0xE1, b"Exif\0\0"))),
    shown(
        "jpeg_noise_exif.jpg",
        "EXIF of noise",
        lambda: _first(segment(0xE1, b"Exif\0\0" + noise(20, 20).tobytes())),
    ),
    shown(
        "jpeg_cyclic_exif.jpg",
        "EXIF whose table is followed by itself",
        lambda: _first(segment(0xE1, exif(1)[:-4] + struct.pack(">I", 8))),
    ),
    shown(
        "jpeg_icc.jpg",
        "a colour profile that is noise",
        lambda: _first(segment(0xE2, b"ICC_PROFILE\0\x01\x01" + bytes(400))),
    ),
    shown(
        "jpeg_icc_missing_part.jpg",
        "the second of three parts of a profile",
        lambda: _first(segment(0xE2, b"ICC_PROFILE\0\x02\x03" + bytes(90))),
    ),
    shown(
        "jpeg_icc_short.jpg", "a profile without its numbers", lambda: _first(segment(0xE2, b"ICC_PROFILE\0"))
    ),
    shown(
        "jpeg_photoshop_broken.jpg",
        "Photoshop's block cut short",
        lambda: _first(segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\xff")),
    ),
    shown(
        "jpeg_mpf_broken.jpg",
        "a table of pictures that is noise",
        lambda: _first(segment(0xE2, b"MPF\0II*\0" + b"\xff" * 60)),
    ),
    shown(
        "jpeg_many_segments.jpg",
        "500 application segments",
        lambda: _first(*[segment(0xE0 + n % 16, b"some") for n in range(1, 500) if n % 16]),
    ),
    shown(
        "jpeg_comment_padded.jpg",
        "a megabyte of comments",
        lambda: _first(*[segment(0xFE, b" " * 65_000)] * 16),
    ),
    shown("jpeg_fill_bytes.jpg", "0xFF between the segments", lambda: _before(_DQT, b"\xff" * 40)),
    shown(
        "jpeg_stray_bytes.jpg", "other bytes between the segments", lambda: _before(_DQT, b"\0\x01\x02stray")
    ),
    shown("jpeg_stray_zeros.jpg", "zeros between the segments", lambda: _before(_DQT, bytes(8))),
    shown("jpeg_zero_length_segment.jpg", "a segment of length 0", lambda: _first(segment(0xEF, b"", 0))),
    shown("jpeg_one_length_segment.jpg", "a segment of length 1", lambda: _first(segment(0xEF, b"", 1))),
    refused(
        "jpeg_bad_segment_length.jpg",
        "a segment that is longer than the file",
        lambda: _first(segment(0xEF, b"", 60_000)),
        CUT,
        NO_IMAGE,
    ),
    either(
        "jpeg_short_segment_length.jpg",
        "a segment that is longer than it says",
        lambda: _first(segment(0xEF, b"hidden", 4)),
        CUT,
    ),
    refused(
        "jpeg_empty_table.jpg",
        "a quantisation table of length 0",
        lambda: _tables(0xDB, b"", 0),
        CUT,
        hidden=True,
    ),
    refused(
        "jpeg_short_table.jpg",
        "a quantisation table cut short",
        lambda: _tables(0xDB, b"\x00\x01\x02"),
        CUT,
        hidden=True,
    ),
    refused(
        "jpeg_bad_huffman.jpg",
        "a Huffman table that overflows",
        lambda: _tables(0xC4, b"\0" + b"\xff" * 16 + bytes(99)),
        CUT,
        hidden=True,
    ),
    refused("jpeg_no_quantisation.jpg", "no quantisation table", lambda: _without(_DQT), CUT, hidden=True),
    either(
        "jpeg_no_huffman.jpg",
        "no Huffman table, as in films",
        lambda: _without(b"\xff\xc4"),
        CUT,
        hidden=True,
    ),
    refused("jpeg_two_frames.jpg", "two frame headers", _second_frame, CUT, NO_IMAGE),
    refused("jpeg_no_frame.jpg", "no frame header", lambda: _without(_SOF), NO_IMAGE),
    refused(
        "jpeg_bad_frame_length.jpg",
        "a frame header that is too short",
        lambda: _patched(_SOF, 2, b"\0\x0a"),
        CUT,
        NO_IMAGE,
        hidden=True,
    ),
    refused(
        "jpeg_bad_scan_header.jpg",
        "a scan of five channels",
        lambda: _patched(_SOS, 4, b"\x05"),
        CUT,
        hidden=True,
    ),
    refused(
        "jpeg_bad_sampling.jpg",
        "a sampling factor of 15",
        lambda: _patched(_SOF, 11, b"\xff"),
        CUT,
        hidden=True,
    ),
    refused("jpeg_no_width.jpg", "a width of 0", lambda: _sized(0, 32), NO_IMAGE),
    refused(
        "jpeg_no_height.jpg", "a height of 0, to be told after the scan", lambda: _sized(48, 0), NO_IMAGE
    ),
    refused(
        "jpeg_65535_square.jpg",
        "4.3 thousand million pixels claimed",
        lambda: _sized(65535, 65535),
        TOO_LARGE,
    ),
    refused("jpeg_65535_wide.jpg", "wider than the library takes", lambda: _sized(65535, 32), TOO_LARGE, CUT),
    refused(
        "jpeg_65501_high.jpg", "higher than the library takes", lambda: _sized(48, 65501), TOO_LARGE, CUT
    ),
    sent("jpeg_65500_wide.jpg", "as wide as the library takes", lambda: _one_pixel(65500, 1)),
    either(
        "jpeg_taller_than_data.jpg",
        "says ten times the height that it has",
        lambda: _sized(48, 320),
        CUT,
        hidden=True,
    ),
    sent("jpeg_one_pixel.jpg", "1 x 1", lambda: _one_pixel(1, 1)),
    shown("jpeg_trailing_garbage.jpg", "noise behind the end", lambda: jpeg() + noise(60, 60).tobytes()),
    shown("jpeg_trailing_zip.jpg", "an archive behind the end", lambda: jpeg() + b"PK\x05\x06" + bytes(18)),
    shown("jpeg_trailing_jpeg.jpg", "a second file behind the end", lambda: jpeg() + _noisy()),
    shown(
        "jpeg_trailing_film.jpg",
        "a motion photo: a film behind the end",
        lambda: jpeg() + b"\0\0\0\x18ftypmp42" + bytes(900),
    ),
    refused("jpeg_missing_end.jpg", "no EOI", lambda: jpeg()[:-2], CUT),
    refused("jpeg_end_cut.jpg", "half of the EOI", lambda: jpeg()[:-1], CUT),
    refused("jpeg_thumbnail_and_cut.jpg", "cut off, with a whole thumbnail", _thumbnail_and_cut, CUT),
    either(
        "jpeg_end_in_middle.jpg",
        "cut off, then given an end",
        lambda: cut(_noisy(), 50) + _EOI,
        CUT,
        hidden=True,
    ),
    either("jpeg_scan_damaged.jpg", "a damaged scan", _scan_damaged, CUT, hidden=True),
    either(
        "jpeg_no_scan_data.jpg",
        "a scan without a byte",
        lambda: jpeg()[: jpeg().index(_SOS) + 14] + _EOI,
        CUT,
        hidden=True,
    ),
    refused("jpeg_start_only.jpg", "nothing but a start", lambda: b"\xff\xd8\xff", CUT, NO_IMAGE),
    refused("jpeg_start_and_end.jpg", "a start and an end", lambda: b"\xff\xd8\xff\xd9", CUT, NO_IMAGE),
    refused(
        "jpeg_only_fill.jpg",
        "a start and 0xFF for ever",
        lambda: b"\xff\xd8" + b"\xff" * 100_000,
        CUT,
        NO_IMAGE,
    ),
    refused(
        "jpeg_zeroed.jpg",
        "the second half is zeros, as after a crash",
        lambda: cut(_noisy(), 50) + bytes(len(_noisy()) // 2),
        CUT,
    ),
    refused(
        "jpeg_text_mode.jpg",
        "line ends translated on the way",
        lambda: _noisy().replace(b"\n", b"\r\n").replace(_SOF, b"\xff\xc0\r"),
        CUT,
        NO_IMAGE,
        hidden=True,
    ),
    shown("mpo.mpo", "two pictures, of a 3D camera", _mpo),
    either("mpo_cut.mpo", "the second picture is cut off", lambda: cut(_mpo(), 75), CUT),
    *(
        refused(f"jpeg_cut_{p:02}.jpg", f"cut off after {p} %", lambda p=p: cut(_noisy(), p), CUT, NO_IMAGE)
        for p in (1, 2, 5, 10, 25, 50, 75, 90, 99)
    ),
    *(
        refused(
            f"jpeg_progressive_cut_{p:02}.jpg",
            f"in several scans, cut off after {p} %",
            lambda p=p: cut(encoded(noise(), "JPEG", progressive=True), p),
            CUT,
        )
        for p in (20, 50, 80, 99)
    ),
)
