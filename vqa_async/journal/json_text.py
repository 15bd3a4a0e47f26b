"""Values as JSON text and back, also those that the fast encoder refuses. No file is touched here.

orjson does nearly all of it. It refuses integers beyond 64 bits, lone surrogates, keys that are not text and
deep nesting, and reads long integers as floats. Rows from Python code may hold any of these and even what
JSON does not know; an answer was paid for by then, so each is written in the nearest form that JSON has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from numbers import Integral, Number
from pathlib import PurePath
from typing import Any

import orjson

_MAX_LEVELS = 254  # what orjson itself writes at most
_MAX_INTEGER_BITS = 14_000  # 4,214 digits: Python reads no more than 4,300 back

# From 19 digits on an integer may not fit into 64 bits, and orjson would make a float of it.
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_NINETEEN_DIGITS = b"0" * 19


def to_json(value: Any, *, indent: bool = False) -> bytes:
    """``value`` as one JSON text in strict UTF-8; indented by two blanks if asked.

    What JSON does not know becomes a short text: bytes are counted, never written out.
    """
    try:
        return orjson.dumps(value, default=_stand_in, option=orjson.OPT_INDENT_2 if indent else None)
    except orjson.JSONEncodeError:
        return _patient_json(value, indent)


def from_json(text: bytes) -> Any:
    """The value in a text that ``to_json`` wrote, or in any other JSON text.

    Raises:
        ValueError: it is not JSON, or nested too deep to be read.
    """
    if _NINETEEN_DIGITS not in text.translate(_DIGITS):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass  # lone surrogates, which only the patient one takes; or no JSON, as it will say too
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _patient_json(value: Any, indent: bool) -> bytes:
    plain = {_key(k): _field(v) for k, v in value.items()} if isinstance(value, dict) else _field(value)
    form: dict[str, Any] = {"indent": 2} if indent else {"separators": (",", ":")}
    try:
        return json.dumps(plain, ensure_ascii=False, allow_nan=False, **form).encode()
    except UnicodeEncodeError:  # a lone surrogate: only its escape is valid UTF-8
        return json.dumps(plain, ensure_ascii=True, allow_nan=False, **form).encode()


def _field(value: Any) -> Any:
    try:
        return _plain(value, 0)
    except RecursionError:
        return "<nested too deep>"


def _plain(value: Any, level: int) -> Any:
    """``value`` out of nothing but what ``json`` writes."""
    if level > _MAX_LEVELS:  # the whole field is given up, for what holds itself would grow without end
        raise RecursionError
    if isinstance(value, dict):
        return {_key(k): _plain(v, level + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, level + 1) for item in value]
    if isinstance(value, int):
        return value if value.bit_length() <= _MAX_INTEGER_BITS else f"<integer of {value.bit_length()} bits>"
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # as orjson does
    return value if isinstance(value, str | None) else _leaf(value)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(_leaf(key))


def _leaf(value: Any) -> Any:
    try:
        return orjson.loads(orjson.dumps(value, default=_stand_in))
    except orjson.JSONEncodeError:
        stand_in = _stand_in(value)
        return stand_in if isinstance(stand_in, str | int) else f"<{type(value).__name__}>"


def _stand_in(value: object) -> object:
    """For values that JSON does not know."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{memoryview(value).nbytes} bytes>"
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Number | PurePath):
        return str(value)
    return dict(value) if isinstance(value, Mapping) else f"<{type(value).__name__}>"
