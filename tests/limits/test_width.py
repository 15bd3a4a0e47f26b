"""The width that finds itself, against simulated endpoints: the simulation is the clock."""

from __future__ import annotations

from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation import Crowded, Latency, Moody, Queueing, Run, Sharing, play

from vqa_async.limits import AdaptiveWidth, Gate

KNEE = 64
LATENCY_S = 0.2
BEST = KNEE / LATENCY_S
"""Answers a second at the knee, and at any width beyond."""

Kind: TypeAlias = type[Sharing] | type[Queueing]

BOTH_KINDS = pytest.mark.parametrize("kind", [Sharing, Queueing])
SPREADS = pytest.mark.parametrize("spread", [0.0, 0.3, 0.5])
"""Coefficients of variation; 0 is an endpoint that works in batches: all replies of a round at once."""
SEEDS = pytest.mark.parametrize("seed", [1, 2, 3])


def gate_from(start: float, limit: int = 2000) -> Gate:
    return Gate(limit, adaptive=AdaptiveWidth(start=start, limit=limit))


def saturated(kind: Kind, start: float, spread: float, seed: int, duration_s: float = 60.0) -> Run:
    return play(gate_from(start), kind(Latency(LATENCY_S, spread, seed), KNEE), duration_s)


# --- an endpoint that saturates ----------------------------------------------------------------------------


@BOTH_KINDS
@SPREADS
@SEEDS
@pytest.mark.parametrize("start", [1, 8, 1000])
def test_saturated_endpoint_gives_what_it_can_without_a_long_queue(
    kind: Kind, start: float, spread: float, seed: int
) -> None:
    """Half a minute on: 95 % of the best rate, and no more in flight than half above the knee."""
    run = saturated(kind, start, spread, seed)
    assert run.rate(30, 60) >= 0.95 * BEST
    assert run.width(30, 60) <= 1.5 * KNEE


@BOTH_KINDS
@SPREADS
@pytest.mark.parametrize(("start", "seed"), [(1, 4), (8, 5), (1000, 6)])
def test_width_does_not_oscillate(kind: Kind, start: float, spread: float, seed: int) -> None:
    """In each ten seconds from half a minute on, between three quarters and one and a half of the knee."""
    run = saturated(kind, start, spread, seed, 90)
    assert all(48 <= run.width(since, since + 10) <= 96 for since in range(30, 90, 10))


@BOTH_KINDS
@SPREADS
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("before", "after"), [(64, 16), (16, 64)])
def test_width_follows_a_knee_that_moves(
    kind: Kind, before: int, after: int, spread: float, seed: int
) -> None:
    """Another tenant comes or goes after half a minute: 90 % of what is possible now, a minute later."""
    endpoint = kind(Latency(LATENCY_S, spread, seed), before, moves_at=30, moves_to=after)
    run = play(gate_from(8), endpoint, 120)
    assert run.rate(90, 120) >= 0.9 * after / LATENCY_S
    assert run.width(90, 120) <= 2 * after


@BOTH_KINDS
@SPREADS
@pytest.mark.parametrize(("start", "seed"), [(1, 1), (1, 2), (8, 3), (8, 4)])
@pytest.mark.parametrize("knee", [4, 1])
def test_small_endpoints_are_used_to_the_full(
    kind: Kind, knee: int, start: float, spread: float, seed: int
) -> None:
    """A single GPU at home: five answers a second are few to measure with, and yet it is kept busy."""
    run = play(gate_from(start), kind(Latency(LATENCY_S, spread, seed), knee), 240)
    assert run.rate(30, 240) >= 0.9 * knee / LATENCY_S
    assert run.width(120, 240) <= 16


@SEEDS
def test_endpoint_that_keeps_up_gets_all_that_is_allowed(seed: int) -> None:
    """No knee below the limit: it is reached within half a minute, and never exceeded."""
    run = play(gate_from(8, limit=200), Sharing(Latency(LATENCY_S, 0.3, seed), 100_000), 60)
    assert run.width(30, 60) > 0.8 * 200
    assert max(n for _, n in run.in_flight) <= 200


# --- an endpoint that refuses ------------------------------------------------------------------------------


@SPREADS
@pytest.mark.parametrize(("start", "seed"), [(1, 1), (8, 2), (100, 3)])
@pytest.mark.parametrize("wait_s", [None, 0.1, 1.0])
def test_width_stays_just_below_where_it_is_refused(
    start: float, spread: float, seed: int, wait_s: float | None
) -> None:
    """A 429 beyond 50 in flight, whatever wait it asks for: few of them, and hardly a seat is empty."""
    run = play(gate_from(start), Crowded(Latency(LATENCY_S, spread, seed), 50, wait_s=wait_s), 120)
    assert run.share_refused < 0.015
    assert 40 <= run.width(30, 120) <= 50


@SPREADS
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("wait_s", [None, 1.0])
def test_start_far_beyond_where_it_is_refused_is_recovered_from(
    spread: float, seed: int, wait_s: float | None
) -> None:
    """950 of the first 1,000 are refused; what happens once a pause is not taken for a rate."""
    run = play(gate_from(1000), Crowded(Latency(LATENCY_S, spread, seed), 50, wait_s=wait_s), 120)
    assert 40 <= run.width(60, 120) <= 50
    assert sum(refusal.at > 30 for refusal in run.refused) < 0.015 * len(run.answered)


@SEEDS
@pytest.mark.parametrize("wait_s", [None, 1.0])
def test_random_refusals_do_not_end_at_one_in_flight(seed: int, wait_s: float | None) -> None:
    """One in a hundred: still more than 1,000 answers in the last minute, of 19,200 without any refusal."""
    endpoint = Moody(Latency(LATENCY_S, 0.2, seed), share=0.01, wait_s=wait_s, seed=seed)
    assert play(gate_from(8, limit=64), endpoint, 120).rate(60, 120) > 1000 / 60


# --- by itself ---------------------------------------------------------------------------------------------

Step: TypeAlias = tuple[str, float]

STEPS = st.lists(
    st.tuples(st.sampled_from(["send", "answer", "fail", "refuse"]), st.floats(0, 40)), max_size=300
)


@given(STEPS, st.integers(1, 300), st.floats(0, 1000))
def test_value_stays_between_one_and_the_limit(steps: list[Step], limit: int, start: float) -> None:
    """Whatever is sent and comes back, in whatever order, after whatever time: it never stalls."""
    width, now = AdaptiveWidth(start=start, limit=limit), 0.0
    under_way: list[float] = []
    for step, passed_s in steps:
        now += passed_s
        if step == "send":
            under_way.append(now)
            width.sent(now, len(under_way))
        elif step == "refuse":
            width.refused(now, len(under_way))
        elif under_way:
            tell = width.answered if step == "answer" else width.failed
            tell(now, sent_at=under_way.pop(0), in_flight=len(under_way) + 1)
        assert 1 <= width.value <= limit


@given(st.integers(1, 300), st.floats(0, 1000), st.integers(0, 60))
def test_refusals_for_ever_leave_one_in_flight(limit: int, start: float, answers: int) -> None:
    """However well it went before."""
    width, now = AdaptiveWidth(start=start, limit=limit), 0.0
    for _ in range(answers):
        width.sent(now, 1)
        width.answered(now + 1, sent_at=now, in_flight=1)
        now += 1
    for _ in range(60):
        now += 1
        width.refused(now, int(width.value))
    assert width.value == 1


def test_refusal_narrows_at_once_and_less_where_as_much_was_borne() -> None:
    """By three tenths at first; by one tenth from a width that went well a moment ago."""
    width = AdaptiveWidth(start=20, limit=20)
    width.refused(0.0, 20)
    assert width.value == 14
    width = AdaptiveWidth(start=20, limit=20)
    ask_in_rounds(width, rounds=1)
    width.refused(100.0, 20)
    assert width.value == 18


def test_what_was_refused_for_another_reason_is_undone() -> None:
    """Back to where nothing was wrong, however high a ceiling was seen."""
    width = AdaptiveWidth(start=20, limit=100)
    width.refused(0.0, 20)
    width.acquit(40.0)
    assert width.value == 40
    width.acquit(10.0)
    assert width.value == 40


def test_nothing_is_learned_of_a_width_that_is_not_used() -> None:
    """A trickle of requests neither widens nor narrows."""
    width = AdaptiveWidth(start=20, limit=1000)
    for now in range(1000):
        width.sent(float(now), 1)
        width.answered(now + 0.9, sent_at=float(now), in_flight=1)
    assert width.value == 20


def test_replies_that_all_come_at_once_are_no_unused_width() -> None:
    """Rounds of a server that works in batches: each round is sent as the first, the second, the third."""
    width = AdaptiveWidth(start=8, limit=1000)
    ask_in_rounds(width, rounds=3)
    assert width.value > 16


def ask_in_rounds(width: AdaptiveWidth, rounds: int) -> None:
    for now in range(rounds):
        count = int(width.value)
        for n in range(count):
            width.sent(float(now), n + 1)
        for n in range(count):
            width.answered(now + 1.0, sent_at=float(now), in_flight=count - n)


def test_repr_of_a_width_is_a_status_line() -> None:
    """What it is, and what it does about it."""
    assert repr(AdaptiveWidth(start=8, limit=100)) == "<AdaptiveWidth 8.0, trying x2 up>"
