"""What the headers of a reply say about rates: one reading, whatever the server calls them. Pure.

Read: ``x-ratelimit-{limit,remaining,reset}-{requests,tokens}`` (OpenAI, vLLM gateways, Groq, Azure without
the limit), ``anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}``, and for requests the plain
``x-ratelimit-{limit,remaining,reset}`` and ``ratelimit-{limit,remaining,reset}`` (IETF draft, GitHub,
OpenRouter, Kong, Envoy). A reset is a duration (``6m0s``, ``20ms``, ``1.5``), an RFC 3339 time or a Unix time
in seconds or milliseconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias

Unit: TypeAlias = Literal["requests", "tokens"]


class Standing(NamedTuple):
    """Where we stand with one limit.

    Attributes:
        limit: units for each period, None where it is not said.
        remaining: units that are left now.
        reset_s: seconds until all of them are back, None where it is not said.
    """

    limit: float | None
    remaining: float
    reset_s: float | None


_NAMES: Mapping[Unit, tuple[tuple[str, str, str], ...]] = {
    "requests": (
        ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        (
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ),
        ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
        ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"),
    ),
    "tokens": (
        ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
        (
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ),
    ),
}


def standings(headers: Mapping[str, str], *, now: float) -> dict[Unit, Standing]:
    """Where the headers say that we stand; empty where they say nothing usable.

    Args:
        headers: of a reply, in any case.
        now: Unix time in seconds, for resets that are dates.
    """
    lowered = {name.lower(): value for name, value in headers.items() if "ratelimit" in name.lower()}
    if not lowered:
        return {}
    found: dict[Unit, Standing] = {}
    for unit, variants in _NAMES.items():
        for limit_name, remaining_name, reset_name in variants:
            remaining = _number(lowered.get(remaining_name, ""))
            if remaining is not None:
                limit = _number(lowered.get(limit_name, ""))
                found[unit] = Standing(limit, remaining, _seconds(lowered.get(reset_name, ""), now))
                break
    return found


# More than 15 digits are no number of requests, tokens or seconds.
_LEADING_NUMBER = re.compile(r"\s*(\d{1,15}(?:\.\d+)?)\s*(?:[;,].*)?$")
_DURATION = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m(?!s))?"
    r"(?:(?P<s>\d+(?:\.\d+)?)s)?(?:(?P<ms>\d+(?:\.\d+)?)ms)?$"
)
_UNIT_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

_LONGEST_S = 7 * 86_400.0
"""A reset beyond this is no time until something: it is not understood."""
_UNIX_FROM = 1e8
_UNIX_MS_FROM = 1e11


def _number(value: str) -> float | None:
    # "100, 100;w=60" is how the IETF draft's first versions put the policy behind the number.
    found = _LEADING_NUMBER.match(value[:64])
    return float(found[1]) if found else None


def _seconds(value: str, now: float) -> float | None:
    text = value.strip()[:64]
    number = _number(text)
    if number is not None:
        if number >= _UNIX_FROM:
            number = number / 1000 - now if number >= _UNIX_MS_FROM else number - now
        return _plausible(number)
    duration = _DURATION.match(text) if text else None
    if duration is not None:
        return _plausible(sum(float(n) * _UNIT_S[unit] for unit, n in duration.groupdict().items() if n))
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return _plausible((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)


def _plausible(seconds: float) -> float | None:
    return max(0.0, seconds) if math.isfinite(seconds) and seconds <= _LONGEST_S else None
