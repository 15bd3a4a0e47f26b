"""Tokens, plausibly counted: no tokenizer, the same for the same text. Pure.

Text counts four tokens for three words; a Chinese, Japanese or Korean character counts as a word. Images
count as OpenAI documents it: 85, and 170 for each tile of 512 pixels after fitting.
"""

from __future__ import annotations

import math
import re
from itertools import islice

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")

IMAGE_TOKENS = 85
"""What an image costs whatever its size."""

_TILE_TOKENS = 170
_TILE_SIDE = 512
_LONG_SIDE = 2048
_SHORT_SIDE = 768


def count_words(text: str) -> int:
    """Words in ``text``."""
    return sum(1 for _ in _WORD.finditer(text))


def count_text(text: str) -> int:
    """Tokens of ``text``."""
    return math.ceil(count_words(text) * 4 / 3)


def count_image(width: int, height: int, detail: str) -> int:
    """Tokens of an image of ``width`` x ``height`` pixels at this detail."""
    if detail == "low":
        return IMAGE_TOKENS
    scale = min(1.0, _LONG_SIDE / max(width, height))
    scale *= min(1.0, _SHORT_SIDE / (min(width, height) * scale))
    across, down = (math.ceil(side * scale / _TILE_SIDE) for side in (width, height))
    return IMAGE_TOKENS + _TILE_TOKENS * across * down


def cut(text: str, max_tokens: int) -> str:
    """The beginning of ``text`` that fits, but one word at least (it must have one)."""
    *_, last = islice(_WORD.finditer(text), max(1, max_tokens * 3 // 4))
    return text[: last.end()]
