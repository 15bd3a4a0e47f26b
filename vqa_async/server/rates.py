"""Requests and tokens per minute: token buckets, and the headers that tell a client where it stands.

A bucket starts full, holds one minute's worth and refills steadily. A refused request takes nothing, so
the time it is told to wait is the time after which it will pass, if nobody else comes first. What an
answer turned out to cost beyond the estimate is taken afterwards and can leave a bucket below zero.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from vqa_async.server.options import ServerOptions
from vqa_async.server.refusals import Refusal, retry_headers


class Bucket:
    """One limit: ``per_minute`` units, read with ``clock`` (seconds)."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._at = clock()

    def wait_s(self, units: float) -> float:
        """Seconds until ``units`` can be taken; more than the bucket holds counts as all that it holds."""
        missing = min(units, self.per_minute) - self._now()
        return max(0.0, missing * 60 / self.per_minute)

    def take(self, units: float) -> None:
        """Take ``units``, below zero if need be; a negative number gives back."""
        self._level = min(float(self.per_minute), self._now() - units)

    def headers(self, unit: str) -> dict[str, str]:
        """The ``x-ratelimit-*`` headers for this limit."""
        level = self._now()
        return {
            f"x-ratelimit-limit-{unit}": str(self.per_minute),
            f"x-ratelimit-remaining-{unit}": str(max(0, math.floor(level))),
            f"x-ratelimit-reset-{unit}": format_duration((self.per_minute - level) * 60 / self.per_minute),
        }

    def _now(self) -> float:
        now = self._clock()
        self._level = min(float(self.per_minute), self._level + (now - self._at) * self.per_minute / 60)
        self._at = now
        return self._level


class Rates:
    """The limits of one server; with none set, everything passes and no header is sent."""

    def __init__(self, options: ServerOptions, clock: Callable[[], float] = time.monotonic) -> None:
        limits = {"requests": options.rpm, "tokens": options.tpm}
        self._buckets = {unit: Bucket(limit, clock) for unit, limit in limits.items() if limit}

    def admit(self, tokens: int) -> None:
        """Take one request of about ``tokens`` tokens from the buckets.

        Raises:
            Refusal: 429, with the time to wait, where one of them does not hold enough.
        """
        needs = {"requests": 1, "tokens": tokens}
        waits = {unit: bucket.wait_s(needs[unit]) for unit, bucket in self._buckets.items()}
        unit = max(waits, key=waits.__getitem__, default="")
        if unit and waits[unit] > 0:
            raise self._refusal(unit, waits[unit])
        for unit, bucket in self._buckets.items():
            bucket.take(needs[unit])

    def settle(self, tokens: int) -> None:
        """Take ``tokens`` more: what the answer cost beyond the estimate."""
        if bucket := self._buckets.get("tokens"):
            bucket.take(tokens)

    def headers(self) -> dict[str, str]:
        """The ``x-ratelimit-*`` headers as of now."""
        return {
            name: value
            for unit, bucket in self._buckets.items()
            for name, value in bucket.headers(unit).items()
        }

    def _refusal(self, unit: str, wait_s: float) -> Refusal:
        limit = self._buckets[unit].per_minute
        said = f"Rate limit reached: {limit} {unit} per minute. Try again in {format_duration(wait_s)}."
        return Refusal(429, said, type=unit, code="rate_limit_exceeded", headers=retry_headers(wait_s))


def format_duration(seconds: float) -> str:
    """Seconds as OpenAI's headers write them: ``20ms``, ``1.2s``, ``6m0s``, ``1h0m5s``."""
    # Rounded up, first to whole milliseconds: waiting this long is never too short.
    milliseconds = math.ceil(round(seconds * 1000, 6))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds / 1000, 60)
    hours, minutes = divmod(int(minutes), 60)
    prefix = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{prefix}{rest:.3f}".rstrip("0").rstrip(".") + "s"
