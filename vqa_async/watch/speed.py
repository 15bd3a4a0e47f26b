"""How fast a run goes and when it ends, from looks at its counters. The clock is in the looks.

The time left is a range, not a number: what is left, divided by the rate of the last minute, give or take
two standard errors of that rate. The error is the larger of two: how much the rate differed between the
slices of that minute, and what chance alone does to so few records. Both shrink as the run goes on evenly.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

NOW_S = 10.0
"""Seconds over which "now" is measured."""

ESTIMATE_S = 60.0
"""Seconds over which the time left is estimated."""

_LEAST_FINISHED = 3
"""Records without which no time left is told."""

_LEAST_ERROR = 0.03
"""Of the rate: no run is more even than this for long."""

_GUESSED_INPUT = 0.1
"""Share by which the size of an input may be wrong that was not read to its end."""

_SLICES = 6


@dataclass(frozen=True, slots=True)
class Look:
    """Counters at one moment.

    Attributes:
        at_s: seconds since the run began.
        finished: records that ended in this run.
        prompt_tokens, completion_tokens: so far.
    """

    at_s: float
    finished: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Speed:
    """Rates a second.

    Attributes:
        now: records, over the last seconds.
        overall: records, since the run began.
        tokens_in, tokens_out: over the last seconds.
    """

    now: float = 0.0
    overall: float = 0.0
    tokens_in: float = 0.0
    tokens_out: float = 0.0


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """Seconds until the end, at least and at most; ``high_s`` may be infinite."""

    low_s: float
    high_s: float

    def __str__(self) -> str:
        unit_s, unit = _unit(self.high_s if math.isfinite(self.high_s) else self.low_s)
        low = _said(self.low_s / unit_s, unit)
        if not math.isfinite(self.high_s):
            return f"at least {low} {unit}"
        high = _said(self.high_s / unit_s, unit)
        return f"about {high} {unit}" if low == high else f"{low} to {high} {unit}"


def _unit(seconds: float) -> tuple[float, str]:
    if seconds < 100:
        return 1.0, "s"
    if seconds < 100 * 60:
        return 60.0, "min"
    return (3600.0, "h") if seconds < 72 * 3600 else (86400.0, "days")


def _said(number: float, unit: str) -> str:
    """Halves of what is long, no parts of what is short."""
    if unit in ("h", "days") and number < 10:
        return f"{round(number * 2) / 2:g}"
    return f"{max(1, round(number)):,}"


class Speedometer:
    """Keeps the looks of the last minute, however often it is looked."""

    def __init__(self) -> None:
        self._looks: deque[Look] = deque()

    def look(self, look: Look) -> Speed:
        """Note ``look``; the rates up to it."""
        looks = self._looks
        if not looks:
            looks.append(Look(0.0, 0, 0, 0) if look.at_s < ESTIMATE_S else look)
        looks.append(look)
        while len(looks) > 2 and look.at_s - looks[1].at_s >= ESTIMATE_S:
            looks.popleft()
        overall = look.finished / look.at_s if look.at_s > 0 else 0.0
        first = next(one for one in looks if one is look or look.at_s - one.at_s <= NOW_S)
        if first is look and len(looks) > 1:
            first = looks[-2]
        seconds = look.at_s - first.at_s
        if seconds <= 0:
            return Speed(overall=overall)
        return Speed(
            now=(look.finished - first.finished) / seconds,
            overall=overall,
            tokens_in=(look.prompt_tokens - first.prompt_tokens) / seconds,
            tokens_out=(look.completion_tokens - first.completion_tokens) / seconds,
        )

    def time_left(self, left: int, *, is_exact: bool) -> TimeLeft | None:
        """When ``left`` records will be through; None where that cannot be told."""
        return time_left(tuple(self._looks), left, is_exact=is_exact)


def time_left(looks: Sequence[Look], left: int, *, is_exact: bool) -> TimeLeft | None:
    """The same from ``looks``, the oldest first."""
    if left <= 0 or len(looks) < 2:
        return None
    seconds, finished = looks[-1].at_s - looks[0].at_s, looks[-1].finished - looks[0].finished
    if seconds <= 0 or finished < _LEAST_FINISHED:
        return None
    mean = finished / seconds
    error = max(mean * _LEAST_ERROR, math.sqrt(finished) / seconds, _spread(looks))
    guess = 0.0 if is_exact else _GUESSED_INPUT
    low_s, slowest = left * (1 - guess) / (mean + 2 * error), mean - 2 * error
    return TimeLeft(low_s, left * (1 + guess) / slowest if slowest > mean / 20 else math.inf)


def _spread(looks: Sequence[Look]) -> float:
    """Standard error of the mean rate, by how much the slices of the time differ."""
    begin, end = looks[0].at_s, looks[-1].at_s
    edges = [looks[0]]
    for look in looks:
        if look.at_s >= begin + len(edges) * (end - begin) / _SLICES and look.at_s > edges[-1].at_s:
            edges.append(look)
    rates = [(b.finished - a.finished) / (b.at_s - a.at_s) for a, b in pairwise(edges)]
    if len(rates) < 3:
        return 0.0
    mean = sum(rates) / len(rates)
    return math.sqrt(sum((one - mean) ** 2 for one in rates) / (len(rates) - 1) / len(rates))
