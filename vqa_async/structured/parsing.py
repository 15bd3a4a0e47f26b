"""Text -> JSON value: what models put around it is passed over, small slips are mended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

NOTHING: Final = object()
"""There is no JSON in the text."""

_MOST_MENDED = 200_000
"""Characters of a text that is mended at most: the library for that is not made for more."""

_REASONING_END = re.compile(r"</(?:think|thinking|thought|reasoning|reflection|analysis)>", re.IGNORECASE)
_FENCED = re.compile(r"```[\w-]*[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL)


def parse(text: str, *, mend: bool) -> Any:
    """The JSON value in ``text``, NOTHING where there is none.

    Args:
        text: what a model wrote.
        mend: whether to mend what is not quite JSON (quotes, commas, brackets); never to be done to an
            answer that was cut off, of which half would pass for the whole.
    """
    body = _REASONING_END.split(text)[-1].strip()
    for candidate in _candidates(body):
        value = _loaded(candidate)
        if value is not NOTHING:
            return value
    return _mended(body) if mend else NOTHING


def _candidates(body: str) -> Iterator[str]:
    yield body
    if fenced := _FENCED.search(body):
        yield fenced[1]
    starts = [at for at in (body.find("{"), body.find("[")) if at >= 0]
    if starts:
        yield body[min(starts) : max(body.rfind("}"), body.rfind("]")) + 1]


def _loaded(text: str) -> Any:
    try:
        # Not strict: models put real line breaks into strings.
        return json.loads(text, strict=False, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return NOTHING


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _mended(body: str) -> Any:
    at = min((at for at in (body.find("{"), body.find("[")) if at >= 0), default=-1)
    if at < 0 or len(body) > _MOST_MENDED:
        return NOTHING
    try:
        from json_repair import repair_json
    except ImportError:  # only with the usual schema, for which our own reader does
        return NOTHING
    try:
        return _loaded(str(repair_json(body[at:], ensure_ascii=False)))
    except (ValueError, RecursionError):
        return NOTHING
