"""Whether an endpoint is worth asking at all, and how good it is beside others. Decisions only."""

from __future__ import annotations

_LONGEST_PAUSE_S = 30.0

_WEIGHT_OF_ONE = 0.05
"""Weight of the newest request in the share of those that succeed: it looks back over some 20."""


class Breaker:
    """Whether one endpoint is worth asking at all.

    After ``THRESHOLD`` failures in a row it opens: nothing is sent for a while, then one request as a
    probe; each probe that fails doubles the while, the first success closes it. (Nygard, "Release It!",
    circuit breaker.) Records wait meanwhile and burn no attempts.
    """

    # At 30 % random errors a chance of 6 in a million; a dead endpoint fails that often at once.
    THRESHOLD = 10

    REFUSED = 4
    """What a refused connection counts for: no chance of one request, but nobody there."""

    __slots__ = ("_count", "_failures", "_openings", "down_since", "open_until", "probing", "quality")

    def __init__(self) -> None:
        self.quality = 1.0
        """Share of the latest requests that the endpoint answered, from 0 to 1."""
        self._failures = 0
        self._count = 0
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
        self.answered()
        self.quality += _WEIGHT_OF_ONE * (1.0 - self.quality)

    def answered(self) -> None:
        """The endpoint answered, with an error that is none of its own: it is up, and no better for it."""
        self._failures = self._count = self._openings = 0
        self.open_until = 0.0
        self.down_since = None

    def failed(self, now: float, *, sent_at: float, refused: bool = False) -> None:
        """The endpoint did not answer, or with an error of its own; ``refused``: it did not let us in.

        What was sent before the breaker opened says nothing new, however late it fails.
        """
        self._failures += 1
        self._count += self.REFUSED if refused else 1
        self.quality -= _WEIGHT_OF_ONE * self.quality
        if self._count < self.THRESHOLD or sent_at < self.open_until:
            return
        self.down_since = now if self.down_since is None else self.down_since
        self.open_until = now + min(_LONGEST_PAUSE_S, 2.0**self._openings)
        self._openings = min(self._openings + 1, 10)
