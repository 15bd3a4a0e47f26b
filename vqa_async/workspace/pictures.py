"""The images of the sample data, drawn with Pillow: small, plain to tell apart, the same bytes every time.

Between them they have what inputs have: PNG, JPEG and WebP, transparency, a photo that lies on its side until
its EXIF orientation is applied, charts with text, light and dark scenes, two images that belong together.

Pillow is imported where it draws, so that commands which draw nothing do not load it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Colour: TypeAlias = str | tuple[int, int, int] | tuple[int, int, int, int]

_EXIF_ORIENTATION = 0x0112
_TURN_RIGHT_TO_SHOW = 6
_WIDE = (320, 240)
_SQUARE = (240, 240)


def canvas(size: tuple[int, int], colour: Colour, mode: str = "RGB") -> tuple[Image, ImageDraw]:
    from PIL import Image, ImageDraw

    image = Image.new(mode, size, colour)
    return image, ImageDraw.Draw(image)


def _write(draw: ImageDraw, at: tuple[float, float], text: str, size: int, colour: Colour = "black") -> None:
    """Write ``text`` centred at a point, ``size`` pixels high, in the font that comes with Pillow."""
    from PIL import ImageFont

    draw.text(at, text, fill=colour, font=ImageFont.load_default(size=size), anchor="mm")


def _disc(draw: ImageDraw, centre: tuple[float, float], radius: float, colour: Colour) -> None:
    draw.circle(centre, radius, fill=colour)


def _encoded(image: Image, format: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _red_circle() -> Image:
    image, draw = canvas(_SQUARE, "white")
    _disc(draw, (120, 120), 90, (220, 20, 30))
    return image


def _blue_square() -> Image:
    image, draw = canvas(_SQUARE, (255, 221, 0))
    draw.rectangle((60, 60, 180, 180), fill=(20, 60, 220))
    return image


def _green_triangle() -> Image:
    image, draw = canvas(_SQUARE, "white")
    draw.polygon([(120, 30), (215, 205), (25, 205)], fill=(20, 160, 50))
    return image


def _bar_chart() -> Image:
    image, draw = canvas(_WIDE, "white")
    _write(draw, (170, 18), "Umbrellas sold", 18)
    draw.line([(45, 40), (45, 200), (305, 200)], fill="black", width=2)
    for tick in range(0, 41, 10):
        _write(draw, (28, 200 - 4 * tick), str(tick), 12)
    for bar, (month, count) in enumerate([("Jan", 30), ("Feb", 22), ("Mar", 35), ("Apr", 12)]):
        left = 62 + 62 * bar
        draw.rectangle((left, 200 - 4 * count, left + 42, 199), fill=(40, 90, 200))
        _write(draw, (left + 21, 213), month, 13)
    _write(draw, (175, 230), "Month", 13)
    return image


def _pie_chart() -> Image:
    image, draw = canvas(_SQUARE, "white")
    _write(draw, (120, 16), "Fruit in the bowl", 17)
    shares = [("Apples", 50, (210, 40, 40)), ("Bananas", 30, (250, 210, 40)), ("Kiwis", 20, (70, 160, 60))]
    start = -90.0
    for name, percent, colour in shares:
        end = start + 3.6 * percent
        draw.pieslice((35, 42, 205, 212), start, end, fill=colour, outline="white", width=2)
        middle = math.radians((start + end) / 2)
        x, y = 120 + 52 * math.cos(middle), 127 + 52 * math.sin(middle)
        _write(draw, (x, y - 8), name, 13)
        _write(draw, (x, y + 8), f"{percent}%", 14)
        start = end
    return image


def _poster() -> Image:
    image, draw = canvas((240, 340), (18, 20, 48))
    _disc(draw, (120, 130), 70, (245, 180, 60))
    draw.polygon([(0, 230), (80, 120), (150, 230)], fill=(60, 30, 70))
    draw.polygon([(90, 230), (175, 145), (240, 230)], fill=(40, 22, 55))
    draw.rectangle((0, 230, 240, 340), fill=(10, 10, 24))
    _write(draw, (120, 30), "A film by Ada Moreno", 13, "white")
    _write(draw, (120, 262), "THE LAST", 32, (245, 200, 80))
    _write(draw, (120, 297), "LANTERN", 36, (245, 200, 80))
    _write(draw, (120, 325), "IN CINEMAS THIS AUTUMN", 11, "white")
    return image


def _house() -> Image:
    image, draw = canvas(_WIDE, (130, 200, 250))
    draw.rectangle((0, 165, 320, 240), fill=(80, 170, 70))
    _disc(draw, (262, 48), 28, (255, 215, 40))
    draw.rectangle((70, 105, 190, 195), fill=(240, 225, 190))
    draw.polygon([(55, 108), (130, 50), (205, 108)], fill=(180, 50, 40))
    draw.rectangle((115, 145, 145, 195), fill=(110, 65, 30))
    for left in (80, 155):
        draw.rectangle((left, 120, left + 25, 142), fill=(90, 150, 210), outline="white", width=2)
    draw.polygon([(115, 196), (145, 196), (190, 240), (90, 240)], fill=(200, 190, 170))
    return image


def _traffic_light() -> Image:
    image, draw = canvas((160, 280), (205, 225, 240))
    draw.rectangle((74, 220, 86, 280), fill=(70, 70, 70))
    draw.rounded_rectangle((45, 20, 115, 225), 16, fill=(40, 40, 40))
    for y, colour in ((55, (235, 30, 30)), (122, (95, 80, 20)), (189, (20, 75, 30))):
        _disc(draw, (80, y), 26, colour)
    return image


def _chessboard() -> Image:
    image, draw = canvas(_SQUARE, (240, 217, 181))
    dark = [(column, row) for row in range(8) for column in range(8) if (row + column) % 2]
    for column, row in dark:
        draw.rectangle((30 * column, 30 * row, 30 * column + 29, 30 * row + 29), fill=(110, 70, 45))
    return image


def _on_dial(turn: float, radius: float) -> tuple[float, float]:
    """The point at ``turn`` (0 to 1, clockwise from the top) and ``radius`` pixels from the dial's centre."""
    angle = 2 * math.pi * turn
    return 120 + radius * math.sin(angle), 120 - radius * math.cos(angle)


def _clock() -> Image:
    image, draw = canvas(_SQUARE, (60, 120, 130))
    draw.circle((120, 120), 105, fill="white", outline="black", width=5)
    for hour in range(1, 13):
        _write(draw, _on_dial(hour / 12, 84), str(hour), 20)
    draw.line([(120, 120), _on_dial((3 + 40 / 60) / 12, 46)], fill="black", width=8)  # it is 3:40
    draw.line([(120, 120), _on_dial(40 / 60, 68)], fill=(190, 20, 20), width=4)
    _disc(draw, (120, 120), 7, "black")
    return image


def _rainbow() -> Image:
    image, draw = canvas((280, 210), "white")
    colours = ["red", "orange", "yellow", "green", "blue", "indigo", "violet"]
    for stripe, colour in enumerate(colours):
        draw.rectangle((0, 30 * stripe, 280, 30 * stripe + 29), fill=colour)
    return image


def _tree_lying() -> Image:
    """A tree on a meadow, lying on its left side, as a camera stores what it took while it was turned."""
    from PIL import Image

    image, draw = canvas((240, 320), (150, 205, 245))
    draw.rectangle((0, 240, 240, 320), fill=(95, 160, 60))
    draw.rectangle((106, 150, 134, 270), fill=(105, 65, 35))
    for centre in ((120, 90), (80, 125), (160, 125)):
        _disc(draw, centre, 52, (30, 110, 45))
    for apple in ((95, 95), (150, 80), (125, 130), (70, 135), (175, 130)):
        _disc(draw, apple, 8, (215, 30, 35))
    return image.transpose(Image.Transpose.ROTATE_90)


def _logo() -> Image:
    image, draw = canvas((200, 200), (0, 0, 0, 0), mode="RGBA")
    _disc(draw, (100, 100), 90, (110, 40, 160, 255))
    _disc(draw, (100, 100), 64, (0, 0, 0, 0))
    draw.polygon([(100, 48), (145, 125), (55, 125)], fill=(240, 120, 20, 255))
    return image


def _sunset() -> Image:
    image, draw = canvas(_WIDE, (20, 40, 80))
    for y in range(160):
        draw.line([(0, y), (320, y)], fill=(120 + y * 130 // 160, 40 + y * 100 // 160, 110 - y * 70 // 160))
    draw.circle((160, 150), 45, fill=(255, 230, 120))
    draw.rectangle((0, 160, 320, 240), fill=(30, 50, 95))
    for wave in range(7):
        draw.line([(130 - 6 * wave, 170 + 10 * wave), (190 + 6 * wave, 170 + 10 * wave)], (250, 190, 90), 2)
    return image


def _boats(*, flag: Colour, birds: int) -> Image:
    image, draw = canvas(_WIDE, (190, 225, 245))
    draw.rectangle((0, 150, 320, 240), fill=(40, 110, 170))
    for left in (50, 190):
        draw.polygon([(left, 150), (left + 90, 150), (left + 70, 178), (left + 20, 178)], fill=(150, 40, 40))
        draw.polygon([(left + 45, 60), (left + 45, 142), (left + 90, 142)], fill="white")
        draw.line([(left + 43, 45), (left + 43, 150)], fill=(80, 50, 30), width=4)
    draw.polygon([(91, 45), (91, 63), (62, 54)], fill=flag)
    for bird in range(birds):
        x = 130 + 35 * bird
        draw.line([(x, 30), (x + 9, 38), (x + 18, 30)], fill="black", width=3)
    return image


def _night() -> Image:
    image, draw = canvas(_WIDE, (8, 10, 28))
    _disc(draw, (255, 50), 24, (235, 235, 205))
    _disc(draw, (245, 44), 20, (8, 10, 28))
    for star in range(24):  # strewn evenly enough, without a random number
        _disc(draw, (star * 67 % 320, star * 41 % 120), 1.5, (220, 220, 235))
    draw.rectangle((0, 190, 320, 240), fill=(5, 18, 12))
    for left, top in ((30, 130), (110, 105), (200, 140)):
        draw.rectangle((left, top, left + 65, 195), fill=(18, 18, 24))
        draw.rectangle((left + 12, top + 15, left + 26, top + 31), fill=(250, 200, 80))
    return image


def png(draw: Callable[[], Image]) -> bytes:
    return _encoded(draw(), "PNG", optimize=True)


def _jpeg(draw: Callable[[], Image]) -> bytes:
    return _encoded(draw(), "JPEG", quality=88)


def _webp(draw: Callable[[], Image]) -> bytes:
    return _encoded(draw(), "WEBP", quality=85)


def _turned_jpeg(draw: Callable[[], Image]) -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = _TURN_RIGHT_TO_SHOW
    return _encoded(draw(), "JPEG", quality=88, exif=exif)


PICTURES: dict[str, Callable[[], bytes]] = {
    "poster.png": partial(png, _poster),
    "red_circle.png": partial(png, _red_circle),
    "blue_square.png": partial(png, _blue_square),
    "green_triangle.png": partial(png, _green_triangle),
    "pie_chart.png": partial(png, _pie_chart),
    "bar_chart.png": partial(png, _bar_chart),
    "house.jpg": partial(_jpeg, _house),
    "traffic_light.png": partial(png, _traffic_light),
    "chessboard.png": partial(png, _chessboard),
    "clock.png": partial(png, _clock),
    "rainbow.png": partial(png, _rainbow),
    "tree_turned.jpg": partial(_turned_jpeg, _tree_lying),
    "logo_transparent.png": partial(png, _logo),
    "sunset.webp": partial(_webp, _sunset),
    "boats_left.png": partial(png, partial(_boats, flag=(220, 30, 40), birds=3)),
    "boats_right.png": partial(png, partial(_boats, flag=(30, 150, 60), birds=2)),
    "night.jpg": partial(_jpeg, _night),
}
"""The content of each image file of the sample data, by file name."""
