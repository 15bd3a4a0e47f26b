"""When a request has taken so long that it is worth sending again. Decisions only.

(Dean and Barroso, "The Tail at Scale", 2013: hedged requests after the 95th percentile cost a few percent
more requests and cut the tail.)
"""

from __future__ import annotations

from collections import deque

MOST_EXTRA = 0.02
"""Requests that may be sent a second time, as a share of all."""

_SLOWER = 1.25
"""How many times the usual latency a request must have taken: where all take as long, none is slow."""

_REMEMBERED = 400
_FROM = 50
"""Latencies that are looked back on, and how many there must be."""


class Hedging:
    """Latencies of late, and the requests that were sent twice.

    Args:
        share: of requests that are not slow, such as 0.95.
    """

    __slots__ = ("_delay_s", "_latencies", "_requests", "_share", "extra")

    def __init__(self, share: float) -> None:
        self._share = share
        self._latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self._delay_s: float | None = None
        self._requests = 0
        self.extra = 0

    def answered(self, latency_s: float) -> None:
        """A request was answered."""
        self._requests += 1
        self._latencies.append(latency_s)
        if len(self._latencies) >= _FROM and (self._delay_s is None or self._requests % _FROM == 0):
            in_order = sorted(self._latencies)
            slow_s = in_order[min(int(self._share * len(in_order)), len(in_order) - 1)]
            self._delay_s = max(slow_s, _SLOWER * in_order[len(in_order) // 2])

    def delay_s(self) -> float | None:
        """Seconds after which a request is slow; None while that is not known, or none may be sent twice."""
        return self._delay_s if self.extra + 1 <= MOST_EXTRA * self._requests else None

    def sent(self) -> None:
        """A request was sent a second time."""
        self.extra += 1
