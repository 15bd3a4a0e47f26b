"""One rate, kept: a bucket that fills steadily and is drawn from. Decisions only.

The caller brings the clock. It never polls: it says when enough will be there. What a request really cost is
settled afterwards, so a bucket may be below zero for a while; and one that cannot hold what a request needs
gives all that it has. (Turner, "New Directions in Communications", 1986: the leaky bucket as a meter.)
"""

from __future__ import annotations


class Bucket:
    """Units that may be spent, ``per_s`` more each second, ``capacity`` at most at once.

    Args:
        per_s: units a second.
        capacity: units that may be spent at once after a rest.
        now: seconds on the caller's clock.
        level: units at first; default: as many as it holds.
    """

    __slots__ = ("_at", "_level", "capacity", "per_s")

    def __init__(self, per_s: float, capacity: float, now: float, *, level: float | None = None) -> None:
        self.per_s = per_s
        self.capacity = capacity
        self._level = capacity if level is None else level
        self._at = now

    def __repr__(self) -> str:
        return f"<Bucket {self._level:.1f} of {self.capacity:.1f}, {self.per_s:.3g}/s>"

    def ready_at(self, now: float, units: float) -> float:
        """The time at which ``units`` may be spent, ``now`` at the earliest."""
        self._fill(now)
        missing = min(units, self.capacity) - self._level
        # A hair is not waited for: a timer may ring that much early.
        return now if missing <= 1e-6 * self.capacity else now + missing / self.per_s

    def spend(self, now: float, units: float) -> None:
        """Take ``units``; a negative number gives back."""
        self._fill(now)
        self._level = min(self.capacity, self._level - units)

    def lower(self, now: float, level: float) -> None:
        """No more than ``level`` units are there: somebody else has spent some."""
        self._fill(now)
        self._level = min(self._level, level)

    def fill_to(self, now: float, level: float) -> None:
        """Exactly ``level`` units are there: whoever counts them says so."""
        self._fill(now)
        self._level = min(self.capacity, level)

    def change(self, now: float, per_s: float, capacity: float) -> None:
        """From now on it fills at another rate."""
        self._fill(now)
        self.per_s = per_s
        self.capacity = capacity
        self._level = min(self._level, capacity)

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._level = min(self.capacity, self._level + (now - self._at) * self.per_s)
            self._at = now
