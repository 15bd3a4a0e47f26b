"""WebP and AVIF files: containers whose sizes may lie."""

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


def webp(**options: object) -> bytes:
    """The picture without loss."""
    return encoded(picture(), "WEBP", **{"lossless": True, **options})


def _sized(data: bytes, by: int) -> bytes:
    """A file that says it is larger or smaller than it is."""
    size = struct.unpack_from("<I", data, 4)[0] + by
    return data[:4] + struct.pack("<I", size) + data[8:]


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A container of chunks."""
    body = b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) & 1)
        for name, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + size


def _inner() -> tuple[bytes, bytes]:
    """The chunk of pixels of the picture."""
    data = webp()
    (length,) = struct.unpack_from("<I", data, 16)
    return data[12:16], data[20 : 20 + length]


def _frame() -> tuple[bytes, bytes]:
    """The picture as a frame of an animation."""
    name, content = _inner()
    size = (47).to_bytes(3, "little") + (31).to_bytes(3, "little")
    inner = name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) & 1)
    return b"ANMF", bytes(6) + size + (50).to_bytes(3, "little") + b"\0" + inner


def _turned(orientation: int) -> bytes:
    return encoded(stored(orientation), "WEBP", lossless=True, exif=exif(orientation))


def _turned_bare(orientation: int) -> bytes:
    """EXIF without its name in front, as the format has it."""
    return encoded(stored(orientation), "WEBP", lossless=True, exif=exif(orientation)[6:])


def _moving() -> bytes:
    return webp(save_all=True, append_images=[picture().rotate(180)], duration=50)


@cache
def _noisy(**options: object) -> bytes:
    return encoded(noise(), "WEBP", **options)


def _see_through() -> bytes:
    image = picture("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return encoded(image, "WEBP", lossless=True)


def _damaged(at: int) -> bytes:
    data = bytearray(_noisy(quality=80))
    data[at : at + 300] = b"\x55" * 300
    return bytes(data)


def _avif(orientation: int = 1, **options: object) -> bytes:
    return encoded(stored(orientation), "AVIF", quality=100, subsampling="4:4:4", **options)


def _avif_moving() -> bytes:
    """Two pictures, and not the time at which they were made."""
    data = bytearray(_avif(save_all=True, append_images=[picture().rotate(180)]))
    for name in (b"mvhd", b"tkhd", b"mdhd"):
        at = data.index(name) + 8
        data[at : at + 16] = bytes(16)
    return bytes(data)


def _avif_turned(orientation: int) -> bytes:
    return _avif(orientation, exif=exif(orientation)[6:])


@cache
def _avif_noisy() -> bytes:
    return encoded(noise(), "AVIF", quality=60, speed=10)


def _avif_patched(name: bytes, offset: int, value: bytes) -> bytes:
    data = _avif()
    at = data.index(name) + offset
    return data[:at] + value + data[at + len(value) :]


WEBP: tuple[Kind, ...] = (
    shown("webp_lossless.webp", "without loss", webp),
    shown("webp_lossy.webp", "with loss", lambda: webp(lossless=False, quality=95)),
    sent("webp_alpha.webp", "half transparent", _see_through),
    sent(
        "webp_alpha_lossy.webp", "with loss and alpha", lambda: encoded(picture("RGBA"), "WEBP", quality=80)
    ),
    shown("webp_animated.webp", "two frames", _moving),
    *(
        shown(f"webp_orientation_{o}.webp", f"EXIF orientation {o}", lambda o=o: _turned(o))
        for o in range(1, 9)
    ),
    shown("webp_orientation_bare.webp", "EXIF without its name", lambda: _turned_bare(6)),
    shown(
        "webp_orientation_xmp.webp",
        "orientation in XMP only",
        lambda: encoded(stored(6), "WEBP", lossless=True, xmp=b'<x tiff:Orientation="6"/>'),
    ),
    shown("webp_broken_exif.webp", "EXIF of noise", lambda: webp(exif=b"MM\0*\xff\xff\xff\xff")),
    shown(
        "webp_unflagged_exif.webp",
        "EXIF that the header does not announce",
        lambda: riff(_canvas(48, 32), _inner(), (b"EXIF", exif(1)[6:])),
    ),
    shown(
        "webp_unknown_chunk.webp",
        "a chunk that nobody knows",
        lambda: riff(_canvas(48, 32), (b"JUNK", b"abc"), _inner()),
    ),
    shown(
        "webp_extended.webp", "the extended form with nothing in it", lambda: riff(_canvas(48, 32), _inner())
    ),
    refused(
        "webp_canvas_differs.webp",
        "a canvas that is not the size of the image",
        lambda: riff(_canvas(90, 90), _inner()),
        CUT,
        NO_IMAGE,
        hidden=True,
    ),
    refused(
        "webp_animated_canvas.webp",
        "12,000 x 12,000 animated, in a few bytes",
        lambda: riff(_canvas(12_000, 12_000, 2), (b"ANIM", bytes(6)), _frame(), _frame()),
        TOO_LARGE,
    ),
    refused(
        "webp_canvas_bomb.webp",
        "a canvas of 2^48 pixels",
        lambda: riff(_canvas(2**24, 2**24), _inner()),
        TOO_LARGE,
    ),
    either(
        "webp_wide_canvas.webp",
        "a canvas that is 16,384 wide",
        lambda: riff(_canvas(16384, 32), _inner()),
        CUT,
        NO_IMAGE,
        hidden=True,
    ),
    refused("webp_size_too_large.webp", "says it is longer than it is", lambda: _sized(webp(), 90), CUT),
    refused(
        "webp_size_too_small.webp",
        "says it is shorter than it is",
        lambda: _sized(webp(), -20),
        CUT,
        NO_IMAGE,
    ),
    either(
        "webp_size_odd.webp",
        "says it is one byte shorter",
        lambda: _sized(webp(), -1),
        CUT,
        NO_IMAGE,
        hidden=True,
    ),
    refused(
        "webp_size_zero.webp", "says it has no bytes", lambda: b"RIFF\0\0\0\0" + webp()[8:], CUT, NO_IMAGE
    ),
    refused("webp_size_max.webp", "says it has 4 GB", lambda: b"RIFF\xff\xff\xff\xff" + webp()[8:], CUT),
    refused("webp_no_image.webp", "no image in the container", lambda: riff((b"JUNK", b"x" * 40)), NO_IMAGE),
    refused("webp_canvas_only.webp", "a canvas without an image", lambda: riff(_canvas(48, 32)), NO_IMAGE),
    refused(
        "webp_short_canvas.webp",
        "a canvas cut short",
        lambda: riff((b"VP8X", b"\0\0"), _inner()),
        CUT,
        NO_IMAGE,
        TOO_LARGE,
    ),
    refused("webp_empty_image.webp", "an image of no bytes", lambda: riff((b"VP8L", b"")), CUT, NO_IMAGE),
    refused("webp_zero_image.webp", "an image of zeros", lambda: riff((b"VP8 ", bytes(60))), CUT, NO_IMAGE),
    refused(
        "webp_zero_lossless.webp",
        "a lossless image of zeros",
        lambda: riff((b"VP8L", bytes(60))),
        CUT,
        NO_IMAGE,
        hidden=True,
    ),
    refused(
        "webp_empty_animation.webp",
        "an animation of an empty frame",
        lambda: riff(_canvas(48, 32, 2), (b"ANIM", bytes(6)), (b"ANMF", b"")),
        CUT,
        NO_IMAGE,
    ),
    either(
        "webp_damaged.webp",
        "damaged in the middle",
        lambda: _damaged(len(_noisy(quality=80)) // 2),
        CUT,
        hidden=True,
    ),
    either("webp_damaged_head.webp", "damaged near its start", lambda: _damaged(60), CUT, hidden=True),
    shown("webp_trailing_garbage.webp", "noise behind the end", lambda: webp() + noise(60, 60).tobytes()),
    sent(
        "webp_16383_wide.webp",
        "as wide as the format can",
        lambda: encoded(Image.new("RGB", (16383, 1), "red"), "WEBP"),
    ),
    sent("webp_one_pixel.webp", "1 x 1", lambda: encoded(Image.new("RGB", (1, 1), "red"), "WEBP")),
    refused(
        "riff_wave.wav",
        "a sound in the same container",
        lambda: b"RIFF\x24\0\0\0WAVEfmt " + bytes(28),
        NO_IMAGE,
    ),
    refused(
        "riff_avi.avi",
        "a film in the same container",
        lambda: b"RIFF\x24\0\0\0AVI LIST" + bytes(28),
        NO_IMAGE,
    ),
    *(
        refused(
            f"webp_cut_{p:02}.webp",
            f"cut off after {p} %",
            lambda p=p: cut(_noisy(quality=80), p),
            CUT,
            NO_IMAGE,
        )
        for p in (1, 5, 10, 25, 50, 75, 99)
    ),
)

AVIF: tuple[Kind, ...] = (
    shown("avif_still.avif", "one picture", _avif),
    shown("avif_sequence.avif", "two pictures", _avif_moving),
    *(
        shown(f"avif_orientation_{o}.avif", f"turned by {o}", lambda o=o: _avif_turned(o))
        for o in range(2, 9)
    ),
    sent(
        "avif_alpha.avif",
        "transparent",
        lambda: encoded(Image.new("RGBA", (48, 32), (255, 0, 0, 90)), "AVIF"),
    ),
    refused(
        "avif_size_bomb.avif",
        "a giant size claimed",
        lambda: _avif_patched(b"ispe", 8, struct.pack(">II", 60_000, 60_000)),
        TOO_LARGE,
        CUT,
        NO_IMAGE,
    ),
    either(
        "avif_size_differs.avif",
        "another size claimed",
        lambda: _avif_patched(b"ispe", 8, struct.pack(">II", 400, 300)),
        CUT,
        NO_IMAGE,
    ),
    refused(
        "avif_signature_only.avif",
        "nothing but the signature",
        lambda: b"\0\0\0\x18ftypavif\0\0\0\0mif1avif",
        CUT,
        NO_IMAGE,
    ),
    refused(
        "avif_zeroed.avif", "all zeros behind the signature", lambda: _avif()[:32] + bytes(600), CUT, NO_IMAGE
    ),
    *(
        refused(
            f"avif_cut_{p:02}.avif", f"cut off after {p} %", lambda p=p: cut(_avif_noisy(), p), CUT, NO_IMAGE
        )
        for p in (1, 10, 50, 90)
    ),
)

KINDS = WEBP + AVIF
