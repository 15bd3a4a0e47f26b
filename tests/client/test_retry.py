"""Whether to try again, and when: every wait is finite, bounded, and never shorter than the server asked."""

from __future__ import annotations

import math
import random
from email.utils import format_datetime, formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from vqa_async.config import RetryPolicy
from vqa_async.errors import (
    AuthError,
    ImageError,
    RateLimited,
    Rejected,
    RequestError,
    ResponseError,
    ServerError,
    TransportError,
)
from vqa_async.retry import backoff_bound, next_wait, retry_after_s, should_retry_header

NOW = 1_700_000_000.0
POLICY = RetryPolicy()


def limited(wait_s: float | None) -> RateLimited:
    return RateLimited("slow down", status=429, retry_after_s=wait_s)


def wait(error: BaseException, attempt: int = 1, elapsed_s: float = 0.0, **policy: Any) -> float | None:
    return next_wait(
        error, attempt=attempt, elapsed_s=elapsed_s, policy=RetryPolicy(**policy), rng=random.Random(1)
    )


# --- Retry-After -------------------------------------------------------------------------------------------

FORMS: dict[str, tuple[dict[str, str], float | None]] = {
    "seconds": ({"Retry-After": "20"}, 20),
    "above a minute": ({"Retry-After": "61"}, 61),
    "above our cap": ({"Retry-After": "121"}, 121),
    "fraction": ({"Retry-After": "1.5"}, 1.5),
    "spaces": ({"Retry-After": "  7 "}, 7),
    "zero": ({"Retry-After": "0"}, 0),
    "negative": ({"Retry-After": "-10"}, None),
    "minus zero": ({"Retry-After": "-0.0"}, 0),
    "empty": ({"Retry-After": ""}, None),
    "blank": ({"Retry-After": "   "}, None),
    "nan": ({"Retry-After": "nan"}, None),
    "inf": ({"Retry-After": "inf"}, None),
    "minus inf": ({"Retry-After": "-inf"}, None),
    "overflow": ({"Retry-After": "1e999"}, None),
    "astronomical": ({"Retry-After": "1e35"}, 1e35),
    "400 digits": ({"Retry-After": "9" * 400}, None),
    "word": ({"Retry-After": "soon"}, None),
    "unit": ({"Retry-After": "20s"}, None),
    "hexadecimal": ({"Retry-After": "0x10"}, None),
    "list": ({"Retry-After": "5, 10"}, None),
    "date": ({"Retry-After": formatdate(NOW + 30, usegmt=True)}, 30),
    "date with offset": ({"Retry-After": "Tue, 14 Nov 2023 23:13:30 +0100"}, 10),
    "past date": ({"Retry-After": formatdate(NOW - 3600, usegmt=True)}, 0),
    "date without zone": ({"Retry-After": "Tue, 14 Nov 2023 22:13:50 -0000"}, 30),
    "asctime date": ({"Retry-After": "Tue Nov 14 22:13:50 2023"}, 30),
    "rfc 850 date": ({"Retry-After": "Tuesday, 14-Nov-23 22:13:50 GMT"}, 30),
    "year 100000": ({"Retry-After": "Fri, 29 Sep 100000 16:26:57 GMT"}, None),
    "year 9999": ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 253_402_300_799 - NOW),
    "no such day": ({"Retry-After": "Fri, 99 Sep 2023 16:26:57 GMT"}, None),
    "no such month": ({"Retry-After": "Fri, 29 Foo 2023 16:26:57 GMT"}, None),
    "half a date": ({"Retry-After": "Fri, 29"}, None),
    "milliseconds": ({"retry-after-ms": "1500"}, 1.5),
    "milliseconds win": ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
    "bad milliseconds": ({"retry-after-ms": "nan", "Retry-After": "9"}, 9),
    "negative milliseconds": ({"retry-after-ms": "-5", "Retry-After": "9"}, 9),
    "lower case": ({"retry-after": "3"}, 3),
    "upper case": ({"RETRY-AFTER": "3"}, 3),
    "none": ({}, None),
    "other header": ({"Date": "Tue, 14 Nov 2023 22:13:50 GMT"}, None),
}


@pytest.mark.parametrize(("headers", "seconds"), FORMS.values(), ids=FORMS.keys())
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, dates, milliseconds; what cannot be meant is as if nothing were said."""
    assert retry_after_s(headers, now=NOW) == seconds


def test_first_of_two_headers_counts() -> None:
    """A proxy and a server that both ask for a wait."""
    two = CIMultiDict([("Retry-After", "4"), ("retry-after", "40")])
    assert retry_after_s(two, now=NOW) == 4


@given(st.text() | st.floats().map(str) | st.integers().map(str) | st.datetimes().map(format_datetime))
def test_whatever_a_server_asks_is_finite_or_nothing(value: str) -> None:
    """No header can make a wait that never ends or never begins."""
    for name in ("Retry-After", "retry-after-ms"):
        seconds = retry_after_s({name: value}, now=NOW)
        assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@pytest.mark.parametrize(
    ("value", "meaning"),
    [("true", True), ("false", False), (" TRUE ", True), ("False", False), ("", None), ("1", None)],
)
def test_should_retry_header_is_read(value: str, meaning: bool | None) -> None:
    """True, false, or nothing that counts; in whatever case the header's name is written."""
    assert should_retry_header({"X-Should-Retry": value}) is meaning
    assert should_retry_header({}) is None


# --- the decision ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        TransportError("reset"),
        ServerError("trouble", status=500),
        limited(None),
        ResponseError("not JSON"),
    ],
)
def test_transient_errors_are_tried_again(error: RequestError) -> None:
    """Until the attempts are used up."""
    waits = [wait(error, attempt, max_attempts=3) for attempt in (1, 2, 3)]
    assert [w is None for w in waits] == [False, False, True]


@pytest.mark.parametrize(
    "error",
    [
        Rejected("no", status=400),
        AuthError("no key", status=401),
        ResponseError("refused", retryable=False),
        ImageError("not an image"),
        ValueError("a defect"),
        KeyboardInterrupt(),
    ],
)
def test_permanent_errors_are_not_tried_again(error: BaseException) -> None:
    """Neither those of the record, nor those that end the run, nor what is no request's error."""
    assert wait(error) is None


def test_error_that_stops_the_run_is_not_tried_again() -> None:
    """Whatever its class."""
    error = TransportError("unreachable")
    error.stops_run = True
    assert wait(error) is None


def test_retry_after_above_the_cap_ends_the_record() -> None:
    """Nobody sleeps for an hour with a record in hand."""
    assert wait(limited(120)) is not None
    assert wait(limited(121)) is None
    assert wait(limited(1e35)) is None
    assert wait(limited(121), retry_after_max=200) is not None


def test_no_wait_goes_beyond_the_time_that_a_record_has() -> None:
    """Time is bounded as well as attempts."""
    assert wait(limited(50), elapsed_s=849) is not None
    assert wait(limited(50), elapsed_s=851) is None
    assert wait(TransportError("reset"), elapsed_s=901) is None


def test_bound_of_the_backoff_doubles_up_to_its_maximum() -> None:
    """0.5, 1, 2, ... 30 s by default, and no overflow however many attempts there are."""
    bounds = [backoff_bound(attempt, POLICY) for attempt in (1, 2, 3, 6, 7, 8, 5000)]
    assert bounds == [0.5, 1, 2, 16, 30, 30, 30]


@given(
    error=st.builds(limited, st.none() | st.floats(0, allow_infinity=False, allow_nan=False))
    | st.builds(TransportError, st.just("reset")),
    attempt=st.integers(1, 2000),
    elapsed_s=st.floats(0, 2000),
    policy=st.builds(
        RetryPolicy,
        max_attempts=st.integers(1, 2000),
        max_retry_time=st.floats(0, 9e5),
        backoff_base=st.floats(0, 9e5),
        backoff_max=st.floats(0, 9e5),
        retry_after_max=st.floats(0, 9e5),
    ),
    seed=st.integers(),
)
def test_every_wait_is_within_its_bounds(
    error: RequestError, attempt: int, elapsed_s: float, policy: RetryPolicy, seed: int
) -> None:
    """Finite, not negative, at least what the server asked, at most the caps; none after the last attempt."""
    seconds = next_wait(error, attempt=attempt, elapsed_s=elapsed_s, policy=policy, rng=random.Random(seed))
    if seconds is None:
        return
    assert attempt < policy.max_attempts
    assert elapsed_s + seconds <= policy.max_retry_time
    asked = getattr(error, "retry_after_s", None)
    if asked is None:
        assert 0 <= seconds <= backoff_bound(attempt, policy) <= policy.backoff_max
    else:
        assert asked <= seconds <= asked + 1 <= policy.retry_after_max + 1


# --- jitter ------------------------------------------------------------------------------------------------


def spread(values: list[float], low: float, high: float) -> float:
    """The Kolmogorov-Smirnov distance of ``values`` from an even spread between ``low`` and ``high``."""
    ordered = [(value - low) / (high - low) for value in sorted(values)]
    count = len(ordered)
    return max(max((i + 1) / count - x, x - i / count) for i, x in enumerate(ordered))


@pytest.mark.parametrize(
    ("error", "low", "high"),
    [(TransportError("reset"), 0.0, 4.0), (limited(2.0), 2.0, 2.5), (limited(60.0), 60.0, 61.0)],
)
def test_those_who_failed_together_do_not_come_back_together(
    error: RequestError, low: float, high: float
) -> None:
    """1,000 workers that failed in the same instant spread evenly over the whole of the bound."""
    rng = random.Random(3)
    waits = [next_wait(error, attempt=4, elapsed_s=0, policy=POLICY, rng=rng) for _ in range(1000)]
    assert len(set(waits)) == 1000
    # 1.95 / sqrt(n) is the distance that an even spread exceeds once in a thousand times.
    assert spread([w for w in waits if w is not None], low, high) < 1.95 / math.sqrt(1000)
