"""What is known of records, by their ids, at some 20 bytes each: which are done, which were met in the input.

A Python set of ids costs over 100 bytes an entry, and runs go over tens of millions of records. Here an id
is hashed (blake2b), the hash leads to a bucket, and the bucket is a bytearray of fixed-size entries that is
searched with ``bytearray.find``, at C speed. A bucket that gets long is split into four by two more bits of
the hash: from about 400,000 entries on, so that until then there is no tree to go through.

Two ids are confused only if their hashes agree in 6 + 8 x ``key_bytes`` bits: at ten million ids and 8
bytes the chance that any two do is about 4e-8, at 10 bytes below 1e-12.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TypeAlias, Union

_WIDTH = 64
"""Shelves, and buckets on a shelf; a shelf is made when it is first needed."""
_SPLIT_AT = 96
"""Entries beyond which a bucket is split."""
_MOST_SPLITS = 16
"""As deep as 32 bits lead."""

_Node: TypeAlias = Union[bytearray, "list[_Node]", None]
"""A bucket, or four nodes told apart by two bits; None until there is an entry."""


class KeyTable:
    """Maps ids to values of a fixed number of bytes.

    Args:
        key_bytes: bytes of the hash kept per entry, besides the 6 bits that choose the shelf.
        value_bytes: length of every value.
    """

    __slots__ = ("_count", "_digest_bytes", "_key_bytes", "_shelves", "_stride", "_value_bytes")

    def __init__(self, *, key_bytes: int, value_bytes: int) -> None:
        self._digest_bytes = 1 + key_bytes
        self._key_bytes = key_bytes
        self._value_bytes = value_bytes
        self._stride = key_bytes + value_bytes
        self._shelves: list[list[_Node] | None] = [None] * _WIDTH
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, id: str) -> bytes | None:
        """The value stored for ``id``, or None."""
        _, _, _, bucket, at = self._find(self._key(id))
        return self._value(bucket, at) if bucket is not None and at >= 0 else None

    def set(self, id: str, value: bytes) -> None:
        """Store ``value`` for ``id``, replacing what was there."""
        assert len(value) == self._value_bytes
        key = self._key(id)
        nodes, number, depth, bucket, at = self._find(key)
        if bucket is None or at < 0:
            self._add(nodes, number, depth, key[1:] + value)
        else:
            bucket[at + self._key_bytes : at + self._stride] = value

    def setdefault(self, id: str, value: bytes, *, blank: int = 0) -> bytes | None:
        """The value that is there already; None where there was none, and then ``value`` is stored.

        Where the last ``blank`` bytes of what is there are all zero, those of ``value`` replace them.
        """
        assert len(value) == self._value_bytes
        key = self._key(id)
        nodes, number, depth, bucket, at = self._find(key)
        if bucket is None or at < 0:
            self._add(nodes, number, depth, key[1:] + value)
            return None
        found = bytes(bucket[at + self._key_bytes : at + self._stride])
        if blank and not any(found[-blank:]):
            bucket[at + self._stride - blank : at + self._stride] = value[-blank:]
        return found

    def _key(self, id: str) -> bytes:
        # surrogatepass: an id read from a file name may hold lone surrogates.
        return blake2b(id.encode("utf-8", "surrogatepass"), digest_size=self._digest_bytes).digest()

    def _find(self, key: bytes) -> tuple[list[_Node], int, int, bytearray | None, int]:
        """Where ``key`` belongs: the list and place of its bucket, how many splits deep, the bucket if
        there is one, and where in it the entry begins, -1 where there is none."""
        number, depth = key[0] % _WIDTH, 0
        nodes = self._shelves[number]
        if nodes is None:
            nodes = self._shelves[number] = [None] * _WIDTH
        number = key[1] % _WIDTH
        node = nodes[number]
        if type(node) is list:
            bits = int.from_bytes(key[2:6], "little")
            while type(node) is list:
                nodes, number, depth = node, bits & 3, depth + 1
                bits >>= 2
                node = nodes[number]
        if node is None:
            return nodes, number, depth, None, -1
        assert isinstance(node, bytearray)
        wanted = key[1:]
        at = node.find(wanted)
        while at >= 0 and at % self._stride:  # a match across two entries, or inside a value
            at = node.find(wanted, at + 1)
        return nodes, number, depth, node, at

    def _value(self, bucket: bytearray, at: int) -> bytes:
        return bytes(bucket[at + self._key_bytes : at + self._stride])

    def _add(self, nodes: list[_Node], number: int, depth: int, entry: bytes) -> None:
        bucket = nodes[number]
        if not isinstance(bucket, bytearray):
            nodes[number] = bytearray(entry)
        else:
            bucket += entry
            if len(bucket) > _SPLIT_AT * self._stride and depth < _MOST_SPLITS:
                nodes[number] = self._split(bucket, depth)
        self._count += 1

    def _split(self, bucket: bytearray, depth: int) -> list[_Node]:
        parts = [bytearray() for _ in range(4)]
        for at in range(0, len(bucket), self._stride):
            bits = int.from_bytes(bucket[at + 1 : at + 5], "little") >> 2 * depth
            parts[bits & 3] += bucket[at : at + self._stride]
        return [bytearray(part) or None for part in parts]


_UNKNOWN = b"\0"
_NOT_MET = bytes(4)


class RecordTable:
    """What earlier runs made of records, and which of them the input at hand holds.

    Both in one table, because a resumed run asks for both with every row of its input, and a look-up in a
    large table costs more than all else that is done for a row that needs no request.

    A state is one byte that whoever stores it chooses, but not zero.
    """

    __slots__ = ("_count", "_table")

    def __init__(self) -> None:
        self._table = KeyTable(key_bytes=10, value_bytes=1 + len(_NOT_MET))
        self._count = 0

    def __len__(self) -> int:
        """Ids that have a state."""
        return self._count

    def get(self, id: str) -> bytes | None:
        """The state of ``id``, None where it has none."""
        return _state(self._table.get(id))

    def set(self, id: str, state: bytes) -> None:
        """Store the state of ``id``, replacing what was there."""
        before = self._table.get(id) or _UNKNOWN + _NOT_MET
        self._count += before[:1] == _UNKNOWN
        self._table.set(id, state + before[1:])

    def setdefault(self, id: str, state: bytes) -> bytes | None:
        """The state that is there already; None where there was none, and then ``state`` is stored."""
        before = self._table.setdefault(id, state + _NOT_MET)
        if before is None:
            self._count += 1
        elif before[:1] == _UNKNOWN:
            self.set(id, state)
        return _state(before)

    def meet(self, id: str, digest: bytes) -> tuple[bytes | None, bytes | None]:
        """Note that the input holds ``id``.

        Args:
            id: an id that a row has, or is to be given.
            digest: of what the row asks.

        Returns:
            The mark of the content with which the id was met before (compare with ``mark``), None where this
            is the first time; and its state, None where it has none.
        """
        before = self._table.setdefault(id, _UNKNOWN + mark(digest), blank=len(_NOT_MET))
        if before is None:
            return None, None
        return (None if before[1:] == _NOT_MET else before[1:]), _state(before)


def mark(digest: bytes) -> bytes:
    """The part of a digest that is remembered: other content passes for the same in 1 of 4e9 cases."""
    found = digest[: len(_NOT_MET)]
    return found if found != _NOT_MET else b"\0\0\0\1"


def _state(value: bytes | None) -> bytes | None:
    return None if value is None or value[:1] == _UNKNOWN else value[:1]
