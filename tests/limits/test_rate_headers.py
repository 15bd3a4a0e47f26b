"""What headers say about rates: tables of what servers send; what cannot be meant is as if not said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from vqa_async.limits import Standing, Unit, standings

NOW = 1_700_000_000.0
"""Tuesday, 14 November 2023, 22:13:20 UTC."""

OPENAI = {
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-remaining-requests": "499",
    "x-ratelimit-reset-requests": "120ms",
    "x-ratelimit-limit-tokens": "30000",
    "x-ratelimit-remaining-tokens": "29000",
    "x-ratelimit-reset-tokens": "6m0s",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:21Z",
    "anthropic-ratelimit-tokens-limit": "40000",
    "anthropic-ratelimit-tokens-remaining": "39000",
    "anthropic-ratelimit-tokens-reset": "2023-11-14T22:14:20Z",
}
GROQ = {
    "x-ratelimit-limit-requests": "14400",
    "x-ratelimit-limit-tokens": "18000",
    "x-ratelimit-remaining-requests": "14370",
    "x-ratelimit-remaining-tokens": "17997",
    "x-ratelimit-reset-requests": "2m59.56s",
    "x-ratelimit-reset-tokens": "7.66s",
}

SERVERS: dict[str, tuple[dict[str, str], dict[Unit, Standing]]] = {
    "OpenAI": (OPENAI, {"requests": Standing(500, 499, 0.12), "tokens": Standing(30_000, 29_000, 360)}),
    "Anthropic": (ANTHROPIC, {"requests": Standing(50, 49, 1), "tokens": Standing(40_000, 39_000, 60)}),
    "Groq": (
        GROQ,
        {"requests": Standing(14_400, 14_370, 179.56), "tokens": Standing(18_000, 17_997, 7.66)},
    ),
    "Azure, which tells no limit": (
        {"x-ratelimit-remaining-requests": "99", "x-ratelimit-remaining-tokens": "9000"},
        {"requests": Standing(None, 99, None), "tokens": Standing(None, 9000, None)},
    ),
    "IETF": (
        {"RateLimit-Limit": "100", "RateLimit-Remaining": "50", "RateLimit-Reset": "30"},
        {"requests": Standing(100, 50, 30)},
    ),
    "IETF with the policy": (
        {"RateLimit-Limit": "100, 100;w=60", "RateLimit-Remaining": "50", "RateLimit-Reset": "30"},
        {"requests": Standing(100, 50, 30)},
    ),
    "IETF with many policies": (
        {"RateLimit-Limit": "100, " + ", ".join(f"{n};w=60" for n in range(100)), "RateLimit-Remaining": "5"},
        {"requests": Standing(100, 5, None)},
    ),
    "GitHub, Unix seconds": (
        {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1700000042"},
        {"requests": Standing(60, 0, 42)},
    ),
    "OpenRouter, Unix milliseconds": (
        {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "7", "X-RateLimit-Reset": "1700000001500"},
        {"requests": Standing(20, 7, 1.5)},
    ),
    "Envoy": (
        {"x-ratelimit-limit": "10, 10;w=1", "x-ratelimit-remaining": "9", "x-ratelimit-reset": "1"},
        {"requests": Standing(10, 9, 1)},
    ),
    "the more exact of two": (
        OPENAI | {"ratelimit-limit": "1", "ratelimit-remaining": "1"},
        {"requests": Standing(500, 499, 0.12), "tokens": Standing(30_000, 29_000, 360)},
    ),
    "the other where one is junk": (
        {"x-ratelimit-remaining-requests": "-1", "ratelimit-remaining": "3"},
        {"requests": Standing(None, 3, None)},
    ),
    "no rates at all": ({"Content-Type": "application/json", "Retry-After": "3"}, {}),
    "a limit without what is left": ({"x-ratelimit-limit-requests": "500"}, {}),
    "nothing": ({}, {}),
}


@pytest.mark.parametrize(("headers", "found"), SERVERS.values(), ids=SERVERS.keys())
def test_headers_of_every_server_are_read(headers: dict[str, str], found: dict[Unit, Standing]) -> None:
    """In lower, upper and mixed case."""
    for variant in (headers, {name.upper(): value for name, value in headers.items()}, CIMultiDict(headers)):
        read = standings(variant, now=NOW)
        assert read.keys() == found.keys()
        for unit, standing in found.items():
            assert read[unit] == pytest.approx(standing)


RESETS: dict[str, float | None] = {
    "20ms": 0.02,
    "7.66s": 7.66,
    "2m59.56s": 179.56,
    "6m0s": 360,
    "1h0m5s": 3605,
    "1h": 3600,
    "2d": 172_800,
    "1m500ms": 60.5,
    "1.5": 1.5,
    "0": 0,
    "0s": 0,
    " 12 ": 12,
    "30;w=60": 30,
    "2023-11-14T22:13:50Z": 30,
    "2023-11-14T23:13:50+01:00": 30,
    "2023-11-14T22:13:50.25Z": 30.25,
    "2023-11-14T22:13:50": 30,
    "2023-11-14T22:13:00Z": 0,  # over
    "1700000030": 30,
    "1700000030.5": 30.5,
    "1700000030500": 30.5,
    "1600000000": 0,  # over
    # What cannot be meant.
    "": None,
    "   ": None,
    "nan": None,
    "inf": None,
    "-1": None,
    "-1s": None,
    "1e9": None,
    "soon": None,
    "5 minutes": None,
    "s": None,
    "5s3m": None,
    "9" * 9999: None,
    "9" * 20: None,
    "8d": None,  # no limit is counted by the week and a day
    "9" * 50 + "h": None,
    "9999-12-31T23:59:59Z": None,
    "2023-13-41T22:13:50Z": None,
    formatdate(NOW + 30, usegmt=True): None,
}


@pytest.mark.parametrize(("value", "seconds"), RESETS.items(), ids=[repr(value[:30]) for value in RESETS])
def test_reset_is_read_in_every_form(value: str, seconds: float | None) -> None:
    """Durations, times and seconds; else it is not said, and the rest counts nevertheless."""
    headers = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": value}
    assert standings(headers, now=NOW) == {
        "requests": Standing(None, 3, None if seconds is None else pytest.approx(seconds))
    }


JUNK = [
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "-1",
    "1e5",
    "0x10",
    "many",
    "9" * 9999,
    "9" * 20,
    ",",
    "5 6",
    "٣ of 4",
]


@pytest.mark.parametrize("junk", JUNK, ids=[repr(junk[:12]) for junk in JUNK])
def test_junk_is_as_if_not_said(junk: str) -> None:
    """A limit that is junk is none; without a number of what is left nothing is known."""
    assert standings({"ratelimit-limit": junk, "ratelimit-remaining": "3"}, now=NOW) == {
        "requests": Standing(None, 3, None)
    }
    assert standings({"ratelimit-limit": "9", "ratelimit-remaining": junk}, now=NOW) == {}


WORDS = [
    "x-ratelimit",
    "anthropic-ratelimit",
    "ratelimit",
    "limit",
    "remaining",
    "reset",
    "requests",
    "tokens",
]
NAMES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map("-".join) | st.text(max_size=20)
VALUES = (
    st.text(max_size=100)
    | st.floats().map(str)
    | st.integers().map(str)
    | st.datetimes(timezones=st.none() | st.timezones()).map(lambda moment: moment.isoformat())
    | st.from_regex(r"\A[0-9]{0,70}(\.[0-9]{0,70})?(d|h|m|s|ms|,|;)?([0-9]{0,9}(s|ms|;w=60))?\Z")
)


@given(st.dictionaries(NAMES, VALUES, max_size=12), st.floats(0, 1e11))
def test_whatever_the_headers_are_the_result_can_be_used(headers: Mapping[str, str], now: float) -> None:
    """Nothing is raised, and all numbers are finite and not negative."""
    for standing in standings(headers, now=now).values():
        for number in standing:
            assert number is None or (math.isfinite(number) and number >= 0)


@given(st.sampled_from(["requests", "tokens"]), VALUES, VALUES, VALUES)
def test_whatever_the_values_are_the_result_can_be_used(
    unit: str, limit: str, remaining: str, reset: str
) -> None:
    """The same, where the names are always those that count."""
    headers = {
        f"x-ratelimit-limit-{unit}": limit,
        f"x-ratelimit-remaining-{unit}": remaining,
        f"x-ratelimit-reset-{unit}": reset,
    }
    for standing in standings(headers, now=NOW).values():
        assert all(number is None or (math.isfinite(number) and number >= 0) for number in standing)
