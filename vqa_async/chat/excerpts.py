"""What somebody sent, as far as it can be read and shown: never more than its start, on one line."""

from __future__ import annotations

from typing import Any

import orjson

EXCERPT_CHARS = 300
"""How much of a reply an error shows: enough to recognise it, too little to fill a log."""

NOT_JSON = object()


def decoded(body: bytes) -> Any:
    """``body`` as JSON, NOT_JSON where it is none."""
    # The parser's exception holds the whole reply, and would stay with any error raised in its handler.
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return NOT_JSON


def excerpt(body: bytes, chars: int = EXCERPT_CHARS) -> str:
    """The start of a reply as printable text on one line."""
    text = body[: chars * 4].decode("utf-8", "replace")
    return printable(text)[:chars]


def printable(text: str) -> str:
    """``text`` on one line, with controls and bidirectional overrides replaced by spaces."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def shown(value: object, chars: int = EXCERPT_CHARS) -> str:
    """The start of whatever stands where a text should, as printable text on one line."""
    return printable(_as_text(value)[: 4 * chars])[:chars]


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, default=str).decode()
    except orjson.JSONEncodeError:  # it reads 1,024 levels and writes 254
        return "<nested too deep>"
