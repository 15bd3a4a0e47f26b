"""What may be on the wire at one endpoint, now: a width, a pause and rates. Decisions only.

A Gate has a width (requests in flight at most), a pause (nothing starts before then) and rates (requests and
tokens a minute). A 429 pauses everyone at the endpoint until the time the server named. Where it is not a
rate that explains the 429s, the gate narrows as well, and every success widens it a little, up to what the
user allows: additive increase, multiplicative decrease (Chiu and Jain, "Analysis of the Increase and Decrease
Algorithms for Congestion Avoidance", 1989). So after a pause not all come back at once, and a server that
says 429 for ever still gets one request at a time.
"""

from __future__ import annotations

from vqa_async.limits.rates import Rates
from vqa_async.limits.width import DECREASE, AdaptiveWidth

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0

_SHORTEST_WAIT_S = 0.25
_TRUSTED = 3
"""Refusals in a row after which an endpoint that asks for less is not taken at its word: it says 0 to all."""


def _pause_s(number: int) -> float:
    """The ``number``-th pause in a row for which nobody has named a time."""
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(number - 1, 10))


class Gate:
    """Width, pause and rates of one endpoint.

    Args:
        limit: the width at most, and at first where it is not adaptive.
        adaptive: finds the width by itself.
        rates: requests and tokens a minute; default: none until the endpoint tells.
    """

    __slots__ = (
        "_adaptive",
        "_in_a_row",
        "_limit",
        "_width_before",
        "in_flight",
        "limited_since",
        "rates",
        "resume_at",
        "width",
    )

    def __init__(
        self, limit: int, *, adaptive: AdaptiveWidth | None = None, rates: Rates | None = None
    ) -> None:
        self._limit = limit
        self._adaptive = adaptive
        self._in_a_row = 0  # pauses in a row, without an answer in between
        self._width_before = 0.0
        self.rates = rates or Rates()
        self.width = float(limit) if adaptive is None else adaptive.value
        self.in_flight = 0
        self.resume_at = 0.0
        self.limited_since: float | None = None
        """When the endpoint began to refuse without an answer in between."""

    def __repr__(self) -> str:
        return f"<Gate {self.in_flight}/{self.width:.1f} in flight, closed until {self.resume_at:.2f}>"

    @property
    def is_adaptive(self) -> bool:
        """Whether the width is found by trying."""
        return self._adaptive is not None

    def admits(self, now: float, tokens: float = 0.0) -> bool:
        """Whether one more request, of about ``tokens`` tokens, may start at ``now``."""
        if now < self.resume_at or self.in_flight >= int(self.width):
            return False
        return not self.rates.is_active or self.rates.ready_at(now, tokens) <= now

    def opens_at(self, now: float, tokens: float = 0.0) -> float:
        """When pause and rates allow the next request; the width may forbid it even then."""
        if not self.rates.is_active:
            return self.resume_at
        return max(self.resume_at, self.rates.ready_at(now, tokens))

    def entered(self, now: float, tokens: float = 0.0) -> None:
        """A request starts."""
        self.in_flight += 1
        self.rates.sent(now, tokens)
        if self._adaptive is not None:
            self._adaptive.sent(now, self.in_flight)

    def left(self) -> None:
        """A request is over, and its result kept."""
        self.in_flight -= 1

    def succeeded(self, now: float = 0.0, *, sent_at: float = 0.0) -> None:
        """A request was answered.

        A fixed width that was narrowed grows by one for each full width of answers.
        """
        self._in_a_row = 0
        self.limited_since = None
        if self._adaptive is not None:
            self._adaptive.answered(now, sent_at=sent_at, in_flight=self.in_flight)
            self.width = self._adaptive.value
        elif self.width < self._limit:
            self.width = min(self._limit, self.width + 1 / self.width)

    def failed(self, now: float, *, sent_at: float, timed_out: bool = False) -> None:
        """A request failed otherwise than by a 429. A timeout counts as a very late answer."""
        if self._adaptive is None:
            return
        if timed_out:
            self._adaptive.answered(now, sent_at=sent_at, in_flight=self.in_flight)
        else:
            self._adaptive.failed(now, sent_at=sent_at, in_flight=self.in_flight)
        self.width = self._adaptive.value

    def rate_limited(self, now: float, wait_s: float | None, *, sent_at: float) -> None:
        """A 429 came in: nothing starts for ``wait_s`` seconds (None: the server did not say).

        Requests that were in flight together get their 429s together, or one by one over seconds; only the
        first of them counts. The others are known by ``sent_at``: before the pause that the first began.
        """
        is_first = sent_at >= self.resume_at
        self._in_a_row += is_first
        self.limited_since = now if self.limited_since is None else self.limited_since
        if wait_s is None:
            wait_s = _pause_s(self._in_a_row)
        elif wait_s < _SHORTEST_WAIT_S and self._in_a_row > _TRUSTED:
            wait_s = _pause_s(self._in_a_row - _TRUSTED)
        self.resume_at = max(self.resume_at, now + wait_s)
        self.rates.refused(now, self.resume_at, is_first=is_first)
        if is_first:
            self._narrow(now)
        elif self._adaptive is not None:
            self._adaptive.failed(now, sent_at=sent_at, in_flight=self.in_flight)

    def _narrow(self, now: float) -> None:
        if self.rates.explains_refusals:
            self._widen_again()
            return
        is_to_blame = self.rates.rules_out_rates(now)
        self._width_before = self.width if is_to_blame else max(self._width_before, self.width)
        if self._adaptive is not None:
            # A width that is hardly used is not what is refused, unless nothing else is left.
            if is_to_blame or self.in_flight >= self.width / 2:
                self._adaptive.refused(now, self.in_flight)
                self.width = self._adaptive.value
        else:
            self.width = max(1.0, min(self.width, float(self.in_flight)) * DECREASE)

    def _widen_again(self) -> None:
        """What narrowed us was a rate, which is kept to from now on: the width was not to blame."""
        if self._adaptive is not None:
            self._adaptive.acquit(self._width_before)
            self.width = self._adaptive.value
        else:
            self.width = max(self.width, self._width_before)
        self._width_before = 0.0
