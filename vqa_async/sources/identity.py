"""Who a record is: an id that stays the same when the input is reordered, extended or edited elsewhere.

The id is the row's own, or a digest of what is asked. Rows that are the same in both are repeats, told apart
by an occurrence number: ``x``, ``x-2``, ``x-3``. The same own id on different content is a mistake in the
input and is refused, for resuming could not tell the two apart.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import PurePath
from typing import Any, NamedTuple

import orjson

from vqa_async.errors import RecordError
from vqa_async.keytable import RecordTable, mark

_DIGEST_BYTES = 16


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


class Identity(NamedTuple):
    """An id, and the state in which earlier runs left it: None where they know nothing of it."""

    id: str
    state: bytes | None


class Identities:
    """The ids given out so far, each with what an earlier run made of it.

    Args:
        known: what is known of records before the input is read; ids are noted in it as they are given out.
    """

    __slots__ = ("_known", "_repeats")

    def __init__(self, known: RecordTable | None = None) -> None:
        self._known = RecordTable() if known is None else known
        self._repeats: dict[str, int] = {}

    def claim(self, id: str, digest: bytes) -> Identity | None:
        """The identity of a row that names itself ``id``; None where a row with other content has it."""
        met, state = self._known.meet(id, digest)
        if met is None:
            return Identity(id, state)
        if met == mark(digest) or self._is_numbered(id):
            return self._number(id, digest)
        return None

    def give(self, id: str, digest: bytes) -> Identity:
        """The identity of a row that is called ``id`` by us, numbered where that is taken."""
        met, state = self._known.meet(id, digest)
        return Identity(id, state) if met is None else self._number(id, digest)

    def _number(self, id: str, digest: bytes) -> Identity:
        number = self._repeats.get(id, 1) + 1
        while (met := self._known.meet(numbered := f"{id}-{number}", digest))[0] is not None:
            number += 1
        self._repeats[id] = number
        return Identity(numbered, met[1])

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
