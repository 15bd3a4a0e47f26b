"""How much of the load may be retries: the test is the clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqa_async.limits import RetryBudget


def budget(share: float = 0.1, *, at_once: float = 10, per_s: float = 2) -> RetryBudget:
    return RetryBudget(share, at_once=at_once, per_s=per_s, now=0.0)


def sent_until(one: RetryBudget, now: float) -> int:
    """Retries that may be sent at ``now``, all of them sent."""
    count = 0
    while one.ready_at(now) <= now:
        one.spent(now)
        count += 1
    return count


def test_saved_retries_may_be_sent_at_once() -> None:
    """A blip of a second is retried without delay."""
    one = budget()
    assert sent_until(one, 0.0) == 10
    assert one.ready_at(0.0) == pytest.approx(0.5)


def test_a_few_retries_a_second_are_always_allowed() -> None:
    """An endpoint that answers nobody is still tried: two a second, to the second."""
    one = budget()
    sent_until(one, 0.0)
    assert [sent_until(one, float(now)) for now in (1, 2, 3)] == [2, 2, 2]


def test_answers_earn_retries() -> None:
    """A tenth of a retry each."""
    one = budget(per_s=1e-9)
    sent_until(one, 0.0)
    for _ in range(35):
        one.succeeded(0.0)
    assert sent_until(one, 0.0) == 3


def test_no_more_retries_are_saved_than_may_be_sent_at_once() -> None:
    """A good day pays for no storm."""
    one = budget()
    for now in range(10_000):
        one.succeeded(float(now))
    assert sent_until(one, 10_000.0) == 10


def test_retries_that_are_booked_ahead_wait_one_after_the_other() -> None:
    """Each that is counted when it is decided on waits longer than the one before: none is given up."""
    one, waits = budget(), []
    for _ in range(14):
        waits.append(one.ready_at(0.0))
        one.spent(0.0)
    assert waits == pytest.approx([0] * 10 + [0.5, 1.0, 1.5, 2.0])


def test_no_share_is_no_bound() -> None:
    """0 switches it off."""
    one = budget(0.0)
    for _ in range(1000):
        one.spent(5.0)
    assert one.ready_at(5.0) == 5.0


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 50)), min_size=1, max_size=60))
def test_retries_stay_within_their_share_of_the_load(steps: list[tuple[float, int]]) -> None:
    """Whatever comes when: what was saved, a tenth of the answers, and two a second."""
    one, now, answers, retries = budget(), 0.0, 0, 0
    for passed_s, answered in steps:
        now += passed_s
        for _ in range(answered):
            one.succeeded(now)
        answers += answered
        retries += sent_until(one, now)
        assert retries <= 10 + 0.1 * answers + 2 * now + 1e-3
