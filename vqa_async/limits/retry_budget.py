"""How much of the load may be retries: a bad hour must not double it. Decisions only.

As Finagle's RetryBudget: every answer deposits a share of a retry, a retry takes one, and a few a second are
always allowed, so that nothing stands still. Retries beyond that wait; none is given up for it.
"""

from __future__ import annotations

from vqa_async.limits.bucket import Bucket


class RetryBudget:
    """Retries that may be sent.

    Args:
        share: retries for each answer; 0 for no bound.
        at_once: retries that may be saved up, and be sent in one go.
        per_s: retries a second that are allowed whatever happens.
        now: seconds on the caller's clock.
    """

    __slots__ = ("_bucket", "_share")

    def __init__(self, share: float, *, at_once: float, per_s: float, now: float) -> None:
        self._share = share
        self._bucket = Bucket(per_s, at_once, now)

    def ready_at(self, now: float) -> float:
        """The time from which a retry may be sent."""
        return self._bucket.ready_at(now, 1.0) if self._share else now

    def spent(self, now: float) -> None:
        """A retry is sent."""
        self._bucket.spend(now, 1.0)

    def succeeded(self, now: float) -> None:
        """A request was answered."""
        self._bucket.spend(now, -self._share)
