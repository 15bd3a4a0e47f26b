"""Rates that replies tell in their headers: a quota for a day is no rate, and nonsense is not believed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from wire import asking, in_virtual_time, now

from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Request, Response

Tell = Callable[[float, int], Mapping[str, str] | None]
"""Headers of a reply, from the time and the number of the request; None for a 429."""

WORKERS, LATENCY_S = 10, 0.5


def plain(limit: float, remaining: float, reset_s: float) -> dict[str, str]:
    return {
        "x-ratelimit-limit": f"{limit:g}",
        "x-ratelimit-remaining": f"{int(remaining)}",
        "x-ratelimit-reset": f"{int(reset_s)}",
    }


class Steady:
    """A bucket that fills all the time, and tells when it will be full (OpenAI, Groq: requests a day)."""

    def __init__(self, limit: int, period_s: float, unit: str = "requests") -> None:
        self.limit, self.per_s, self.unit = limit, limit / period_s, unit
        self.level, self.at = float(limit), 0.0

    def __call__(self, at: float, number: int) -> Mapping[str, str] | None:
        self.level = min(self.limit, self.level + (at - self.at) * self.per_s)
        self.at = at
        if self.level < 1:
            return None
        self.level -= 1
        missing = self.limit - self.level
        return {
            f"x-ratelimit-limit-{self.unit}": str(self.limit),
            f"x-ratelimit-remaining-{self.unit}": str(int(self.level)),
            f"x-ratelimit-reset-{self.unit}": f"{missing / self.per_s:.3f}s",
        }


class Window:
    """So many in each period, which has begun ``into_s`` seconds ago (OpenRouter, GitHub)."""

    def __init__(self, limit: int, period_s: float, into_s: float = 0.0) -> None:
        self.limit, self.period_s, self.into_s = limit, period_s, into_s
        self.left, self.window = limit, 0

    def __call__(self, at: float, number: int) -> Mapping[str, str] | None:
        window, into_s = divmod(at + self.into_s, self.period_s)
        if window != self.window:
            self.left, self.window = self.limit, int(window)
        if not self.left:
            return None
        self.left -= 1
        return plain(self.limit, self.left, self.period_s - into_s)


def time_of(tell: Tell, count: int, **options: Any) -> tuple[float, int]:
    """Seconds that ``count`` records took, and requests that were refused; all must have been answered."""

    async def main() -> tuple[float, int]:
        began, number, refused = now(), 0, 0

        def answer(_: Request) -> Response:
            nonlocal number, refused
            number += 1
            headers = tell(now() - began, number)
            if headers is None:
                refused += 1
                return reply(status=429, headers={"Retry-After": "30"}, body=b"")
            return reply(headers=dict(headers))

        transport = FakeTransport(answer, latency_s=LATENCY_S)
        async with asking(transport, max_workers=WORKERS, sleep=asyncio.sleep, **options) as asker:
            async with asyncio.timeout(20_000):
                results = await asyncio.gather(*(asker.ask(str(n)) for n in range(count)))
        assert all(result.ok for result in results)
        return now() - began, refused

    return in_virtual_time(main())


@pytest.mark.parametrize(
    ("tell", "count"),
    [
        (Steady(10_000, 86_400), 3000),
        (Steady(14_400, 86_400), 6000),
        (Steady(500_000, 86_400, "tokens"), 1000),
        (Window(1000, 86_400, into_s=40_000), 600),
        (Window(5000, 3600), 3000),
        (Window(5000, 3600, into_s=1800), 3000),
    ],
)
def test_quota_of_a_day_or_an_hour_is_used_while_there_is_any(tell: Tell, count: int) -> None:
    """It is not spread over the day: a run that it suffices for takes as long as without one."""
    took_s, refused = time_of(tell, count)
    assert refused == 0
    assert took_s < 1.1 * count * LATENCY_S / WORKERS + 5


@pytest.mark.parametrize("tell", [Steady(600, 60), Window(600, 60), Window(600, 60, into_s=30)])
def test_rate_of_a_minute_is_kept_and_used(tell: Tell) -> None:
    """2,000 requests at 600 a minute: hardly a refusal, and hardly a pause."""
    took_s, refused = time_of(tell, 2000)
    assert refused <= 10
    assert 130 < took_s < 250


@pytest.mark.parametrize(
    "tell",
    [
        lambda at, number: plain(600, 0, 1),
        lambda at, number: plain(600, 0, 86_400),
        lambda at, number: plain(600, 0, 86_400 - at),
        lambda at, number: plain(600, max(0, 100 - number), 86_400 - at),
        lambda at, number: plain(0, 0, 60),
        lambda at, number: plain(1, 0, 60),
        lambda at, number: plain(0.0001, 0, 60),
        lambda at, number: plain(1, 0, 600_000),
        lambda at, number: {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-limit-tokens": "10"},
    ],
)
def test_who_says_that_nothing_is_left_and_answers_all_the_same_is_not_believed(tell: Tell) -> None:
    """After a few minutes it is asked as if it had said nothing."""
    took_s, _ = time_of(tell, 600)
    assert took_s < 300 + 600 * LATENCY_S / WORKERS


def test_who_says_that_nothing_is_left_and_means_it_is_believed() -> None:
    """It is tried now and then, and never in a hot loop."""

    def tell(at: float, number: int) -> Mapping[str, str] | None:
        if at < 500 and number > 50:
            return None
        return plain(100_000, max(0, 50 - number) if at < 500 else 50_000, 500 - at if at < 500 else 3000)

    took_s, refused = time_of(tell, 100)
    assert 500 < took_s < 600
    assert refused <= 60
