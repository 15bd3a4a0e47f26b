"""How many requests in flight an endpoint makes the best of: found by trying, with nothing to be set.

The rule is AIMD at its heart (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for Congestion
Avoidance", 1989), entered by doubling (Jacobson, "Congestion Avoidance and Control", 1988): widen while it
pays, narrow by a factor when it does not. What pays is read from the latency, as in the Gradient2 limit of
Netflix's concurrency-limits: where an endpoint keeps up, requests take as long at any width; once it is
saturated, twice the width is twice the latency and no answer more. Gradient2 compares with a long average,
which a wide start or a slow hour spoils for good; here two widths are measured one after the other, and only
those are compared:

    elasticity = ln(latency 2 / latency 1) / ln(width 2 / width 1)        0: it keeps up, 1: it is saturated

Below ``SATURATED`` the wider one gives more answers a second, and is kept. Above, the width that would have
given as many without queueing is ``width 2 x latency 1 / latency 2`` (Little's law), and a little more than
that is where we stay, to try a step up or down now and then.

A width is measured with a cohort: the first requests that are sent at it. Decisions only: the caller brings
the clock, and says what was sent and what came back.
"""

from __future__ import annotations

import math

SATURATED = 0.7
"""Elasticity from which on a wider gate is not worth it: it gives 23 % more answers for twice the width."""

HEADROOM = 1.1
"""How much wider than the knee: an endpoint that always has one request waiting is never idle."""

DECREASE = 0.7
"""Factor on the width when the endpoint refuses.

Gentler than TCP's 0.5: the server said how much is too much.
"""

_BORNE = 1.05
_BORNE_DECREASE = 0.9
_BORNE_FADES = 0.85
"""A refusal at up to so many times a width that was borne is hardly for the width's sake.

It narrows by less, and lowers what counts as borne by more, so that the next one counts. Else an endpoint
that refuses one request in a hundred at random ends at one in flight.
"""

_DOUBLE = 2.0
_STEP = 1.25
"""Factors of a step: until the knee is found, and afterwards."""

_JUDGED_FROM = 8
"""Below this width the latency of so few requests says little, and doubling costs nothing."""

_QUICK_COHORT = 16
"""Requests that judge a step of doubling, at least; else one for each of the width."""
_CAREFUL_COHORT = 48
"""The same near the knee, where steps are small."""
_CAREFUL_WIDTHS = (3, 8)
"""Such a cohort in widths, at least and at most.

Several rounds of an endpoint that works in batches, but no measuring for ever where latencies spread widely.
"""
_PRECISION = 0.2
"""Standard error of the elasticity for which a cohort is made large enough."""

_IN_TIME = 0.95
"""Share of a cohort whose end is waited for: one request that hangs must not hold up the rest."""

_HOLDS = (2, 4, 8, 16, 32)
"""Cohorts to stay at a width that two tries in a row could not better: more each time."""

_CHANGED = 1.3
"""Factor of the latency at an unchanged width from which on the endpoint is not what it was."""

_CEILING_S = (30.0, 60.0, 120.0, 240.0, 480.0)
"""Seconds for which a width that was refused is not tried again: longer each time."""


class _Cohort:
    """The requests that measure one width: those sent from ``began`` until ``size`` of them are under way."""

    __slots__ = (
        "_area",
        "_first",
        "_last",
        "_square",
        "_sum",
        "began",
        "done",
        "lost",
        "sent",
        "sent_until",
        "size",
    )

    def __init__(self, began: float, size: int) -> None:
        self.began = began
        self.size = size
        self.sent = 0
        self.sent_until = math.inf
        self.done = 0
        self.lost = 0
        self._first = 0.0
        self._last = 0.0
        self._area = 0.0
        self._sum = 0.0
        self._square = 0.0

    def holds(self, sent_at: float) -> bool:
        return self.began <= sent_at <= self.sent_until

    def send(self, now: float, in_flight: int) -> None:
        if not self.sent:
            self._first = self._last = now
        self.pass_time(now, in_flight - 1)
        if self.sent_until == math.inf:
            self.sent += 1
            if self.sent >= self.size:
                self.sent_until = now

    def pass_time(self, now: float, in_flight: int) -> None:
        """Until now, so many were in flight."""
        if self.sent:
            self._area += in_flight * (now - self._last)
            self._last = now

    def add(self, latency_s: float) -> None:
        self.done += 1
        self._sum += latency_s
        self._square += latency_s * latency_s

    @property
    def is_complete(self) -> bool:
        return self.sent >= self.size and self.done + self.lost >= int(self.sent * _IN_TIME)

    @property
    def width(self) -> float:
        """Requests in flight since the first of these was sent, on average over the time.

        Not over the requests: where replies come in batches, those of the next batch are sent as the first,
        the second, the third in flight, and are nevertheless worked on together.
        """
        return self._area / max(self._last - self._first, 1e-9)

    @property
    def latency_s(self) -> float:
        return self._sum / self.done

    @property
    def spread(self) -> float:
        """Standard deviation of the latency, as a share of its mean."""
        variance = self._square / self.done - self.latency_s**2
        return math.sqrt(max(0.0, variance)) / max(self.latency_s, 1e-9)


class AdaptiveWidth:
    """The width of one endpoint.

    Args:
        start: the width at first.
        limit: the width at most.

    Attributes:
        value: the width now, 1 at least.

    Example:
        >>> width = AdaptiveWidth(start=8, limit=1000)
        >>> width.sent(0.0, in_flight=1)
        >>> width.answered(0.2, sent_at=0.0, in_flight=1)
        >>> width.value
        8.0
    """

    __slots__ = (
        "_best",
        "_borne",
        "_ceiling",
        "_ceiling_until",
        "_cohort",
        "_down",
        "_factor",
        "_held",
        "_hold",
        "_is_trying",
        "_limit",
        "_refusals",
        "_spread",
        "value",
    )

    def __init__(self, *, start: float, limit: int) -> None:
        self._limit = limit
        self.value = float(min(max(1.0, start), limit))
        # The last width that was measured and kept, with its latency; what is tried is compared with it.
        self._best: tuple[float, float] | None = None
        self._down = False
        self._factor = _DOUBLE
        self._is_trying = True
        self._held = 0
        self._hold = 0
        self._spread = 0.0
        self._ceiling = math.inf
        self._ceiling_until = 0.0
        self._refusals = 0
        self._borne = 0.0  # the widest that went a whole cohort without a refusal; each refusal lowers it
        self._cohort = _Cohort(-math.inf, min(_QUICK_COHORT, math.ceil(self.value)))

    def __repr__(self) -> str:
        state = f"trying x{self._factor:g} {'down' if self._down else 'up'}" if self._is_trying else "settled"
        return f"<AdaptiveWidth {self.value:.1f}, {state}>"

    def sent(self, now: float, in_flight: int) -> None:
        """A request starts, the ``in_flight``-th of those that are under way."""
        self._cohort.send(now, in_flight)

    def answered(self, now: float, *, sent_at: float, in_flight: int) -> None:
        """A request is over that was worked on to its end, or timed out: a very late answer."""
        self._cohort.pass_time(now, in_flight)
        if self._cohort.holds(sent_at):
            self._cohort.add(now - sent_at)
            self._look(now)

    def failed(self, now: float, *, sent_at: float, in_flight: int) -> None:
        """A request is over, but how long it took says nothing."""
        self._cohort.pass_time(now, in_flight)
        if self._cohort.holds(sent_at):
            self._cohort.lost += 1
            self._look(now)

    def refused(self, now: float, in_flight: int) -> None:
        """The endpoint says that it is too much: narrow at once, and stay below for a while.

        Where it has borne as much before, narrow a little, and no ceiling is believed any more.
        """
        refused_at = min(self.value, float(max(1, in_flight)))
        self._best, self._factor, self._down, self._hold = None, _STEP, False, 0
        if refused_at <= self._borne * _BORNE:
            self._borne *= _BORNE_FADES
            self._ceiling_until, self._refusals = 0.0, 0
            self._go(now, refused_at * _BORNE_DECREASE)
            return
        self._ceiling = max(1.0, refused_at * 0.95)
        self._ceiling_until = now + _CEILING_S[min(self._refusals, len(_CEILING_S) - 1)]
        self._refusals += 1
        self._go(now, refused_at * DECREASE)

    def acquit(self, width: float) -> None:
        """What was refused was not for the width's sake: back to ``width``, where nothing was wrong."""
        self._ceiling_until = 0.0
        self._refusals = 0
        self.value = self._bounded(0.0, max(self.value, width))

    # --- decisions, one for each cohort ------------------------------------------------------------------

    def _look(self, now: float) -> None:
        cohort = self._cohort
        if not cohort.is_complete:
            return
        if cohort.done < cohort.sent / 2 or cohort.width < 0.7 * int(self.value):
            self._measure(now)  # errors, or not enough to do: nothing is learned of this width
            return
        if cohort.began == -math.inf and cohort.size < 0.7 * self.value:
            # The head of a wide start, who met no queue; but the gate was full before they were answered, so
            # this is a width to come down from.
            self._down = True
            self._go(now, self.value / self._factor)
            return
        self._spread = cohort.spread
        self._borne = max(self._borne, cohort.width)
        self._judge(now, cohort.width, cohort.latency_s)

    def _judge(self, now: float, width: float, latency_s: float) -> None:
        if self._is_unjudged:
            self._go(now, self.value * _DOUBLE)
        elif self._best is None:
            self._best = (width, latency_s)
            self._try_next(now)
        elif self._is_trying:
            self._compare(now, width, latency_s)
        else:
            self._stay(now, width, latency_s)

    def _compare(self, now: float, width: float, latency_s: float) -> None:
        """Whether the step that was taken has paid."""
        assert self._best is not None
        known_width, known_s = self._best
        steps = math.log(width / known_width)
        if abs(steps) < 0.05:
            self._settle(now, known_width)
            return
        elasticity = math.log(max(latency_s, 1e-9) / max(known_s, 1e-9)) / steps
        is_saturated = elasticity > SATURATED
        if is_saturated == self._down:  # wider gives more, or narrower gives no less: go on that way
            self._best = (width, latency_s)
            self._hold = 0
            if not self._down and elasticity < SATURATED / 2:
                self._factor = min(_DOUBLE, self._factor * _STEP)
            self._try_next(now)
            return
        wide, wide_s = max((width, latency_s), (known_width, known_s))
        narrow, narrow_s = min((width, latency_s), (known_width, known_s))
        knee = wide * min(1.0, narrow_s / max(wide_s, 1e-9))
        if knee < narrow * _STEP and self._factor > _STEP and narrow > 1 and not self._down:
            # Doubling has led far past the knee: both are saturated, so the way back down begins at once.
            self._best = (narrow, narrow_s)
            self._down = True
            self._go(now, narrow / self._factor)
            return
        self._factor = _STEP
        self._settle(now, min(wide, max(knee * HEADROOM, knee + 0.6)))

    def _stay(self, now: float, width: float, latency_s: float) -> None:
        """At a width that was good: look whether it still is, and try another now and then."""
        assert self._best is not None
        _, known_s = self._best
        if latency_s > known_s * _CHANGED or latency_s < known_s / _CHANGED:
            self._down = latency_s > known_s
            self._best = (width, latency_s)
            self._hold = 0
            self._try_next(now)
            return
        self._best = (width, (known_s + latency_s) / 2)
        self._held += 1
        if self._held < _HOLDS[min(self._hold, len(_HOLDS) - 1)]:
            self._measure(now)
            return
        self._hold += 1
        self._down = not self._down
        self._try_next(now)

    def _try_next(self, now: float) -> None:
        """Measure a width that is one step further."""
        assert self._best is not None
        width, _ = self._best
        wanted = width / self._factor if self._down else max(width * self._factor, width + 1)
        reached = self._bounded(now, wanted)
        if abs(reached - width) < 0.5:  # there is no way further
            self._settle(now, reached)
            return
        self._is_trying = True
        self._go(now, reached)

    def _settle(self, now: float, width: float) -> None:
        """Stay at ``width``, which is measured anew before anything is compared with it."""
        self._is_trying = False
        self._held = 0
        if abs(width - self.value) > 0.02 * self.value:
            self._best = None if self._best is None else (width, self._best[1])
        self._go(now, width)

    def _go(self, now: float, width: float) -> None:
        # A gate lets through whole requests: what was measured as 3.96 is 4.
        self.value = self._bounded(now, float(round(width)))
        self._measure(now)

    def _bounded(self, now: float, width: float) -> float:
        ceiling = self._ceiling if now < self._ceiling_until else math.inf
        return min(max(1.0, width), float(self._limit), max(1.0, ceiling))

    @property
    def _is_unjudged(self) -> bool:
        """Whether this is the way up from a start so low that any endpoint bears twice as much."""
        return self._factor == _DOUBLE and not self._down and self.value < _JUDGED_FROM

    def _measure(self, now: float) -> None:
        width = math.ceil(self.value)
        if self._is_unjudged:
            size = max(2, width)
        else:
            least, most = (max(_CAREFUL_COHORT, times * width) for times in _CAREFUL_WIDTHS)
            if self._factor >= _DOUBLE:
                least = max(_QUICK_COHORT, width)
            precise = 2 * (self._spread / (_PRECISION * math.log(self._factor))) ** 2
            size = min(most, max(least, math.ceil(precise)))
        self._cohort = _Cohort(now, size)
