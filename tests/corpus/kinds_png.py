"""PNG files: every depth and colour type, written chunk by chunk, and what goes wrong with chunks."""

from __future__ import annotations

import struct
import zlib
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

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"


def chunk(name: bytes, content: bytes, crc: int | None = None) -> bytes:
    """One chunk, with a checksum that may be wrong."""
    right = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", right if crc is None else crc)


def ihdr(width: int = WIDTH, height: int = HEIGHT, depth: int = 8, colour: int = 2, *rest: int) -> bytes:
    """The header chunk; the rest are compression, filter and interlace."""
    return chunk(b"IHDR", struct.pack(">IIBB3B", width, height, depth, colour, *(rest or (0, 0, 0))))


def _rows(data: bytes, stride: int) -> bytes:
    """Rows as they are stored, without a filter."""
    return b"".join(b"\0" + data[at : at + stride] for at in range(0, len(data), stride))


@cache
def _pixels() -> bytes:
    return zlib.compress(_rows(picture().tobytes(), WIDTH * 3))


def png(*before: bytes, after: bytes = b"", idat: bytes | None = None) -> bytes:
    """The picture with chunks before and after its pixels."""
    data = _pixels() if idat is None else idat
    return SIGNATURE + ihdr() + b"".join(before) + chunk(b"IDAT", data) + after + _END


def _grey(depth: int) -> bytes:
    """A grey ramp of 1, 2, 4, 8 or 16 bits."""
    stride = (16 * depth + 7) // 8
    row = bytes((at * 255 // max(stride - 1, 1)) & 0xFF for at in range(stride))
    head = SIGNATURE + ihdr(16, 4, depth, 0)
    return head + chunk(b"IDAT", zlib.compress(_rows(row * 4, stride))) + _END


def _wide(colour: int, channels: int) -> bytes:
    """The picture in 16 bits a channel, where it has colours."""
    mode = {2: "RGB", 4: "LA", 6: "RGBA"}[colour]
    data = bytes(byte for value in picture(mode).tobytes() for byte in (value, value))
    head = SIGNATURE + ihdr(depth=16, colour=colour)
    return head + chunk(b"IDAT", zlib.compress(_rows(data, WIDTH * channels * 2))) + _END


def _interlaced() -> bytes:
    """Adam7: the picture in seven passes."""
    image, out = picture(), bytearray()
    passes = (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )
    for left, top, across, down in passes:
        for y in range(top, HEIGHT, down):
            out += b"\0"
            for x in range(left, WIDTH, across):
                out += bytes(image.getpixel((x, y)))
    return SIGNATURE + ihdr(WIDTH, HEIGHT, 8, 2, 0, 0, 1) + chunk(b"IDAT", zlib.compress(bytes(out))) + _END


def _palette(bits: int, **options: object) -> bytes:
    return encoded(picture().quantize(5), "PNG", bits=bits, **options)


def _turned(orientation: int) -> bytes:
    return encoded(stored(orientation), "PNG", exif=exif(orientation))


def _unpacked(name: bytes, size: int, label: bytes) -> bytes:
    """A chunk that unpacks to that many bytes."""
    return chunk(name, label + zlib.compress(bytes(size), 9))


def _animated() -> bytes:
    return encoded(picture(), "PNG", save_all=True, append_images=[picture().rotate(180)], duration=100)


def _flat(width: int, height: int, colour: int = 0, depth: int = 8, turned: int = 0) -> bytes:
    """One colour, made row by row: little to store, much to decode."""
    row = b"\0" + bytes((width * depth * {0: 1, 2: 3, 6: 4}[colour] + 7) // 8)
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    tag = chunk(b"eXIf", exif(turned)[6:]) if turned else b""
    return SIGNATURE + ihdr(width, height, depth, colour) + tag + chunk(b"IDAT", data) + _END


def _wide_line(width: int, height: int) -> bytes:
    return encoded(Image.new("RGB", (width, height), "red"), "PNG")


def _damaged() -> bytes:
    """Pixels that do not unpack, under a checksum that fits."""
    data = bytearray(_pixels())
    data[20:40] = bytes(20)
    return png(idat=bytes(data))


@cache
def _noisy() -> bytes:
    return encoded(noise(), "PNG")


def _bad_frames() -> bytes:
    return png(chunk(b"acTL", struct.pack(">II", 2, 0)), chunk(b"fcTL", struct.pack(">I", 7) + bytes(22)))


def _iphone() -> bytes:
    """As Xcode writes them: a chunk before the header, pixels without the head of zlib."""
    return SIGNATURE + chunk(b"CgBI", b"P\0 \x02") + ihdr() + chunk(b"IDAT", _pixels()[2:-4]) + _END


def _split() -> bytes:
    """Each byte of the pixels in a chunk of its own."""
    data = _pixels()
    pieces = b"".join(chunk(b"IDAT", data[at : at + 1]) for at in range(len(data)))
    return SIGNATURE + ihdr() + pieces + _END


def _inserted(image: Image.Image, extra: bytes) -> bytes:
    """The image with a chunk right after the header."""
    plain = encoded(image, "PNG")
    return plain[:33] + extra + plain[33:]


def _raw_profile(orientation: int) -> bytes:
    block = exif(orientation)
    text = b"\nexif\n%8d\n%s\n" % (len(block), block.hex().encode())
    return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))


_XMP = b"XML:com.adobe.xmp\0\0\0\0\0<tiff:Orientation>8</tiff:Orientation>"

KINDS: tuple[Kind, ...] = (
    shown("png_rgb.png", "the plain case", png),
    shown("png_rgba.png", "with alpha", lambda: encoded(picture("RGBA"), "PNG")),
    *(sent(f"png_grey_{d}_bit.png", f"{d} bits of grey", lambda d=d: _grey(d)) for d in (1, 2, 4, 8, 16)),
    sent("png_grey_alpha.png", "grey and alpha", lambda: encoded(picture("LA"), "PNG")),
    sent("png_grey_alpha_16.png", "grey and alpha of 16 bits", lambda: _wide(4, 2)),
    shown("png_rgb_16.png", "16 bits a channel", lambda: _wide(2, 3)),
    shown("png_rgba_16.png", "16 bits a channel, with alpha", lambda: _wide(6, 4)),
    sent("png_i16.png", "as Pillow writes I;16", lambda: encoded(Image.new("I;16", (9, 9), 40_000), "PNG")),
    *(shown(f"png_palette_{b}_bit.png", f"a palette of {b} bits", lambda b=b: _palette(b)) for b in (4, 8)),
    shown("png_palette_trns.png", "a palette with a transparent entry", lambda: _palette(8, transparency=4)),
    shown(
        "png_rgb_trns.png",
        "one transparent colour",
        lambda: png(chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))),
    ),
    shown(
        "png_trns_16_in_8.png",
        "a transparent colour beyond 8 bits",
        lambda: png(chunk(b"tRNS", struct.pack(">HHH", 9999, 0, 0))),
    ),
    either(
        "png_short_trns.png",
        "a transparent colour cut short",
        lambda: png(chunk(b"tRNS", b"\0")),
        CUT,
        NO_IMAGE,
    ),
    either(
        "png_palette_too_short.png",
        "pixels beyond the end of the palette",
        lambda: (
            SIGNATURE
            + ihdr(8, 1, 8, 3)
            + chunk(b"PLTE", b"\xff\0\0")
            + chunk(b"IDAT", zlib.compress(b"\0\0\1\2\3\xff\0\0\0"))
            + _END
        ),
        CUT,
    ),
    either(
        "png_palette_missing.png",
        "pixels of a palette that is not there",
        lambda: SIGNATURE + ihdr(8, 1, 8, 3) + chunk(b"IDAT", zlib.compress(bytes(9))) + _END,
        CUT,
        NO_IMAGE,
    ),
    shown("png_interlaced.png", "in seven passes", _interlaced),
    *(
        shown(f"png_orientation_{o}.png", f"EXIF orientation {o}", lambda o=o: _turned(o))
        for o in range(1, 9)
    ),
    shown(
        "png_orientation_xmp.png",
        "orientation in XMP only",
        lambda: _inserted(stored(8), chunk(b"iTXt", _XMP)),
    ),
    shown(
        "png_orientation_xmp_packed.png",
        "orientation in XMP only, compressed",
        lambda: _inserted(
            stored(8), chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(_XMP[22:]))
        ),
    ),
    shown(
        "png_orientation_raw.png",
        "EXIF as text, as ImageMagick writes it",
        lambda: _inserted(stored(6), _raw_profile(6)),
    ),
    shown(
        "png_raw_broken.png",
        "EXIF as text that is no number",
        lambda: png(chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 9\nzz\n")),
    ),
    shown("png_broken_exif.png", "EXIF of noise", lambda: png(chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"))),
    shown(
        "png_exif_at_end.png",
        "EXIF behind the pixels, turned",
        lambda: encoded(stored(3), "PNG")[:-12] + chunk(b"eXIf", exif(3)[6:]) + _END,
    ),
    shown("png_animated.png", "APNG, two frames", _animated),
    shown("png_animated_broken.png", "APNG whose frames are out of order", _bad_frames),
    shown("png_animated_short.png", "APNG without a count of frames", lambda: png(chunk(b"acTL", b"\0"))),
    shown("png_animated_none.png", "APNG of no frames", lambda: png(chunk(b"acTL", bytes(8)))),
    shown(
        "png_ztxt_bomb.png",
        "text that unpacks to 80 MB",
        lambda: png(_unpacked(b"zTXt", 80_000_000, b"a\0\0")),
    ),
    shown(
        "png_itxt_bomb.png",
        "the same as international text",
        lambda: png(_unpacked(b"iTXt", 80_000_000, b"a\0\1\0\0\0")),
    ),
    shown(
        "png_iccp_bomb.png",
        "a colour profile that unpacks to 80 MB",
        lambda: png(_unpacked(b"iCCP", 80_000_000, b"a\0\0")),
    ),
    shown(
        "png_ztxt_many.png",
        "200 texts that unpack to 1 MB each",
        lambda: png(*[_unpacked(b"zTXt", 1_000_000, b"k%d\0\0" % n) for n in range(200)]),
    ),
    shown(
        "png_text_after_pixels_bomb.png",
        "text behind the pixels that unpacks to 80 MB",
        lambda: png(after=_unpacked(b"zTXt", 80_000_000, b"a\0\0")),
    ),
    shown(
        "png_ztxt_thousands.png",
        "20,000 texts that unpack to 1 MB each",
        lambda: png(_unpacked(b"zTXt", 1_000_000, b"k\0\0") * 20_000),
    ),
    shown(
        "png_iccp_thousands.png",
        "as many colour profiles",
        lambda: png(_unpacked(b"iCCP", 1_000_000, b"k\0\0") * 20_000),
    ),
    shown(
        "png_ztxt_method.png", "text packed by an unknown method", lambda: png(chunk(b"zTXt", b"a\0\x07xx"))
    ),
    shown("png_ztxt_empty.png", "a text chunk without a byte", lambda: png(chunk(b"zTXt", b""))),
    shown("png_itxt_short.png", "an international text cut short", lambda: png(chunk(b"iTXt", b"a\0\1"))),
    shown("png_iccp_empty.png", "a colour profile without a byte", lambda: png(chunk(b"iCCP", b""))),
    shown(
        "png_iccp_method.png",
        "a colour profile packed by an unknown method",
        lambda: png(chunk(b"iCCP", b"a\0\x09xx")),
    ),
    shown(
        "png_iccp_noise.png",
        "a colour profile that does not unpack",
        lambda: png(chunk(b"iCCP", b"a\0\0" + noise(9, 9).tobytes())),
    ),
    *(
        shown(
            f"png_short_{name.decode().lower()}.png",
            f"a {name.decode()} chunk cut short",
            lambda name=name, length=length: png(chunk(name, bytes(length))),
        )
        for name, length in ((b"gAMA", 1), (b"pHYs", 4), (b"sRGB", 0), (b"cHRM", 5))
    ),
    shown(
        "png_many_chunks.png", "5,000 chunks that nobody knows", lambda: png(*[chunk(b"vpAg", b"x")] * 5000)
    ),
    shown("png_split_pixels.png", "each byte of the pixels in a chunk of its own", _split),
    shown("png_empty_idat.png", "an empty chunk of pixels first", lambda: png(chunk(b"IDAT", b""))),
    either(
        "png_gap_in_pixels.png",
        "another chunk between those of pixels",
        lambda: png(chunk(b"IDAT", _pixels()[:40]), chunk(b"tEXt", b"a\0b"), idat=_pixels()[40:]),
        CUT,
        hidden=True,
    ),
    refused(
        "png_bad_crc_header.png",
        "a wrong checksum of the header",
        lambda: SIGNATURE + ihdr()[:-4] + b"\1\2\3\4" + png()[33:],
        CUT,
        NO_IMAGE,
    ),
    refused(
        "png_bad_crc_pixels.png",
        "a wrong checksum of the pixels",
        lambda: SIGNATURE + ihdr() + chunk(b"IDAT", _pixels(), 7) + _END,
        CUT,
        hidden=True,
    ),
    shown("png_bad_crc_text.png", "a wrong checksum of a text", lambda: png(chunk(b"tEXt", b"a\0b", 7))),
    either(
        "png_bad_crc_end.png", "a wrong checksum of the end", lambda: png()[:-4] + bytes(4), CUT, NO_IMAGE
    ),
    refused("png_damaged_pixels.png", "pixels that do not unpack", _damaged, CUT, hidden=True),
    refused(
        "png_too_few_rows.png",
        "half of the rows are not there",
        lambda: png(
            idat=zlib.compress(_rows(picture().tobytes(), WIDTH * 3)[: HEIGHT // 2 * (WIDTH * 3 + 1)])
        ),
        CUT,
        hidden=True,
    ),
    shown(
        "png_too_many_rows.png",
        "more rows than it says",
        lambda: png(idat=zlib.compress(_rows(picture().tobytes() * 2, WIDTH * 3))),
    ),
    refused(
        "png_bad_filter.png",
        "an unknown filter of rows",
        lambda: png(idat=zlib.compress(b"\x09" * (HEIGHT * (WIDTH * 3 + 1)))),
        CUT,
        hidden=True,
    ),
    refused("png_no_pixels.png", "no chunk of pixels", lambda: SIGNATURE + ihdr() + _END, NO_IMAGE),
    refused(
        "png_empty_pixels.png", "a chunk of pixels without a byte", lambda: png(idat=b""), CUT, hidden=True
    ),
    refused("png_missing_end.png", "no IEND", lambda: png()[:-12], CUT),
    shown("png_trailing_garbage.png", "noise behind the end", lambda: png() + noise(60, 60).tobytes()),
    shown("png_trailing_jpeg.png", "another file behind the end", lambda: png() + encoded(picture(), "JPEG")),
    refused("png_no_size.png", "0 x 0", lambda: SIGNATURE + ihdr(0, 0) + png()[33:], NO_IMAGE),
    refused("png_no_height.png", "48 x 0", lambda: SIGNATURE + ihdr(48, 0) + png()[33:], NO_IMAGE),
    refused(
        "png_bad_depth.png",
        "3 bits a channel",
        lambda: SIGNATURE + ihdr(48, 32, 3) + png()[33:],
        CUT,
        NO_IMAGE,
    ),
    refused(
        "png_bad_colour.png",
        "a colour type that does not exist",
        lambda: SIGNATURE + ihdr(48, 32, 8, 5) + png()[33:],
        CUT,
        NO_IMAGE,
    ),
    either(
        "png_bad_compression.png",
        "a compression that does not exist",
        lambda: SIGNATURE + ihdr(48, 32, 8, 2, 9, 0, 0) + png()[33:],
        CUT,
        NO_IMAGE,
    ),
    refused(
        "png_filter_method.png",
        "a filter method that does not exist",
        lambda: SIGNATURE + ihdr(48, 32, 8, 2, 0, 9, 0) + png()[33:],
        CUT,
        NO_IMAGE,
    ),
    either(
        "png_bad_interlace.png",
        "an interlacing that does not exist",
        lambda: SIGNATURE + ihdr(48, 32, 8, 2, 0, 0, 9) + png()[33:],
        CUT,
        NO_IMAGE,
    ),
    refused(
        "png_short_header.png",
        "a header of 4 bytes",
        lambda: SIGNATURE + chunk(b"IHDR", bytes(4)) + png()[33:],
        CUT,
        NO_IMAGE,
    ),
    either("png_two_headers.png", "two headers that differ", lambda: png(ihdr(4, 4)), CUT, NO_IMAGE),
    either(
        "png_unknown_critical.png",
        "a chunk that must be understood and is not",
        lambda: png(chunk(b"ABCD", b"x")),
        CUT,
        NO_IMAGE,
    ),
    either(
        "png_bad_chunk_name.png",
        "a chunk whose name is no text",
        lambda: png(chunk(b"\0\1\2\3", b"x")),
        CUT,
        NO_IMAGE,
    ),
    refused(
        "png_long_chunk.png",
        "a chunk of 4 GB, it says",
        lambda: SIGNATURE + ihdr() + b"\xff\xff\xff\xfftEXt" + png()[33:],
        CUT,
    ),
    refused("png_iphone.png", "as Xcode writes them for iPhones", _iphone, NO_IMAGE, NOT_TAKEN),
    refused(
        "png_huge_claim.png",
        "10^10 pixels claimed",
        lambda: SIGNATURE + ihdr(100_000, 100_000) + png()[33:],
        TOO_LARGE,
    ),
    refused(
        "png_largest_claim.png",
        "2^62 pixels claimed",
        lambda: SIGNATURE + ihdr(2**31 - 1, 2**31 - 1) + png()[33:],
        TOO_LARGE,
    ),
    refused(
        "png_bomb.png",
        "20,000 x 20,000 pixels of one colour",
        lambda: _flat(20_000, 20_000, depth=1),
        TOO_LARGE,
    ),
    sent(
        "png_large.png", "9,000 x 9,000 pixels of one colour, turned", lambda: _flat(9_000, 9_000, turned=6)
    ),
    sent(
        "png_large_rgb.png", "6,000 x 6,000 pixels in RGB, turned", lambda: _flat(6_000, 6_000, 2, turned=3)
    ),
    refused(
        "png_turned_giant.png",
        "13,000 x 13,000 pixels in RGB, turned: a gigabyte to turn",
        lambda: SIGNATURE + ihdr(13_000, 13_000) + chunk(b"eXIf", exif(3)[6:]) + png()[33:],
        TOO_LARGE,
        CUT,
    ),
    sent("png_60000_wide.png", "60,000 x 1", lambda: _wide_line(60_000, 1)),
    sent("png_60000_high.png", "1 x 60,000", lambda: _wide_line(1, 60_000)),
    sent("png_70000_wide.png", "wider than a JPEG can be", lambda: _wide_line(70_000, 1)),
    sent("png_one_pixel.png", "1 x 1", lambda: _wide_line(1, 1)),
    sent("png_transparent.png", "nothing to be seen", lambda: encoded(Image.new("RGBA", (40, 40)), "PNG")),
    refused(
        "png_text_mode.png",
        "line ends translated on the way",
        lambda: png().replace(b"\r\n", b"\n"),
        NO_IMAGE,
    ),
    refused("png_signature_only.png", "nothing but the signature", lambda: SIGNATURE, CUT, NO_IMAGE),
    refused("mng.mng", "the signature of MNG", lambda: b"\x8aMNG\r\n\x1a\n" + bytes(40), NO_IMAGE, NOT_TAKEN),
    *(
        refused(f"png_cut_{p:02}.png", f"cut off after {p} %", lambda p=p: cut(_noisy(), p), CUT, NO_IMAGE)
        for p in (1, 2, 5, 10, 25, 50, 75, 90, 99)
    ),
)
