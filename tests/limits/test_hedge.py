"""When a request is worth sending again: never before enough is known, and seldom."""

from __future__ import annotations

import random
from statistics import median_low

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqa_async.limits import Hedging
from vqa_async.limits.hedge import MOST_EXTRA


def after(latencies: list[float], share: float = 0.95) -> Hedging:
    hedging = Hedging(share)
    for latency_s in latencies:
        hedging.answered(latency_s)
    return hedging


def test_nothing_is_sent_again_before_fifty_answers() -> None:
    """Of so few nobody knows what is slow."""
    hedging = Hedging(0.95)
    for _ in range(49):
        assert hedging.delay_s() is None
        hedging.answered(1.0)
    assert hedging.delay_s() is None
    hedging.answered(1.0)
    assert hedging.delay_s() == 1.25


@pytest.mark.parametrize(
    ("share", "delay_s"), [(0.8, 321), (0.9, 361), (0.95, 381), (0.99, 397), (0.9999, 400)]
)
def test_delay_is_the_percentile_of_the_latencies(share: float, delay_s: float) -> None:
    """Of 400 latencies from 1 to 400 s, in any order, just so many are shorter."""
    latencies = [float(n) for n in range(1, 401)]
    random.Random(1).shuffle(latencies)
    assert after(latencies, share).delay_s() == delay_s


def test_what_takes_hardly_longer_than_the_others_is_not_slow() -> None:
    """Where all take about as long, a request is slow from a quarter above the median on."""
    assert after([2.0] * 90 + [2.1] * 10).delay_s() == 2.5


def test_delay_follows_the_last_four_hundred_latencies() -> None:
    """What was slow an hour ago says nothing of now."""
    assert after([10.0] * 400 + [1.0] * 400).delay_s() == 1.25
    assert after([1.0] * 400 + [10.0] * 400).delay_s() == 12.5


def test_delay_is_looked_up_anew_after_each_fifty_answers() -> None:
    """Sorting for every answer would cost more than it gives."""
    hedging = after([1.0] * 50)
    for _ in range(49):
        hedging.answered(9.0)
        assert hedging.delay_s() == 1.25
    hedging.answered(9.0)
    assert hedging.delay_s() == 11.25


def test_one_in_fifty_is_sent_again_at_most() -> None:
    """However slow everything is: the second one of a hundred only after a hundred."""
    hedging = after([1.0] * 50)
    hedging.sent()
    assert hedging.delay_s() is None
    for _ in range(50):
        assert hedging.delay_s() is None
        hedging.answered(1.0)
    assert hedging.delay_s() == 1.25
    assert hedging.extra == 1


@given(st.lists(st.floats(0, 1000), max_size=600), st.floats(0.5, 0.999))
def test_extra_requests_stay_below_their_share(latencies: list[float], share: float) -> None:
    """Whoever sends again whenever that is allowed sends 2 % more, and waits no less than most took."""
    hedging = Hedging(share)
    for n, latency_s in enumerate(latencies, 1):
        hedging.answered(latency_s)
        delay_s = hedging.delay_s()
        if delay_s is not None:
            assert delay_s >= median_low(latencies[max(0, n - n % 50 - 400) : n - n % 50])
            hedging.sent()
        assert hedging.extra <= MOST_EXTRA * n
