"""Gate and breaker by themselves: the test is the clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqa_async.limits import DECREASE, Breaker, Gate

# --- the gate ----------------------------------------------------------------------------------------------


def full_gate(limit: int) -> Gate:
    gate = Gate(limit)
    gate.in_flight = limit
    return gate


def test_gate_admits_up_to_its_width() -> None:
    """And not one more."""
    gate = Gate(2)
    admitted = []
    for _ in range(4):
        admitted.append(gate.admits(0.0))
        gate.in_flight += admitted[-1]
    assert admitted == [True, True, False, False]


def test_nothing_starts_before_the_time_that_the_server_named() -> None:
    """And from that very moment it may."""
    gate = Gate(4)
    gate.rate_limited(100.0, 20.0, sent_at=99.0)
    assert [gate.admits(t) for t in (100.0, 119.99, 120.0)] == [False, False, True]


def test_longest_pause_counts() -> None:
    """A shorter one that comes later does not open the gate."""
    gate = Gate(4)
    gate.rate_limited(100.0, 20.0, sent_at=99.0)
    gate.rate_limited(101.0, 1.0, sent_at=99.0)
    assert gate.resume_at == 120.0
    gate.rate_limited(102.0, 60.0, sent_at=99.0)
    assert gate.resume_at == 162.0


@pytest.mark.parametrize("wait_s", [0.0, 0.1, 20.0, None])
def test_burst_narrows_once(wait_s: float | None) -> None:
    """64 requests that were in flight together get 64 refusals over 10 s: one step, not 64."""
    gate = full_gate(64)
    for n in range(64):
        gate.rate_limited(100.0 + n / 6, wait_s, sent_at=99.0)
    assert gate.width == pytest.approx(64 * DECREASE)


def test_refusal_after_the_pause_narrows_again() -> None:
    """What was sent after the pause and is refused shows that the gate is still too wide."""
    gate = full_gate(100)
    gate.rate_limited(100.0, 1.0, sent_at=99.0)
    gate.in_flight = 70
    gate.rate_limited(102.0, 1.0, sent_at=101.5)
    assert gate.width == pytest.approx(49.0)


def test_gate_narrows_from_what_was_in_flight() -> None:
    """A width that was never used says nothing about what the server bears."""
    gate = Gate(1000)
    gate.in_flight = 20
    gate.rate_limited(100.0, 1.0, sent_at=99.0)
    assert gate.width == pytest.approx(20 * DECREASE)


def test_gate_never_closes_for_good() -> None:
    """A server that refuses for ever still gets one request at a time."""
    gate = full_gate(64)
    now = 100.0
    for _ in range(200):
        gate.in_flight = int(gate.width)
        gate.rate_limited(now, None, sent_at=now)
        now = gate.resume_at
        gate.in_flight = 0
        assert gate.admits(now)
    assert gate.width == 1.0


def test_pauses_that_the_server_leaves_to_us_double_up_to_half_a_minute() -> None:
    """0.5, 1, 2, ... 30 s; an answer in between begins anew."""
    gate, now, pauses = Gate(4), 0.0, []
    for n in range(12):
        if n == 10:
            gate.succeeded()
        gate.rate_limited(now, None, sent_at=now)
        pauses.append(gate.resume_at - now)
        now = gate.resume_at
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30, 0.5, 1]


def test_gate_grows_back_by_one_for_each_full_width_of_answers() -> None:
    """Up to what the user allows, and no further."""
    gate = full_gate(20)
    gate.rate_limited(1.0, 0.0, sent_at=0.0)
    assert gate.width == pytest.approx(14)
    for _ in range(14):
        gate.succeeded()
    assert gate.width == pytest.approx(15, abs=0.1)
    for _ in range(1000):
        gate.succeeded()
    assert gate.width == 20


@given(
    st.lists(
        st.tuples(st.sampled_from(["ok", "limited", "pass"]), st.none() | st.floats(0, 100)), max_size=80
    )
)
def test_width_stays_between_one_and_the_limit(steps: list[tuple[str, float | None]]) -> None:
    """Whatever comes in, in whatever order; and the gate always opens again."""
    gate, now = Gate(16), 0.0
    for step, value in steps:
        if step == "ok":
            gate.succeeded()
        elif step == "limited":
            gate.rate_limited(now, value, sent_at=now)
        else:
            now += value or 0.1
        assert 1 <= gate.width <= 16
    assert gate.admits(gate.resume_at)


def test_repr_is_a_status_line() -> None:
    """Width, use and pause at a glance."""
    gate = Gate(8)
    gate.in_flight = 3
    gate.rate_limited(10.0, 5.0, sent_at=9.0)
    assert repr(gate) == "<Gate 3/2.1 in flight, closed until 15.00>"


# --- the breaker -------------------------------------------------------------------------------------------


def opened(now: float = 100.0) -> Breaker:
    breaker = Breaker()
    for _ in range(Breaker.THRESHOLD):
        breaker.failed(now, sent_at=now - 1)
    return breaker


def test_breaker_opens_at_the_threshold_and_not_before() -> None:
    """Ten failures in a row."""
    breaker = Breaker()
    for n in range(Breaker.THRESHOLD):
        assert not breaker.is_open
        assert breaker.admits(n)
        breaker.failed(n, sent_at=n)
    assert breaker.is_open
    assert not breaker.admits(n)


def test_answer_between_failures_keeps_it_closed() -> None:
    """Only failures in a row count."""
    breaker = Breaker()
    for n in range(100):
        breaker.failed(n, sent_at=n)
        if n % (Breaker.THRESHOLD - 1) == 0:
            breaker.succeeded()
    assert not breaker.is_open


def test_open_breaker_admits_one_probe_at_a_time() -> None:
    """From the end of the pause on."""
    breaker = opened()
    assert [breaker.admits(t) for t in (100.5, 101.0)] == [False, True]
    assert breaker.entered()
    assert not breaker.admits(105.0)
    breaker.probe_ended()
    assert breaker.admits(105.0)


def test_probes_that_fail_double_the_pause_up_to_half_a_minute() -> None:
    """1, 2, 4, ... 30 s, and the outage counts from its beginning."""
    breaker, now, pauses = opened(), 100.0, []
    for _ in range(8):
        pauses.append(breaker.open_until - now)
        now = breaker.open_until
        assert breaker.entered()
        breaker.failed(now, sent_at=now)
        breaker.probe_ended()
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert breaker.down_since == 100.0


def test_probe_that_succeeds_closes_it() -> None:
    """And everything begins anew."""
    breaker = opened()
    assert breaker.entered()
    breaker.succeeded()
    breaker.probe_ended()
    assert (breaker.is_open, breaker.failures, breaker.down_since) == (False, 0, None)
    assert breaker.admits(100.0)
    assert not breaker.entered()


def test_late_failures_of_what_was_sent_before_do_not_prolong_the_pause() -> None:
    """54 more requests run into the same outage, some of them a minute later."""
    breaker = opened()
    for n in range(54):
        breaker.failed(100.0 + n, sent_at=99.0)
    assert breaker.open_until == 101.0


def test_repr_of_a_breaker_is_a_status_line() -> None:
    """Closed, open, probing."""
    breaker = Breaker()
    breaker.failed(1.0, sent_at=0.0)
    assert repr(breaker) == "<Breaker closed, 1 failures>"
    breaker = opened()
    breaker.entered()
    assert repr(breaker) == "<Breaker open until 101.00, probing>"
