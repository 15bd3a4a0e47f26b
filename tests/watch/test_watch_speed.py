"""Rates and the time left, from counters alone."""

from __future__ import annotations

import math

import pytest

from vqa_async.watch.speed import Look, Speed, Speedometer, TimeLeft, time_left
from vqa_async.watch.words import count, duration, money, rate


def even(rate: float, seconds: int) -> list[Look]:
    """A run that finishes ``rate`` records each second."""
    return [Look(float(at), round(rate * at), 0, 0) for at in range(seconds + 1)]


def test_rates_are_those_of_the_last_seconds_and_of_all() -> None:
    """A slow start is forgotten by the one and kept by the other."""
    meter = Speedometer()
    for at, done in [(0.0, 0), (10.0, 0), (15.0, 50), (20.0, 100), (25.0, 150)]:
        speed = meter.look(Look(at, done, done * 2, done * 3))
    assert speed == Speed(now=10.0, overall=6.0, tokens_in=20.0, tokens_out=30.0)


def test_looks_that_are_far_apart_or_the_first_make_rates_too() -> None:
    """A plain line every ten seconds and more, and a run joined late."""
    assert Speedometer().look(Look(0.0, 0, 0, 0)) == Speed()
    meter = Speedometer()
    assert meter.look(Look(100.0, 50, 0, 0)).overall == 0.5
    assert meter.look(Look(120.0, 90, 0, 0)).now == 2.0


def test_the_looks_of_a_minute_are_kept() -> None:
    """However long a run takes, and however often it is looked."""
    meter = Speedometer()
    for look in even(10, 500):
        meter.look(look)
    assert len(meter._looks) <= 62
    assert meter.time_left(1000, is_exact=True) is not None


def test_an_even_run_has_a_narrow_range_around_the_truth() -> None:
    """1,000 left at 10 a second are 100 s."""
    left = time_left(even(10, 60), 1000, is_exact=True)
    assert left is not None
    assert 80 < left.low_s < 100 < left.high_s < 125


def test_an_uneven_run_and_a_guessed_input_have_wider_ones() -> None:
    """What is less certain is said to be."""
    uneven = [Look(float(at), 100 * ((at // 20) * 2), 0, 0) for at in range(61)]
    steady, bursts = (time_left(looks, 1000, is_exact=True) for looks in (even(10, 60), uneven))
    guessed = time_left(even(10, 60), 1000, is_exact=False)
    assert steady is not None
    assert bursts is not None
    assert guessed is not None
    assert bursts.high_s / bursts.low_s > 1.5 * steady.high_s / steady.low_s
    assert guessed.low_s < steady.low_s < steady.high_s < guessed.high_s


@pytest.mark.parametrize(
    ("looks", "left"),
    [(even(10, 60), 0), ([], 5), (even(10, 0), 5), (even(0, 60), 5), (even(0.03, 60), 5)],
)
def test_nothing_is_said_where_nothing_can_be(looks: list[Look], left: int) -> None:
    """Nothing left, no time passed, too few finished."""
    assert time_left(looks, left, is_exact=True) is None


def test_few_records_give_only_a_least_time() -> None:
    """Three in a minute may be chance."""
    left = time_left(even(0.06, 60), 100, is_exact=True)
    assert left is not None
    assert math.isinf(left.high_s)
    assert str(left).startswith("at least ")


@pytest.mark.parametrize(
    ("low_s", "high_s", "said"),
    [
        (41.0, 55.4, "41 to 55 s"),
        (0.1, 0.2, "about 1 s"),
        (240.0, 360.0, "4 to 6 min"),
        (241.0, 242.0, "about 4 min"),
        (3600 * 2.1, 3600 * 2.6, "2 to 2.5 h"),
        (86400 * 4, 86400 * 12, "4 to 12 days"),
        (90.0, math.inf, "at least 90 s"),
    ],
)
def test_the_range_is_said_in_one_unit(low_s: float, high_s: float, said: str) -> None:
    """No more digits than are known."""
    assert str(TimeLeft(low_s, high_s)) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (200, "3 min 20 s"), (7_500, "2 h 5 min")],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    """The unit follows the size."""
    assert duration(seconds) == said


def test_numbers_are_said_as_people_say_them() -> None:
    """1 request, 2 requests; cents; a decimal where it says something."""
    assert [count(n, "request") for n in (1, 2, 1_000)] == ["1 request", "2 requests", "1,000 requests"]
    assert [money(x) for x in (0.0123, 1234.5)] == ["$0.0123", "$1,234.50"]
    assert [rate(x) for x in (1.25, 1234.5)] == ["1.2/s", "1,234/s"]
