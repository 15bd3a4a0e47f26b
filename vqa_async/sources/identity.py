"""Who a record is: an id that stays the same when the input is reordered, extended or edited elsewhere.

The id is the row's own, or a digest of what is asked. Rows that are the same in both are repeats, told apart
by an occurrence number: ``x``, ``x-2``, ``x-3``. The same own id on different content is a mistake in the
input and is refused, for resuming could not tell the two apart.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import PurePath
from typing import Any

import orjson

from vqa_async.errors import RecordError
from vqa_async.keytable import KeyTable

_DIGEST_BYTES = 16
_REMEMBERED_BYTES = 4  # two rows of one id and other content pass for one in 1 of 4e9 cases


def canonical(value: Any) -> bytes:
    """``value`` as JSON with sorted keys; an image's bytes count by their digest, path objects by their text.

    Raises:
        RecordError: it cannot be written as JSON.
    """
    try:
        return orjson.dumps(value, default=_stand_in, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise RecordError(f"it cannot be written as JSON: {_reason(error)}.", code="not_json") from None


def digest_of(content: bytes) -> bytes:
    """The 128-bit digest that stands for ``content``."""
    return blake2b(content, digest_size=_DIGEST_BYTES).digest()


class Identities:
    """The ids given out so far, in about 20 bytes each."""

    __slots__ = ("_repeats", "_seen")

    def __init__(self) -> None:
        self._seen = KeyTable(key_bytes=8, value_bytes=_REMEMBERED_BYTES)
        self._repeats: dict[str, int] = {}

    def claim(self, id: str, digest: bytes) -> str | None:
        """The id for a row that names itself ``id``; None where another row with other content has it."""
        content = digest[:_REMEMBERED_BYTES]
        holder = self._seen.setdefault(id, content)
        if holder is None:
            return id
        if holder == content or self._is_numbered(id):
            return self._number(id, content)
        return None

    def give(self, id: str, digest: bytes) -> str:
        """The id for a row that is called ``id`` by us, numbered where that is taken."""
        content = digest[:_REMEMBERED_BYTES]
        return id if self._seen.setdefault(id, content) is None else self._number(id, content)

    def _number(self, id: str, content: bytes) -> str:
        number = self._repeats.get(id, 1) + 1
        while self._seen.get(numbered := f"{id}-{number}") is not None:
            number += 1
        self._repeats[id] = number
        self._seen.set(numbered, content)
        return numbered

    def _is_numbered(self, id: str) -> bool:
        """Whether ``id`` was made here, for a repeat, before a row came that has it as its own."""
        original, dash, number = id.rpartition("-")
        return (
            bool(dash)
            and number.isdecimal()
            and len(number) < 12
            and 2 <= int(number) <= self._repeats.get(original, 0)
        )


def _stand_in(value: Any) -> str:
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return digest_of(bytes(value)).hex()
    raise TypeError


def _reason(error: TypeError) -> str:
    text = str(error)
    return "it holds text that is not valid Unicode" if "UTF-8" in text else text
