"""What may be on the wire at one endpoint, now. Decisions only: the caller brings the clock and awaits.

A Gate has a width (requests in flight at most) and a pause (nothing starts before then). A 429 pauses
everyone at the endpoint until the time the server named and narrows the gate; every success widens it a
little, up to what the user allows: additive increase, multiplicative decrease (Chiu and Jain, "Analysis
of the Increase and Decrease Algorithms for Congestion Avoidance", 1989). So after a pause not all come
back at once, and a server that says 429 for ever still gets one request at a time.
"""

from __future__ import annotations

DECREASE = 0.7
"""Factor on the width at a 429. Gentler than TCP's 0.5: the server said how much is too much, and when."""

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class Gate:
    """Width and pause of one endpoint.

    Args:
        limit: the width at most, and at first.
    """

    __slots__ = ("_limit", "_unexplained", "in_flight", "resume_at", "width")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._unexplained = 0  # pauses in a row for which the server named no time
        self.width = float(limit)
        self.in_flight = 0
        self.resume_at = 0.0

    def __repr__(self) -> str:
        return f"<Gate {self.in_flight}/{self.width:.1f} in flight, closed until {self.resume_at:.2f}>"

    def admits(self, now: float) -> bool:
        """Whether one more request may start at ``now``."""
        return now >= self.resume_at and self.in_flight < int(self.width)

    def succeeded(self) -> None:
        """A request was answered: widen, by one for each full width of answers."""
        self._unexplained = 0
        if self.width < self._limit:
            self.width = min(self._limit, self.width + 1 / self.width)

    def rate_limited(self, now: float, wait_s: float | None, *, sent_at: float) -> None:
        """A 429 came in: nothing starts for ``wait_s`` seconds (None: the server did not say).

        Requests that were in flight together get their 429s together, or one by one over seconds; only the
        first of them narrows. The others are known by ``sent_at``: before the pause that the first began.
        """
        if sent_at >= self.resume_at:
            self.width = max(1.0, min(self.width, float(self.in_flight)) * DECREASE)
            self._unexplained += 1
        if wait_s is None:
            wait_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._unexplained - 1, 10))
        self.resume_at = max(self.resume_at, now + wait_s)


class Breaker:
    """Whether one endpoint is worth asking at all.

    After ``THRESHOLD`` failures in a row it opens: nothing is sent for a while, then one request as a
    probe; each probe that fails doubles the while, the first success closes it. (Nygard, "Release It!",
    circuit breaker.) Records wait meanwhile and burn no attempts.
    """

    # At 30 % random errors a chance of 6 in a million; a dead endpoint fails that often at once.
    THRESHOLD = 10

    __slots__ = ("_failures", "_openings", "down_since", "open_until", "probing")

    def __init__(self) -> None:
        self._failures = 0
        self._openings = 0
        self.open_until = 0.0
        self.down_since: float | None = None
        self.probing = False

    def __repr__(self) -> str:
        state = f"open until {self.open_until:.2f}" if self.is_open else f"closed, {self._failures} failures"
        return f"<Breaker {state}{', probing' if self.probing else ''}>"

    @property
    def is_open(self) -> bool:
        """Whether the endpoint counts as down."""
        return self.down_since is not None

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._failures

    def admits(self, now: float) -> bool:
        """Whether a request may start: always while closed, one probe at a time while open."""
        return not self.is_open or (now >= self.open_until and not self.probing)

    def entered(self) -> bool:
        """A request starts; whether it is a probe, whose end ``probe_ended`` must be told."""
        self.probing = self.is_open
        return self.probing

    def probe_ended(self) -> None:
        """The probe is over, however it went; without an answer, the next one may start."""
        self.probing = False

    def succeeded(self) -> None:
        """The endpoint answered."""
        self._failures = self._openings = 0
        self.open_until = 0.0
        self.down_since = None

    def failed(self, now: float, *, sent_at: float) -> None:
        """The endpoint did not answer, or with an error of its own.

        What was sent before the breaker opened says nothing new, however late it fails.
        """
        self._failures += 1
        if self._failures < self.THRESHOLD or sent_at < self.open_until:
            return
        self.down_since = now if self.down_since is None else self.down_since
        self.open_until = now + min(_LONGEST_PAUSE_S, 2.0**self._openings)
        self._openings = min(self._openings + 1, 10)
