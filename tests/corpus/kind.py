"""What a kind of image file is, and the one picture that most of them hold.

The picture is 48 x 32 pixels, grey, with a red corner at the top left and three other corners in other
colours: whoever decodes what was sent can tell whether it stands upright.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

WIDTH, HEIGHT = 48, 32
CORNER = 16
RED, GREEN, BLUE, YELLOW, GREY = (255, 0, 0), (0, 160, 0), (0, 0, 255), (240, 220, 0), (128, 128, 128)

NO_IMAGE = "not_an_image"
NOT_TAKEN = "format_not_allowed"
CUT = "truncated_image"
TOO_LARGE = "image_too_large"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file.

    Attributes:
        name: name of the file, by which the kind is known.
        says: what is strange about it.
        make: gives its bytes, the same each time.
        is_sent: whether it may be sent, in whatever form.
        codes: the errors that it may end in; empty where it must be sent.
        is_picture: whether what is sent must show the picture, upright.
        is_hidden: whether nothing but decoding can tell that it is damaged.
    """

    name: str
    says: str
    make: Callable[[], bytes]
    is_sent: bool = True
    codes: frozenset[str] = frozenset()
    is_picture: bool = False
    is_hidden: bool = False


def shown(name: str, says: str, make: Callable[[], bytes]) -> Kind:
    """A kind that must be sent so that the picture is seen upright."""
    return Kind(name, says, make, is_picture=True)


def sent(name: str, says: str, make: Callable[[], bytes]) -> Kind:
    """A kind that must be sent; it holds something else than the picture."""
    return Kind(name, says, make)


def refused(name: str, says: str, make: Callable[[], bytes], *codes: str, hidden: bool = False) -> Kind:
    """A kind that must end in one of these errors."""
    return Kind(name, says, make, is_sent=False, codes=frozenset(codes), is_hidden=hidden)


def either(name: str, says: str, make: Callable[[], bytes], *codes: str, hidden: bool = False) -> Kind:
    """A kind of which decoders differ: sent, or one of these errors."""
    return Kind(name, says, make, codes=frozenset(codes), is_hidden=hidden)


def picture(mode: str = "RGB", scale: int = 1) -> Image.Image:
    """The picture, upright."""
    image = Image.new("RGB", (WIDTH, HEIGHT), GREY)
    right, bottom = WIDTH - CORNER, HEIGHT - CORNER
    for colour, place in ((RED, (0, 0)), (GREEN, (right, 0)), (BLUE, (0, bottom)), (YELLOW, (right, bottom))):
        image.paste(colour, (*place, place[0] + CORNER, place[1] + CORNER))
    return image.resize((WIDTH * scale, HEIGHT * scale), Image.Resampling.NEAREST).convert(mode)


_STORED = {  # how the upright picture is turned to be stored, so that the orientation turns it back
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def stored(orientation: int, scale: int = 1) -> Image.Image:
    """The picture as a camera held that way stores it."""
    turn = _STORED[orientation]
    image = picture(scale=scale)
    return image if turn is None else image.transpose(turn)


def noise(width: int = 240, height: int = 160, seed: int = 7) -> Image.Image:
    """A picture without order, which takes many bytes: a file that can be cut off anywhere."""
    data = bytearray()
    for _ in range(width * height * 3):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        data.append(seed >> 16 & 0xFF)
    return Image.frombytes("RGB", (width, height), bytes(data))


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    """The image as a file."""
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def exif(orientation: int, order: str = ">", kind: int = 3, offset: int = 8) -> bytes:
    """EXIF that holds nothing but how the image is turned, with its name in front."""
    value = struct.pack(
        order + ("HH" if kind == 3 else "I"), *((orientation, 0) if kind == 3 else (orientation,))
    )
    start = (b"MM" if order == ">" else b"II") + struct.pack(order + "HI", 42, offset)
    entry = struct.pack(order + "HHHI", 1, 0x0112, kind, 1) + value
    return b"Exif\0\0" + start.ljust(offset, b"\0") + entry + bytes(4)


def cut(data: bytes, percent: int) -> bytes:
    """The first part of a file."""
    return data[: max(len(data) * percent // 100, 1)]
