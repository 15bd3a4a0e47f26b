"""How values and moments are spread, in memory that does not depend on their number. Decisions only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import floor, log10

_MOST_BINS = 4096


class Spread:
    """Values rounded to three digits, counted: so a percentile is right to three digits, however many they
    are, and there are at most 900 counters for each power of ten."""

    def __init__(self) -> None:
        self.counts: Counter[float] = Counter()

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, value: float) -> None:
        """Count a value that is not negative."""
        self.counts[_three_digits(value)] += 1

    def percentile(self, share: float) -> float:
        """The smallest value that so large a share does not exceed; 0.0 where there are none."""
        left = share * len(self)
        for value in sorted(self.counts):
            left -= self.counts[value]
            if left <= 1e-9:
                return value
        return 0.0

    @property
    def mean(self) -> float:
        """The average; 0.0 where there are no values."""
        total = len(self)
        return sum(value * n for value, n in self.counts.items()) / total if total else 0.0

    @property
    def largest(self) -> float:
        """The largest value; 0.0 where there are none."""
        return max(self.counts, default=0.0)


def _three_digits(value: float) -> float:
    if value <= 0:
        return 0.0
    return round(value, 2 - floor(log10(value)))


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which something went on.

    Attributes:
        start: Unix time at which it begins.
        width_s: seconds of one of its bins.
        counts: what happened in each bin.
    """

    start: float
    width_s: float
    counts: list[int]

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.width_s * len(self.counts)


class Timeline:
    """Moments, counted in bins of time that get wider as time goes on. They may come in any order."""

    def __init__(self) -> None:
        self._width_s = 1 / 64
        self._bins: Counter[int] = Counter()

    def add(self, moment: float) -> None:
        """Count a moment, as Unix time."""
        self._bins[int(moment // self._width_s)] += 1
        if len(self._bins) > _MOST_BINS:
            self._widen()

    def _widen(self) -> None:
        self._width_s *= 2
        wider: Counter[int] = Counter()
        for number, count in self._bins.items():
            wider[number // 2] += count
        self._bins = wider

    def stretches(self, columns: int, pause_s: float = 60.0) -> list[Stretch]:
        """The times between pauses, in bins of one width, about ``columns`` of them in all.

        Args:
            columns: bins wanted.
            pause_s: seconds without anything that part two stretches, at least; a longer part of the whole,
                where it is long.
        """
        runs = list(self._runs(max(1, round(pause_s / self._width_s))))
        total = sum(last - first + 1 for first, last in runs)
        step = max(1, -(-total // columns))
        return [self._stretch(first, last, step) for first, last in runs]

    def _runs(self, gap: int) -> Iterator[tuple[int, int]]:
        """First and last bin of each stretch."""
        numbers = sorted(self._bins)
        if not numbers:
            return
        first = before = numbers[0]
        for number in numbers[1:]:
            if number - before > gap:
                yield first, before
                first = number
            before = number
        yield first, before

    def _stretch(self, first: int, last: int, step: int) -> Stretch:
        counts = [
            sum(self._bins.get(number, 0) for number in range(at, min(at + step, last + 1)))
            for at in range(first, last + 1, step)
        ]
        return Stretch(first * self._width_s, self._width_s * step, counts)
