"""Which split an example goes to: by image, never by row.

Examples that share an image, directly or through others, are one component (union-find), and a component
goes where the smallest hash of its images' references says, hashed once more, for the smallest of several
is small, and large components would all go to the first split. So no image straddles two splits, and a
record stays where it is when others are added, unless they tie it to more images. Some 40 bytes an example
and 20 an image; nothing else of them is held.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate

from vqa_async.keytable import KeyTable

_PLACE_BYTES = 6
_RANGE = 1 << 64


class Splits:
    """Add every example in order, then ask for its split by its number.

    Args:
        shares: the splits' names and shares.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        self._names = tuple(shares)
        self._bounds = [round(bound * _RANGE) for bound in accumulate(shares.values())]
        self._parents, self._least = array("q"), array("Q")
        self._first = KeyTable(key_bytes=12, value_bytes=_PLACE_BYTES)

    def add(self, same: Iterable[str], names: Sequence[str]) -> None:
        """The next example.

        Args:
            same: what it has in common with examples that must be in the same split.
            names: of these the ones that decide where it goes; of an example without images, its id.
        """
        number = len(self._parents)
        self._parents.append(number)
        self._least.append(min(_hash(name) for name in names))
        for key in same:
            before = self._first.setdefault(key, number.to_bytes(_PLACE_BYTES, "big"))
            if before is not None:
                self._join(int.from_bytes(before, "big"), number)

    def of(self, number: int) -> str:
        """The split of an example, after all were added."""
        draw = _hash(str(self._least[self._root(number)]))
        at = next((at for at, bound in enumerate(self._bounds) if draw < bound), len(self._bounds) - 1)
        return self._names[at]

    def _root(self, number: int) -> int:
        parents = self._parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    def _join(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        self._parents[second] = first
        self._least[first] = min(self._least[first], self._least[second])


def _hash(name: str) -> int:
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, person=b"vqa split").digest()
    return int.from_bytes(digest, "big")
