"""BMP and TIFF files, written field by field: formats in which every number may lie."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import cache

from kind import (
    CUT,
    HEIGHT,
    NO_IMAGE,
    NOT_TAKEN,
    TOO_LARGE,
    WIDTH,
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

# BMP -------------------------------------------------------------------------------------------------


def _rows(bits: int, top_down: bool = False) -> bytes:
    """The pixels of the picture, from the bottom up, each row filled up to four bytes."""
    image = picture("RGBA" if bits == 32 else "RGB")
    data = image.tobytes("raw", "BGRA" if bits == 32 else "BGR")
    stride = WIDTH * bits // 8
    rows = [data[at : at + stride].ljust((stride + 3) // 4 * 4, b"\0") for at in range(0, len(data), stride)]
    return b"".join(rows if top_down else rows[::-1])


def bmp(
    pixels: bytes, bits: int, width: int = WIDTH, height: int = HEIGHT, packing: int = 0, colours: bytes = b""
) -> bytes:
    """A file with the common header of 40 bytes."""
    start = 54 + len(colours)
    head = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, packing, len(pixels), 2835, 2835, len(colours) // 4, 0
    )
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + colours + pixels


def _old_bmp() -> bytes:
    """As OS/2 wrote them: a header of 12 bytes."""
    pixels = _rows(24)
    head = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 24)
    return b"BM" + struct.pack("<IHHI", 26 + len(pixels), 0, 0, 26) + head + pixels


_COLOURS = struct.pack("<IIII", 0x808080, 0xFF0000, 0x00A000, 0x0000FF)  # grey, red, green, blue


def _packed(pixels: bytes, bits: int = 8) -> bytes:
    """Runs of equal pixels: 16 x 2, of which the first is red."""
    return bmp(pixels, bits, 16, 2, 1 if bits == 8 else 2, _COLOURS)


BMP: tuple[Kind, ...] = (
    shown("bmp_24_bit.bmp", "the plain case", lambda: bmp(_rows(24), 24)),
    shown("bmp_32_bit.bmp", "with a fourth byte", lambda: bmp(_rows(32), 32)),
    sent("bmp_8_bit.bmp", "a palette", lambda: encoded(picture("P"), "BMP")),
    sent("bmp_4_bit.bmp", "16 colours", lambda: bmp(b"\x11" * 8 * 2, 4, 16, 2, 0, _COLOURS)),
    sent("bmp_1_bit.bmp", "two colours", lambda: encoded(picture("1"), "BMP")),
    sent("bmp_16_bit.bmp", "five bits a channel", lambda: bmp(b"\x00\x7c" * 16 * 2, 16, 16, 2)),
    shown(
        "bmp_top_down.bmp",
        "a negative height: from the top",
        lambda: bmp(_rows(24, top_down=True), 24, height=-HEIGHT),
    ),
    shown("bmp_os2.bmp", "the old header of OS/2", _old_bmp),
    sent("bmp_rle8.bmp", "packed runs", lambda: _packed(b"\x10\x01\0\0\x10\x02\0\0\0\x01")),
    sent("bmp_rle4.bmp", "packed runs of 4 bits", lambda: _packed(b"\x10\x11\0\0\x10\x22\0\0\0\x01", 4)),
    either(
        "bmp_rle8_short.bmp",
        "packed runs that end too early",
        lambda: _packed(b"\x04\x01\0\x01"),
        CUT,
        NO_IMAGE,
    ),
    either(
        "bmp_rle8_long.bmp",
        "packed runs beyond the picture",
        lambda: _packed(b"\xff\x01" * 90 + b"\0\x01"),
        CUT,
        NO_IMAGE,
    ),
    either(
        "bmp_rle8_jump.bmp",
        "a jump far beyond the picture",
        lambda: _packed(b"\0\x02\xff\xff\x10\x01\0\x01"),
        CUT,
        NO_IMAGE,
    ),
    refused(
        "bmp_bomb.bmp", "6 million million pixels claimed", lambda: bmp(b"", 24, 2**31 - 1, 3000), TOO_LARGE
    ),
    refused(
        "bmp_square_bomb.bmp",
        "30,000 x 30,000, packed into nothing",
        lambda: bmp(b"\0\x01", 8, 30_000, 30_000, 1, _COLOURS),
        TOO_LARGE,
    ),
    either(
        "bmp_rle8_10000.bmp",
        "10,000 x 10,000, packed into nothing",
        lambda: bmp(b"\0\x01", 8, 10_000, 10_000, 1, _COLOURS),
        CUT,
        NO_IMAGE,
    ),
    refused(
        "bmp_negative_width.bmp",
        "a negative width",
        lambda: bmp(_rows(24), 24, -WIDTH),
        NO_IMAGE,
        CUT,
        TOO_LARGE,
    ),
    refused("bmp_no_size.bmp", "0 x 0", lambda: bmp(b"", 24, 0, 0), NO_IMAGE, CUT),
    refused(
        "bmp_lowest_height.bmp",
        "a height of -2^31",
        lambda: bmp(b"", 24, 9, -(2**31)),
        NO_IMAGE,
        TOO_LARGE,
        CUT,
    ),
    refused("bmp_bad_bits.bmp", "7 bits a pixel", lambda: bmp(_rows(24), 7), NO_IMAGE),
    refused(
        "bmp_bad_packing.bmp", "packed in an unknown way", lambda: bmp(_rows(24), 24, packing=99), NO_IMAGE
    ),
    refused(
        "bmp_jpeg_inside.bmp",
        "a JPEG inside",
        lambda: bmp(encoded(picture(), "JPEG"), 0, packing=4),
        NO_IMAGE,
    ),
    refused(
        "bmp_bad_header.bmp",
        "a header of 17 bytes",
        lambda: b"BM" + bytes(12) + b"\x11" + bytes(40),
        NO_IMAGE,
    ),
    refused("bmp_signature_only.bmp", "nothing but the signature", lambda: b"BM", NO_IMAGE),
    refused(
        "bmp_car.txt",
        "a text that begins with BM",
        lambda: b"BMW is a maker of cars, and this is a text.",
        NO_IMAGE,
    ),
    shown(
        "bmp_trailing_garbage.bmp", "noise behind the end", lambda: bmp(_rows(24), 24) + noise(9, 9).tobytes()
    ),
    *(
        refused(
            f"bmp_cut_{p:02}.bmp",
            f"cut off after {p} %",
            lambda p=p: cut(bmp(_rows(24), 24), p),
            CUT,
            NO_IMAGE,
        )
        for p in (1, 50, 99)
    ),
)

# TIFF ------------------------------------------------------------------------------------------------

_SHORT, _LONG = 3, 4


def tiff(
    tags: Mapping[int, int | Iterable[int]], pixels: bytes = b"", order: str = "<", follow: int = 0
) -> bytes:
    """A file: head, pixels at 8, the table of tags, what did not fit into it.

    ``follow`` is where the next table stands; -1 means this one again.
    """
    at = 8 + len(pixels)
    far, table = b"", b""
    for tag, value in sorted(tags.items()):
        values = [value] if isinstance(value, int) else list(value)
        packed = struct.pack(order + f"{len(values)}I", *values)
        if len(packed) > 4:
            place = at + 2 + 12 * len(tags) + 4 + len(far)
            far, packed = far + packed, struct.pack(order + "I", place)
        table += struct.pack(order + "HHI", tag, _LONG, len(values)) + packed
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, at)
    last = struct.pack(order + "I", at if follow < 0 else follow)
    return head + pixels + struct.pack(order + "H", len(tags)) + table + last + far


def plain(**changes: int) -> dict[int, int | Iterable[int]]:
    """The tags of the picture in RGB; changes are given as t256=9."""
    tags: dict[int, int | Iterable[int]] = {
        256: WIDTH,
        257: HEIGHT,
        258: (8, 8, 8),
        259: 1,
        262: 2,
        273: 8,
        277: 3,
        278: HEIGHT,
        279: WIDTH * HEIGHT * 3,
    }
    return {**tags, **{int(name[1:]): value for name, value in changes.items()}}


def _raw(order: str = "<", follow: int = 0, **changes: int) -> bytes:
    return tiff(plain(**changes), picture().tobytes(), order, follow)


def _tiled() -> bytes:
    """Six tiles of 16 x 16."""
    places = [(x, y) for y in range(0, HEIGHT, 16) for x in range(0, WIDTH, 16)]
    pixels = b"".join(picture().crop((x, y, x + 16, y + 16)).tobytes() for x, y in places)
    tags = plain(t322=16, t323=16)
    tags[324], tags[325] = [8 + 768 * n for n in range(6)], [768] * 6
    for tag in (273, 278, 279):
        del tags[tag]
    return tiff(tags, pixels)


def _saved(**options: object) -> bytes:
    return encoded(picture(), "TIFF", **options)


def _turned(orientation: int) -> bytes:
    return encoded(stored(orientation), "TIFF", tiffinfo={274: orientation})


def _measured() -> bytes:
    image = Image.linear_gradient("L").convert("F").point(lambda value: value * 0.01 - 1)
    return encoded(image, "TIFF")


def _not_a_number() -> bytes:
    values = struct.pack("<4f", float("nan"), float("inf"), 0.0, 1.0)
    return tiff({256: 2, 257: 2, 258: 32, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 16, 339: 3}, values)


@cache
def _packed_noise() -> bytes:
    return encoded(noise(), "TIFF", compression="tiff_lzw")


def _many_tags() -> bytes:
    """A table of 60,000 tags, each with all of the file before it."""
    entries = b"".join(struct.pack("<HHII", 1000 + n, 7, 700_000, 0) for n in range(60_000))
    return (struct.pack("<H", 60_000) + entries + bytes(4)).ljust(700_000, b"\0")


def _tag_bomb() -> bytes:
    return b"II*\0\x08\0\0\0" + _many_tags()


def _exif_bomb() -> bytes:
    start = len(_raw(t34665=0))
    return _raw(t34665=start) + _many_tags()


TIFF: tuple[Kind, ...] = (
    shown("tiff_little_endian.tif", "the plain case", _raw),
    shown("tiff_big_endian.tif", "the other byte order", lambda: _raw(">")),
    shown("tiff_tiled.tif", "in tiles", _tiled),
    shown("tiff_lzw.tif", "packed by LZW", lambda: _saved(compression="tiff_lzw")),
    shown("tiff_deflate.tif", "packed by deflate", lambda: _saved(compression="tiff_adobe_deflate")),
    shown("tiff_packbits.tif", "packed runs", lambda: _saved(compression="packbits")),
    shown("tiff_jpeg.tif", "a JPEG inside", lambda: _saved(compression="jpeg", quality=95)),
    sent(
        "tiff_fax.tif",
        "two colours, packed as by a fax",
        lambda: encoded(picture("1"), "TIFF", compression="group4"),
    ),
    shown("tiff_big.tif", "BigTIFF", lambda: _saved(big_tiff=True)),
    shown(
        "tiff_pages.tif",
        "three pages",
        lambda: _saved(save_all=True, append_images=[noise(9, 9), noise(9, 9)]),
    ),
    sent("tiff_16_bit.tif", "16 bits of grey", lambda: encoded(Image.new("I;16", (9, 9), 40_000), "TIFF")),
    sent("tiff_32_bit.tif", "32 bits of grey", lambda: encoded(Image.new("I", (9, 9), 70_000), "TIFF")),
    sent("tiff_float.tif", "measurements", _measured),
    either("tiff_not_a_number.tif", "measurements that are no numbers", _not_a_number, CUT, NO_IMAGE),
    shown("tiff_cmyk.tif", "inks", lambda: encoded(picture("CMYK"), "TIFF")),
    sent(
        "tiff_lab.tif",
        "lightness and two colours",
        lambda: encoded(Image.new("LAB", (9, 9), (128, 128, 128)), "TIFF"),
    ),
    shown("tiff_palette.tif", "a palette", lambda: encoded(picture().quantize(5), "TIFF")),
    shown("tiff_alpha.tif", "with alpha", lambda: encoded(picture("RGBA"), "TIFF")),
    *(shown(f"tiff_orientation_{o}.tif", f"orientation {o}", lambda o=o: _turned(o)) for o in range(1, 9)),
    shown("tiff_orientation_9.tif", "an orientation that does not exist", lambda: _raw(t274=9)),
    shown("tiff_broken_exif.tif", "a table of EXIF that is not there", lambda: _raw(t34665=10**9)),
    either("tiff_cyclic.tif", "a table that is followed by itself", lambda: _raw(follow=-1), CUT, NO_IMAGE),
    either("tiff_follow_far.tif", "a second table beyond the end", lambda: _raw(follow=10**9), CUT, NO_IMAGE),
    refused("tiff_bomb.tif", "60,000 x 60,000 claimed", lambda: _raw(t256=60_000, t257=60_000), TOO_LARGE),
    refused(
        "tiff_largest_claim.tif",
        "2^64 pixels claimed",
        lambda: _raw(t256=2**32 - 1, t257=2**32 - 1),
        TOO_LARGE,
        NO_IMAGE,
    ),
    refused("tiff_no_size.tif", "0 x 0", lambda: _raw(t256=0, t257=0), NO_IMAGE, CUT),
    refused("tiff_no_tags.tif", "an empty table", lambda: tiff({}), NO_IMAGE),
    refused("tiff_bad_packing.tif", "packed in an unknown way", lambda: _raw(t259=777), CUT, NO_IMAGE),
    refused("tiff_strip_far.tif", "pixels beyond the end", lambda: _raw(t273=10**9), CUT, NO_IMAGE),
    refused(
        "tiff_many_bits.tif", "64 bits a channel", lambda: tiff({**plain(), 258: (64, 64, 64)}), NO_IMAGE
    ),
    refused("tiff_many_channels.tif", "60,000 channels", lambda: _raw(t277=60_000), CUT, NO_IMAGE),
    either(
        "tiff_many_values.tif",
        "a tag of 2^31 values",
        lambda: _raw()[:-30] + struct.pack("<I", 2**31) * 7 + b"xx",
        CUT,
        NO_IMAGE,
        TOO_LARGE,
    ),
    refused("tiff_tag_bomb.tif", "60,000 tags of 700 kB each, all the same", _tag_bomb, NO_IMAGE),
    shown("tiff_exif_bomb.tif", "the same within EXIF", _exif_bomb),
    refused(
        "tiff_table_far.tif", "a table beyond the end", lambda: b"II*\0\xff\xff\xff\x7f" + bytes(90), NO_IMAGE
    ),
    refused(
        "tiff_table_itself.tif",
        "a table that begins within the head",
        lambda: b"II*\0\0\0\0\0" + bytes(90),
        NO_IMAGE,
        CUT,
    ),
    refused("tiff_signature_only.tif", "nothing but the signature", lambda: b"II*\0", NO_IMAGE),
    refused(
        "tiff_exif_only.tif", "the EXIF of a photo without the photo", lambda: exif(6)[6:], NO_IMAGE, CUT
    ),
    refused(
        "tiff_raw_photo.dng",
        "the start of a raw photo",
        lambda: tiff({254: 1, 271: 0, 50706: 17}),
        NO_IMAGE,
        CUT,
        NOT_TAKEN,
    ),
    sent(
        "tiff_70000_wide.tif",
        "wider than a JPEG can be",
        lambda: encoded(Image.new("RGB", (70_000, 1), "red"), "TIFF"),
    ),
    *(
        refused(
            f"tiff_cut_{p:02}.tif", f"cut off after {p} %", lambda p=p: cut(_packed_noise(), p), CUT, NO_IMAGE
        )
        for p in (1, 10, 50, 90)
    ),
)

KINDS = BMP + TIFF
