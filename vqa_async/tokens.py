"""How many tokens a request will take: an estimate beforehand, corrected by what real replies say. Pure.

Text counts four UTF-8 bytes a token. Images count by the rules that their models' makers publish, chosen by
the model's name; all of them are estimates, and are shown as such. What a run reports as used is what the
endpoint counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from vqa_async.models import Usage

ImageRule: TypeAlias = Callable[[float, float], int]
"""(width, height) in pixels -> tokens."""


def estimate_text(text: str) -> int:
    """Tokens of a text, at four UTF-8 bytes a token: the rule of thumb for English, too many for none."""
    return estimate_bytes(len(text.encode("utf-8", "replace")))


def estimate_bytes(size: int) -> int:
    """Tokens of a text of ``size`` UTF-8 bytes."""
    return -(-size // 4)


def _tiles(width: float, height: float, *, base: int, tile: int) -> int:
    """OpenAI's GPT-4o and GPT-5 families: fitted into 2048 x 2048, the shorter side to 768, tiles of 512."""
    scale = min(1.0, 2048 / max(width, height))
    scale = min(scale, 768 / min(width, height) if min(width, height) else 1.0, 1.0)
    across, down = (-(-max(1, round(side * scale)) // 512) for side in (width, height))
    return base + tile * across * down


def _patches(width: float, height: float, *, side: int, most: int, factor: float = 1.0) -> int:
    """Squares of ``side`` pixels, shrunk to ``most`` of them. (OpenAI's small models: 32 pixels, times a
    factor for each; Qwen2-VL and 2.5-VL: 28 pixels, and Qwen3-VL: 32.)"""
    count = math.ceil(width / side) * math.ceil(height / side)
    return math.ceil(max(1, min(count, most)) * factor)


def _area(width: float, height: float, *, pixels: float, longest: float, most: int) -> int:
    """Anthropic's Claude models: so many pixels a token, after fitting."""
    scale = min(1.0, longest / max(width, height, 1))
    return max(1, min(most, round(width * height * scale * scale / pixels)))


def _crops(width: float, height: float, *, small: float, side: float, tile: int) -> int:
    """Google's Gemini 2 models: one tile for what is small, else tiles of 768 pixels."""
    if max(width, height) <= small:
        return tile
    return tile * math.ceil(width / side) * math.ceil(height / side)


DEFAULT_RULE = "the tile rule of OpenAI's GPT-4o family"
_DEFAULT: ImageRule = partial(_tiles, base=85, tile=170)

_RULES: tuple[tuple[tuple[str, ...], str, ImageRule], ...] = (
    # The first whose words all stand in the model's name, in lower case. Makers' pages as of November 2026.
    (("gpt-4.1-mini",), "OpenAI's patch rule x 1.62", partial(_patches, side=32, most=1536, factor=1.62)),
    (("gpt-4.1-nano",), "OpenAI's patch rule x 2.46", partial(_patches, side=32, most=1536, factor=2.46)),
    (("gpt-5-mini",), "OpenAI's patch rule x 1.62", partial(_patches, side=32, most=1536, factor=1.62)),
    (("gpt-5-nano",), "OpenAI's patch rule x 2.46", partial(_patches, side=32, most=1536, factor=2.46)),
    (("o4-mini",), "OpenAI's patch rule x 1.72", partial(_patches, side=32, most=1536, factor=1.72)),
    (("4o-mini",), "OpenAI's tile rule for GPT-4o mini", partial(_tiles, base=2833, tile=5667)),
    (("gpt-5",), "OpenAI's tile rule for GPT-5", partial(_tiles, base=70, tile=140)),
    (("qwen3", "vl"), "Qwen3-VL's patches of 32 pixels", partial(_patches, side=32, most=16384)),
    (("qwen", "vl"), "Qwen-VL's patches of 28 pixels", partial(_patches, side=28, most=16384)),
    (("claude",), "Claude's 750 pixels a token", partial(_area, pixels=750, longest=1568, most=1600)),
    (("gemini",), "Gemini's tiles of 768 pixels", partial(_crops, small=384, side=768, tile=258)),
    (("llava-1.5",), "LLaVA-1.5's 576 for any image", lambda width, height: 576),
)


def image_rule(model: str) -> tuple[str, ImageRule]:
    """The rule by which images count for ``model``, in words and as a function; a plain default for others.

    Example:
        >>> image_rule("Qwen2.5-VL-7B-Instruct")[1](280, 280)
        100
    """
    name = model.lower()
    for words, said, rule in _RULES:
        if all(word in name for word in words):
            return said, rule
    return DEFAULT_RULE, _DEFAULT


_UNKNOWN_IMAGE = 765
"""Tokens of an image whose size is not known, such as one passed on as a URL: 1024 x 1024 by the default
rule."""

_FIRST_ANSWER = 256
"""Tokens of an answer before the first has come in, where no max_tokens is set."""

_WEIGHT_OF_ONE = 0.05
"""Weight of the newest reply in the corrections: they look back over some 20."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens that a request will take, about."""

    prompt: float
    answer: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.prompt + self.answer


class TokenEstimator:
    """Estimates requests, and learns from the usage of their replies by how much it is off.

    Args:
        model: the model's name.
        max_tokens: the longest answer that is asked for, None for no such bound.
        detail: the API's ``detail`` setting for images.
    """

    __slots__ = ("_answer", "_factor", "_fixed", "_max_tokens", "_rule")

    def __init__(self, model: str, *, max_tokens: int | None = None, detail: str | None = None) -> None:
        self._rule = image_rule(model)[1]
        self._max_tokens = max_tokens
        self._fixed = 85 if detail == "low" and self._rule is _DEFAULT else None
        self._factor: float | None = None
        self._answer = float(max_tokens or _FIRST_ANSWER)

    def estimate(self, text_bytes: int, sizes: list[tuple[int, int]]) -> Estimate:
        """Tokens of a request.

        Args:
            text_bytes: bytes of its body without the images.
            sizes: width and height of each image, (0, 0) where they are not known.
        """
        return Estimate(self._raw(text_bytes, sizes) * (self._factor or 1.0), self._answer)

    def correct(self, text_bytes: int, sizes: list[tuple[int, int]], usage: Usage) -> None:
        """Learn from a reply. One that does not say what it took teaches nothing."""
        if usage.prompt_tokens:
            factor = usage.prompt_tokens / self._raw(text_bytes, sizes)
            self._factor = factor if self._factor is None else _blend(self._factor, factor)
        if usage.completion_tokens:
            self._answer = _blend(self._answer, usage.completion_tokens)

    def _raw(self, text_bytes: int, sizes: list[tuple[int, int]]) -> float:
        return max(1.0, estimate_bytes(text_bytes) + sum(self._image(*size) for size in sizes))

    def _image(self, width: int, height: int) -> int:
        if self._fixed is not None:
            return self._fixed
        return self._rule(width, height) if width and height else _UNKNOWN_IMAGE


def _blend(old: float, new: float) -> float:
    return old + _WEIGHT_OF_ONE * (new - old)
