"""A number of bytes that many share: take, wait in line, give back. Never polls.

First come, first served: a large request at the head is not overtaken by small ones behind it, so it
cannot starve. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque


class ByteBudget:
    """Bounds the bytes held at once.

    Args:
        total: bytes that may be held; a request for more is taken for all of them.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._in_use = 0
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    def __repr__(self) -> str:
        return f"ByteBudget({self._in_use:,} of {self._total:,} bytes, {self.waiting} waiting)"

    @property
    def in_use(self) -> int:
        """Bytes held now."""
        return self._in_use

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def take_at_once(self, amount: int) -> int | None:
        """What ``take`` does, where nobody has to wait for it; else None."""
        amount = min(amount, self._total)
        if self._line or not self._fits(amount):
            return None
        self._in_use += amount
        return amount

    async def take(self, amount: int) -> int:
        """Wait until ``amount`` bytes are free and hold them.

        Returns:
            The bytes held, to be given back: ``amount``, or the whole budget where that is less.
        """
        held = self.take_at_once(amount)
        if held is not None:
            return held
        amount = min(amount, self._total)
        turn = asyncio.get_running_loop().create_future()
        place = (amount, turn)
        self._line.append(place)
        try:
            await turn
        except asyncio.CancelledError:
            self._step_out(place)
            raise
        return amount

    def change(self, held: int, amount: int) -> int:
        """Replace an estimate by what it turned out to be. More than free is granted: it exists already."""
        self._in_use += amount - held
        self._wake()
        return amount

    def give_back(self, held: int) -> None:
        """Free what was held."""
        self.change(held, 0)

    def _fits(self, amount: int) -> bool:
        return self._in_use + amount <= self._total

    def _step_out(self, place: tuple[int, asyncio.Future[None]]) -> None:
        """Leave the line; what was granted in the same moment goes to the next."""
        amount, turn = place
        if turn.done() and not turn.cancelled():
            self._in_use -= amount
        elif place in self._line:  # else it was passed over already, cancelled as it was
            self._line.remove(place)
        self._wake()

    def _wake(self) -> None:
        while self._line and self._fits(self._line[0][0]):
            amount, turn = self._line.popleft()
            if not turn.cancelled():
                self._in_use += amount
                turn.set_result(None)
