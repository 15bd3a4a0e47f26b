"""Images with text to read, drawn with Pillow like ``pictures``: a sign, a receipt, a filled-in form."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from vqa_async.workspace.pictures import Colour, canvas, png

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SIGN = ("NO PARKING", "Monday to Friday", "8 am - 6 pm")
RECEIPT = (("Green tea", "3.20"), ("Apple cake", "4.50"), ("Sandwich", "6.30"), ("TOTAL", "14.00"))
FORM = (("Name", "Maria Keller"), ("Date", "12 May 2026"), ("Room", "204"), ("Nights", "3"))
"""What stands on the pictures, so that whoever checks a reading has the truth."""


def _text(
    draw: ImageDraw, at: tuple[float, float], text: str, size: int, *, anchor: str, fill: Colour = "black"
) -> None:
    from PIL import ImageFont

    draw.text(at, text, fill=fill, font=ImageFont.load_default(size=size), anchor=anchor)


def _sign() -> Image:
    image, draw = canvas((400, 260), (185, 205, 215))
    draw.rectangle((190, 200, 210, 260), fill=(120, 120, 125))
    draw.rounded_rectangle((40, 20, 360, 210), 18, fill="white", outline=(200, 25, 30), width=10)
    _text(draw, (200, 70), SIGN[0], 42, anchor="mm", fill=(200, 25, 30))
    _text(draw, (200, 127), SIGN[1], 28, anchor="mm")
    _text(draw, (200, 170), SIGN[2], 28, anchor="mm")
    return image


def _receipt() -> Image:
    image, draw = canvas((320, 400), (250, 249, 244))
    _text(draw, (160, 40), "CORNER CAFE", 30, anchor="mm")
    _text(draw, (160, 78), "14 Mill Lane", 20, anchor="mm")
    for row, (name, price) in enumerate(RECEIPT):
        top = 130 + 50 * row + (20 if name == "TOTAL" else 0)
        _text(draw, (30, top), name, 24, anchor="lm")
        _text(draw, (290, top), price, 24, anchor="rm")
    draw.line([(30, 272), (290, 272)], fill="black", width=2)
    _text(draw, (160, 365), "Thank you!", 22, anchor="mm")
    return image


def _form() -> Image:
    image, draw = canvas((440, 340), "white")
    _text(draw, (30, 40), "Hotel registration", 30, anchor="lm", fill=(30, 60, 120))
    for row, (label, value) in enumerate(FORM):
        middle = 105 + 58 * row
        _text(draw, (30, middle), label, 22, anchor="lm", fill=(90, 90, 90))
        draw.rectangle((140, middle - 20, 410, middle + 20), outline=(150, 150, 150), width=2)
        _text(draw, (152, middle), value, 24, anchor="lm", fill=(20, 30, 140))
    return image


PAPERS: dict[str, Callable[[], bytes]] = {
    "sign.png": partial(png, _sign),
    "receipt.png": partial(png, _receipt),
    "form.png": partial(png, _form),
}
"""The content of each image file of ``text_data.json``, by file name."""
