"""When a failed attempt is tried again: (error, attempt, elapsed) -> wait this long, or give up.

Pure decisions; the client asks them through tenacity. Waits follow "full jitter" (Brooker, "Exponential
Backoff And Jitter", AWS Architecture Blog, 2015): uniform between 0 and an exponentially growing bound, so
that workers which failed together do not come back together. A server's Retry-After wins over that.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from vqa_async.config import RetryPolicy
from vqa_async.errors import RequestError, StatusError


def next_wait(
    error: BaseException, *, attempt: int, elapsed_s: float, policy: RetryPolicy, rng: random.Random
) -> float | None:
    """Seconds to wait before another attempt, or None to give up.

    Args:
        error: what the last attempt ended with.
        attempt: attempts made so far, 1 after the first; those do not count that failed because the endpoint
        is
            down or refuses everybody.
        elapsed_s: seconds spent on the record so far, without waiting for its turn.
        policy: the bounds.
        rng: source of the jitter.
    """
    if not isinstance(error, RequestError) or error.stops_run or not error.retryable:
        return None
    if attempt >= policy.max_attempts:
        return None
    wait = _wait(error, attempt, policy, rng)
    return None if wait is None or elapsed_s + wait > policy.max_retry_time else wait


def _wait(error: RequestError, attempt: int, policy: RetryPolicy, rng: random.Random) -> float | None:
    asked = error.retry_after_s if isinstance(error, StatusError) else None
    if asked is None:
        return rng.uniform(0, backoff_bound(attempt, policy))
    if asked > policy.retry_after_max:
        return None
    # A little more than asked, never less: all who were told the same second should not arrive in it.
    return asked + rng.uniform(0, min(0.25 * asked, 1.0))


def backoff_bound(attempt: int, policy: RetryPolicy) -> float:
    """The longest wait of our own after ``attempt`` attempts, in seconds."""
    doublings = min(max(attempt - 1, 0), 60)
    return min(policy.backoff_max, policy.backoff_base * 2.0**doublings)


def retry_after_s(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds that a reply asks to wait: ``retry-after-ms``, else ``Retry-After`` as seconds or HTTP date.

    Args:
        headers: the reply's headers, in any case; of several alike, what ``items`` gives first counts.
        now: Unix time, for dates.

    Returns:
        A finite number of seconds >= 0, or None where nothing usable was said (RFC 9110, 10.2.3).
    """
    milliseconds = _number(header(headers, "retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = header(headers, "retry-after")
    seconds = _number(value)
    return seconds if seconds is not None else _until(value, now)


def header(headers: Mapping[str, str], name: str) -> str:
    """The value of the header ``name`` (in lower case), "" where there is none.

    A user's own transport may give its headers as a plain dict, in whatever case the server wrote them.
    """
    return next((value for key, value in headers.items() if key.lower() == name), "")


def _number(value: str) -> float | None:
    try:
        number = float(value) if value else math.nan
    except ValueError:
        return None
    # A NaN would make a sleep that never ends, a minus sign one that never begins.
    return number if math.isfinite(number) and number >= 0 else None


def _until(value: str, now: float) -> float | None:
    try:
        date = parsedate_to_datetime(value)
        aware = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, aware.timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def should_retry_header(headers: Mapping[str, str]) -> bool | None:
    """What ``x-should-retry`` says, None where it says nothing."""
    return {"true": True, "false": False}.get(header(headers, "x-should-retry").strip().lower())
