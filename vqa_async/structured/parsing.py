"""Text -> JSON value: what models put around it is passed over, small slips are mended."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any, Final

NOTHING: Final = object()
"""There is no JSON in the text."""

_MOST_MENDED = 10_000
_DEEPEST_MENDED = 32
"""Characters and levels of a text that is mended at most. The library for that takes quadratic time at its
worst, and everybody waits: measured with texts made to be slow, 0.6 s for 10,000 characters, 2.4 s for twice
that. Ordinary ones of that length take 1 ms."""

_REASONING_END = re.compile(r"</(?:think|thinking|thought|reasoning|reflection|analysis)>", re.IGNORECASE)
_BRACKET = re.compile(r"[\[{\]}]")
_FENCED = re.compile(r"```[\w-]*[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# Not strict: models put real line breaks into strings.
_DECODER = json.JSONDecoder(strict=False, parse_constant=_no_number)


def parse(text: str, *, mend: bool) -> Any:
    """The JSON value in ``text``, NOTHING where there is none.

    Args:
        text: what a model wrote.
        mend: whether to mend what is not quite JSON (quotes, commas, brackets); never to be done to an
            answer that was cut off, of which half would pass for the whole.
    """
    body = _REASONING_END.split(text)[-1].strip()
    for candidate in (body, *_FENCED.findall(body)[:1]):
        value = _loaded(candidate)
        if value is not NOTHING:
            return value
    value = _among_words(body)
    return _mended(body) if value is NOTHING and mend else value


def _among_words(body: str) -> Any:
    """The first object in ``body``, or list of objects; else the first list, for prose has brackets too."""
    found = [value for at in _starts(body) if (value := _loaded_at(body, at)) is not NOTHING]
    objects = (value for value in found if isinstance(value, dict) or any(isinstance(v, dict) for v in value))
    return next(objects, found[0] if found else NOTHING)


def _starts(body: str) -> list[int]:
    return sorted(at for at in (body.find("{"), body.find("[")) if at >= 0)


def _loaded_at(body: str, at: int) -> Any:
    try:
        value, _ = _DECODER.raw_decode(body, at)
    except (ValueError, RecursionError):
        return NOTHING
    return value


def _loaded(text: str) -> Any:
    text = text.strip()
    try:
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return NOTHING
    return value if end == len(text) else NOTHING


def _depth(body: str) -> int:
    """Brackets open at once at most, strings not excepted."""
    steps = (1 if bracket in "{[" else -1 for bracket in _BRACKET.findall(body))
    return max(itertools.accumulate(steps, lambda depth, step: max(0, depth + step)), default=0)


def _mended(body: str) -> Any:
    starts = _starts(body)
    if not starts or len(body) > _MOST_MENDED or _depth(body) > _DEEPEST_MENDED:
        return NOTHING
    try:
        from json_repair import repair_json
    except ImportError:  # only with the usual schema, for which our own reader does
        return NOTHING
    try:
        return _loaded(str(repair_json(body[starts[0] :], ensure_ascii=False)))
    except (ValueError, RecursionError):
        return NOTHING
