"""Colours by name: 8-bit RGB -> a word that people use. Pure, no imaging library.

A few bounds over hue, saturation and value. Bounds were set so that the CSS colours of these names get
them, apart from shades (CSS "green" is named dark green here, because pure green is green).
"""

from __future__ import annotations

import colorsys
from bisect import bisect
from functools import lru_cache

_HUES = (
    (15, "red"),
    (45, "orange"),
    (70, "yellow"),
    (160, "green"),
    (190, "cyan"),
    (260, "blue"),
    (295, "purple"),
    (325, "magenta"),
    (345, "pink"),
    (361, "red"),
)
_HUE_BOUNDS = tuple(bound for bound, _ in _HUES)
_GREYS = ((0.4, "dark grey"), (0.7, "grey"), (0.93, "light grey"), (1.01, "white"))
_GREY_BOUNDS = tuple(bound for bound, _ in _GREYS)
_DARK_NAMES = {
    "orange": "brown",
    "yellow": "olive",
    "cyan": "teal",
    "magenta": "purple",
    "pink": "dark pink",
}
_LIGHT_NAMES = {"red": "pink", "pink": "pink", "magenta": "light purple", "orange": "beige"}


@lru_cache(maxsize=1 << 15)  # pictures are counted in 5 bits a channel: no more colours than that exist
def colour_name(red: int, green: int, blue: int) -> str:
    """The name of a colour given as 8-bit red, green and blue."""
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    if value < 0.16:
        return "black"
    if saturation < 0.12:
        return _GREYS[bisect(_GREY_BOUNDS, value)][1]
    name = _HUES[bisect(_HUE_BOUNDS, hue * 360)][1]
    if value < 0.55:
        return _DARK_NAMES.get(name, f"dark {name}")
    if saturation < 0.45 and value > 0.75:
        return _LIGHT_NAMES.get(name, f"light {name}")
    return name
