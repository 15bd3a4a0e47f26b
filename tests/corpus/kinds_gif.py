"""GIF files: both versions, animations, and blocks that lie."""

from __future__ import annotations

import struct
from functools import cache

from kind import (
    CORNER,
    CUT,
    HEIGHT,
    NO_IMAGE,
    TOO_LARGE,
    WIDTH,
    Kind,
    cut,
    either,
    encoded,
    noise,
    picture,
    refused,
    sent,
    shown,
)

_FRAME = b"\x2c"
_END = b"\x3b"
_DOT = b"\x02\x02\x44\x01\0"
"""The pixels of a frame of 1 x 1."""


def gif(**options: object) -> bytes:
    """The picture."""
    return encoded(picture(), "GIF", **options)


def _old() -> bytes:
    return b"GIF87a" + gif()[6:]


def _moving(**options: object) -> bytes:
    frames = [picture().rotate(90 * n) for n in range(1, 4)]
    return gif(save_all=True, append_images=frames, duration=50, **options)


def screen(width: int, height: int, flags: int = 0x80) -> bytes:
    """Signature and size, with a table of two colours where the flags say so."""
    table = b"\xff\0\0\0\0\xff" if flags & 0x80 else b""
    return b"GIF89a" + struct.pack("<HHBBB", width, height, flags, 0, 0) + table


def frame(left: int, top: int, width: int, height: int, pixels: bytes = _DOT, flags: int = 0) -> bytes:
    """One frame."""
    return _FRAME + struct.pack("<HHHHB", left, top, width, height, flags) + pixels


@cache
def _noisy() -> bytes:
    return encoded(noise(), "GIF")


def _see_through() -> bytes:
    image = picture("RGBA")
    image.paste((0, 0, 0, 0), (CORNER, CORNER, WIDTH - CORNER, HEIGHT))
    return encoded(image, "GIF")


def _bytes_in_code(size: int) -> bytes:
    return screen(4, 4) + frame(0, 0, 4, 4, bytes([size]) + b"\x02\x44\x01\0") + _END


def _comments() -> bytes:
    plain = gif()
    at = 13 + (3 << ((plain[10] & 7) + 1))  # behind the table of colours
    return plain[:at] + b"\x21\xfe" + (b"\xff" + b"c" * 255) * 4000 + b"\0" + plain[at:]


KINDS: tuple[Kind, ...] = (
    shown("gif_89a.gif", "the plain case", gif),
    shown("gif_87a.gif", "the old version", _old),
    shown("gif_interlaced.gif", "in four passes", lambda: gif(interlace=True)),
    sent("gif_transparent.gif", "with a transparent colour", _see_through),
    shown("gif_comment.gif", "with a comment", lambda: gif(comment=b"hello " * 400)),
    shown("gif_animated.gif", "four frames", _moving),
    shown("gif_animated_forever.gif", "four frames, repeated", lambda: _moving(loop=0)),
    refused("gif_animated_cut.gif", "an animation cut off in a later frame", lambda: cut(_moving(), 80), CUT),
    refused(
        "gif_bomb_44_bytes.gif",
        "65,535 x 65,535 in 44 bytes",
        lambda: screen(65535, 65535, 0) + frame(0, 0, 1, 1) + _END,
        TOO_LARGE,
    ),
    refused(
        "gif_frame_bomb.gif",
        "a small screen, a giant frame",
        lambda: screen(1, 1) + frame(0, 0, 65535, 65535) + _END,
        TOO_LARGE,
    ),
    refused(
        "gif_far_frame.gif",
        "a small frame, far outside",
        lambda: screen(1, 1) + frame(65535, 65535, 1, 1) + _END,
        TOO_LARGE,
    ),
    shown(
        "gif_second_frame_bomb.gif",
        "a second frame that is a giant",
        lambda: gif()[:-1] + frame(0, 0, 65535, 65535) + _END,
    ),
    shown("gif_many_frames.gif", "20,000 frames", lambda: gif()[:-1] + frame(0, 0, 1, 1) * 20_000 + _END),
    refused("gif_no_size.gif", "0 x 0", lambda: screen(0, 0) + frame(0, 0, 0, 0) + _END, NO_IMAGE),
    either(
        "gif_empty_frame.gif",
        "a frame of 0 x 0",
        lambda: screen(4, 4) + frame(0, 0, 0, 0) + _END,
        CUT,
        NO_IMAGE,
        hidden=True,
    ),
    either(
        "gif_empty_then_frame.gif",
        "an empty frame, then a real one",
        lambda: screen(1, 1) + frame(0, 0, 0, 0) + frame(0, 0, 1, 1) + _END,
        CUT,
        NO_IMAGE,
    ),
    refused("gif_no_frame.gif", "no frame", lambda: screen(4, 4) + _END, NO_IMAGE),
    either(
        "gif_frame_outside.gif",
        "a frame beyond the screen",
        lambda: screen(1, 1) + frame(5, 5, 1, 1) + _END,
        CUT,
    ),
    sent("gif_one_pixel.gif", "1 x 1", lambda: screen(1, 1) + frame(0, 0, 1, 1) + _END),
    either(
        "gif_no_table.gif",
        "no table of colours",
        lambda: screen(1, 1, 0) + frame(0, 0, 1, 1) + _END,
        CUT,
        NO_IMAGE,
    ),
    refused(
        "gif_no_data.gif",
        "a frame without pixels",
        lambda: screen(4, 4) + frame(0, 0, 4, 4, b"\x02\0") + _END,
        CUT,
        hidden=True,
    ),
    refused(
        "gif_few_data.gif",
        "a frame with too few pixels",
        lambda: screen(40, 40) + frame(0, 0, 40, 40) + _END,
        CUT,
        hidden=True,
    ),
    *(
        refused(
            f"gif_code_size_{n}.gif",
            f"codes of {n} bits",
            lambda n=n: _bytes_in_code(n),
            CUT,
            NO_IMAGE,
            hidden=True,
        )
        for n in (0, 12, 255)
    ),
    shown("gif_long_comment.gif", "a megabyte of comments", _comments),
    shown("gif_zeros_between.gif", "zeros between the blocks", lambda: gif()[:-1] + bytes(9) + _END),
    refused(
        "gif_unknown_block.gif",
        "a block that nobody knows",
        lambda: gif()[:-1] + b"\x77junk" + _END,
        NO_IMAGE,
    ),
    refused("gif_missing_end.gif", "no trailer", lambda: gif()[:-1], CUT),
    shown("gif_trailing_garbage.gif", "noise behind the end", lambda: gif() + noise(60, 60).tobytes()),
    shown("gif_trailing_zeros.gif", "zeros behind the end", lambda: gif() + bytes(512)),
    shown("gif_trailing_script.gif", "a script behind the end", lambda: gif() + b"*/=alert(1);//\n"),
    refused(
        "gif_script.gif",
        "a script that begins as a GIF",
        lambda: b"GIF89a/*" + b"x" * 40 + b"*/=0;alert(1);",
        CUT,
        NO_IMAGE,
        TOO_LARGE,
    ),
    refused("gif_signature_only.gif", "nothing but the signature", lambda: b"GIF89a", CUT, NO_IMAGE),
    refused("gif_90a.gif", "a version that does not exist", lambda: b"GIF90a" + gif()[6:], NO_IMAGE),
    *(
        refused(f"gif_cut_{p:02}.gif", f"cut off after {p} %", lambda p=p: cut(_noisy(), p), CUT, NO_IMAGE)
        for p in (1, 5, 10, 25, 50, 75, 99)
    ),
)
