"""Requests and tokens a minute, told, read or learned, against simulated endpoints; the bucket by itself."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation import FixedWindow, Latency, Moody, Run, Sharing, TokenBucket, Tokens, play

from vqa_async.limits import AdaptiveWidth, Bucket, Gate, Rates, Standing

RPM = 600
WORKERS = 64

Kind: TypeAlias = type[TokenBucket] | type[FixedWindow]
NewGate: TypeAlias = Callable[..., Gate]

KINDS_THAT_SAY_WHEN = [
    (TokenBucket, "exact"),
    (TokenBucket, "up"),
    (TokenBucket, "missing"),
    (FixedWindow, "exact"),
    (FixedWindow, "up"),
]
"""Endpoints, and how they tell when to come back. Without it nobody can know the end of a fixed window."""

LATENCIES = pytest.mark.parametrize("latency_s", [0.2, 2.0])
SEEDS = pytest.mark.parametrize("seed", [1, 2, 3])


def fixed_gate(**told: float) -> Gate:
    return Gate(WORKERS, rates=Rates(**told))


def adaptive_gate(**told: float) -> Gate:
    return Gate(2000, adaptive=AdaptiveWidth(start=8, limit=2000), rates=Rates(**told))


def assert_all_is_used(run: Run, latency_s: float) -> None:
    """At least 97 % of what is allowed; no pause longer than was asked, plus two latencies and a second."""
    assert len(run.answered) >= 0.97 * RPM / 60 * run.duration_s
    assert run.excess_gap_s() <= 2 * latency_s + 1


# --- learned from 429s -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "retry_after"), KINDS_THAT_SAY_WHEN)
@LATENCIES
@pytest.mark.parametrize(("seed", "duration_s"), [(1, 120.0), (2, 120.0), (3, 240.0), (4, 240.0)])
def test_rate_is_learned_from_refusals(
    kind: Kind, retry_after: str, latency_s: float, seed: int, duration_s: float
) -> None:
    """Nothing is told: all that is allowed is used, and one request in a hundred is refused at most."""
    endpoint = kind(Latency(latency_s, 0.15, seed), rpm=RPM, retry_after=retry_after)
    run = play(fixed_gate(), endpoint, duration_s)
    assert_all_is_used(run, latency_s)
    assert run.share_refused <= 0.01


@pytest.mark.parametrize(("kind", "retry_after"), KINDS_THAT_SAY_WHEN)
@LATENCIES
@SEEDS
def test_rate_is_learned_while_the_width_is_sought(
    kind: Kind, retry_after: str, latency_s: float, seed: int
) -> None:
    """The same where the gate finds its width, but for a burst of the search that meets the first refusal."""
    endpoint = kind(Latency(latency_s, 0.15, seed), rpm=RPM, retry_after=retry_after)
    run = play(adaptive_gate(), endpoint, 240)
    assert_all_is_used(run, latency_s)
    first = run.refused[0].at
    with_the_first = sum(refusal.at < first + 0.01 for refusal in run.refused)
    assert with_the_first <= 64  # the search doubles: half of what it adds to 128 at once
    assert len(run.refused) - with_the_first <= 0.01 * len(run.sent)


@SEEDS
def test_refusals_that_take_their_time_are_no_more_once_the_rate_is_known(seed: int) -> None:
    """A 429 that takes 0.1 s to come meets more requests on their way; after the first minute, few."""
    run = play(fixed_gate(), TokenBucket(Latency(0.2, 0.15, seed), rpm=RPM, refusal_s=0.1), 240)
    assert_all_is_used(run, 0.2)
    assert sum(refusal.at > 60 for refusal in run.refused) <= 0.01 * len(run.answered)


@SEEDS
@pytest.mark.parametrize("latency_s", [0.2, 2.0])
def test_learned_rate_is_shown(latency_s: float, seed: int) -> None:
    """To the user, who may want to tell it next time."""
    gate = adaptive_gate()
    play(gate, TokenBucket(Latency(latency_s, 0.15, seed), rpm=RPM), 120)
    assert gate.rates.per_minute() == pytest.approx(RPM, rel=0.07)
    assert repr(gate.rates).endswith("/min learned>")


@SEEDS
def test_random_refusals_do_not_collapse_the_rate(seed: int) -> None:
    """One in a hundred, each a second's pause for all: more than 1,000 answers a minute."""
    endpoint = Moody(Latency(0.2, 0.15, seed), share=0.01, wait_s=1.0, seed=seed)
    run = play(fixed_gate(), endpoint, 120)
    assert run.rate(0, 120) > 1000 / 60


@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("width", [3, 64])
@pytest.mark.parametrize("seed", range(6))
def test_refusals_at_random_never_lead_to_a_standstill(share: float, width: int, seed: int) -> None:
    """Whatever is learned from so many of them, nothing waits for long after the pause that was asked for."""
    endpoint = Moody(Latency(0.3, 0.3, seed), share=share, wait_s=5.0, seed=seed)
    run = play(Gate(width), endpoint, 3600)
    gaps = [after - before for before, after in pairwise([*run.sent, 3600.0])]
    assert max(gaps) < 5 + 5


@pytest.mark.parametrize("wait_s", [0.25, 1.0, 20.0])
@pytest.mark.parametrize("gate", [fixed_gate, adaptive_gate])
def test_refused_for_ever_is_one_request_for_each_pause(wait_s: float, gate: NewGate) -> None:
    """No hot loop: once the first burst is over, one request, its refusal, the pause, one request."""
    run = play(gate(), Moody(Latency(0.2), share=1.0, wait_s=wait_s), 600)
    late = [t for t in run.sent if t > 300]
    assert not run.answered
    assert len(late) == pytest.approx(300 / (wait_s + 0.002), abs=1.5)


@pytest.mark.parametrize("gate", [fixed_gate, adaptive_gate])
def test_refused_for_ever_without_a_wait_is_asked_twice_a_minute(gate: NewGate) -> None:
    """The gate's own pauses double up to half a minute."""
    run = play(gate(), Moody(Latency(0.2), share=1.0), 900)
    assert sum(t > 600 for t in run.sent) == pytest.approx(10, abs=1)


# --- told by the user --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TokenBucket, FixedWindow])
@pytest.mark.parametrize("gate", [fixed_gate, adaptive_gate])
@LATENCIES
@SEEDS
def test_limit_that_is_told_is_kept_and_used(kind: Kind, gate: NewGate, latency_s: float, seed: int) -> None:
    """No refusal, no minute with more requests than the limit, wherever it begins; and 97 % of it."""
    run = play(gate(rpm=RPM), kind(Latency(latency_s, 0.15, seed), rpm=RPM), 240)
    assert not run.refused
    assert run.most_requests_within(60) <= RPM
    assert_all_is_used(run, latency_s)


@pytest.mark.parametrize("rpm", [1, 3, 60, 1000, 30_000])
def test_any_limit_that_is_told_is_kept(rpm: int) -> None:
    """From one request a minute to more than the endpoint can do."""
    run = play(fixed_gate(rpm=rpm), Sharing(Latency(0.2), WORKERS), 200)
    assert run.most_requests_within(60) <= rpm
    assert len(run.sent) >= 0.97 * min(rpm * 200 / 60, 200 * WORKERS / 0.2)


TPM = 60_000


@pytest.mark.parametrize(("estimated", "used"), [(100, 100), (100, 150), (150, 100)])
@LATENCIES
def test_tokens_that_are_told_are_kept_and_used(estimated: float, used: float, latency_s: float) -> None:
    """Estimates are wrong, but each is put right by its reply: 97 % of the limit, and 1 % above at most."""
    endpoint = Sharing(Latency(latency_s, 0.15), WORKERS)
    run = play(fixed_gate(tpm=TPM), endpoint, 240, Tokens(estimated, used))
    assert run.most_tokens_within(60) <= 1.01 * TPM
    assert sum(run.tokens) >= 0.97 * TPM * 240 / 60


@LATENCIES
@pytest.mark.parametrize(("estimated", "used"), [(100, 400), (400, 100)])
def test_tokens_that_are_estimated_far_off_are_put_right(
    estimated: float, used: float, latency_s: float
) -> None:
    """By a factor of four: what is on its way at first is all that goes wrong."""
    endpoint = Sharing(Latency(latency_s, 0.15), WORKERS)
    run = play(fixed_gate(tpm=TPM), endpoint, 240, Tokens(estimated, used))
    assert run.most_tokens_within(60) <= 1.1 * TPM
    assert sum(run.tokens) >= 0.95 * TPM * 240 / 60


def test_request_larger_than_the_minute_is_sent_nevertheless() -> None:
    """What never fits must not wait for ever: it takes all there is, and the next one waits for it."""
    rates = Rates(tpm=1000)
    assert rates.ready_at(0.0, 5000) == 0.0
    rates.sent(0.0, 5000)
    assert rates.ready_at(0.0, 1) == pytest.approx(5000 / 1000 * 60, rel=0.03)


def test_rates_say_whether_they_count_tokens() -> None:
    """Only where they are limited must a request be estimated."""
    assert Rates(tpm=1).counts_tokens
    assert not Rates(rpm=1).counts_tokens
    rates = Rates()
    assert not rates.is_active
    rates.heard(0.0, {"tokens": Standing(1000, 900, 6.0)})
    assert rates.counts_tokens
    assert rates.is_active


# --- read from headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TokenBucket, FixedWindow])
@pytest.mark.parametrize("gate", [fixed_gate, adaptive_gate])
@LATENCIES
@SEEDS
def test_headers_that_tell_the_rate_leave_no_refusal(
    kind: Kind, gate: NewGate, latency_s: float, seed: int
) -> None:
    """Whether the reset is when all is back, or when the period ends."""
    endpoint = kind(Latency(latency_s, 0.15, seed), rpm=RPM, tells_rates=True)
    run = play(gate(), endpoint, 240)
    assert not run.refused
    assert_all_is_used(run, latency_s)


def test_tokens_that_headers_tell_are_waited_for() -> None:
    """900 are left of 60,000 that refill steadily: a request of 1,500 waits for the rest."""
    rates = Rates()
    rates.heard(0.0, {"tokens": Standing(60_000, 900, 59.1)})
    assert rates.ready_at(0.0, 900) == 0.0
    assert rates.ready_at(0.0, 1500) == pytest.approx(0.6, rel=0.02)


def test_headers_without_a_limit_tell_no_rate() -> None:
    """What is left, of nobody knows what: nothing is limited by it."""
    rates = Rates()
    rates.heard(0.0, {"requests": Standing(None, 3.0, 60.0)})
    assert not rates.is_active
    assert rates.per_minute() == 0


def test_strictest_of_all_rates_counts() -> None:
    """Told 600, read 60: sixty a minute."""
    rates = Rates(rpm=600)
    for now in range(30):
        rates.heard(float(now), {"requests": Standing(60, 30, 30.0)})
    assert rates.per_minute() == pytest.approx(60)
    assert repr(rates) == "<Rates requests 595/min told, requests 60/min read>"
    assert repr(Rates()) == "<Rates none>"


# --- the bucket --------------------------------------------------------------------------------------------


def bucket(level: float | None = None) -> Bucket:
    """Two a second, ten at most."""
    return Bucket(2.0, 10.0, 100.0, level=level)


@pytest.mark.parametrize(
    ("level", "units", "ready_at"),
    [
        (None, 1, 100),  # full
        (10, 10, 100),
        (4, 4, 100),
        (4, 5, 100.5),
        (0, 1, 100.5),
        (-4, 1, 102.5),  # more was taken than was there
        (9, 25, 100.5),  # more than it holds: once it is full
        (10, 25, 100),
        (1 - 1e-9, 1, 100),  # a hair is not waited for
    ],
)
def test_bucket_says_when_enough_is_there(level: float | None, units: float, ready_at: float) -> None:
    """Now, or once it has filled as far as it must."""
    assert bucket(level).ready_at(100.0, units) == pytest.approx(ready_at)


@pytest.mark.parametrize(
    ("spent", "ready_at"),
    [
        ([10], 105),
        ([25], 112.5),  # the debt is paid off first
        ([10, -4], 103),  # what was given back is there
        ([10, -400], 100),  # no more than it holds
        ([-400, 10], 105),
    ],
)
def test_bucket_is_spent_and_given_back(spent: list[float], ready_at: float) -> None:
    """The time at which all ten are there again."""
    one = bucket()
    for units in spent:
        one.spend(100.0, units)
    assert one.ready_at(100.0, 10) == pytest.approx(ready_at)


def test_bucket_fills_with_time_and_no_further_than_it_holds() -> None:
    """An hour's rest is worth no more than a full bucket."""
    one = bucket(level=0)
    assert one.ready_at(102.0, 4) == 102.0
    one.spend(3700.0, 10)
    assert one.ready_at(3700.0, 1) == pytest.approx(3700.5)


def test_bucket_is_lowered_but_never_raised() -> None:
    """Somebody else has spent some; that nobody has, says nothing."""
    one = bucket()
    one.lower(100.0, 3)
    assert one.ready_at(100.0, 4) == pytest.approx(100.5)
    one.lower(100.0, 9)
    assert one.ready_at(100.0, 4) == pytest.approx(100.5)


def test_bucket_changes_its_rate_from_then_on() -> None:
    """What has flowed in before stays, as far as there is room."""
    one = bucket(level=0)
    one.change(102.0, 8.0, 20.0)
    assert one.ready_at(102.0, 12) == pytest.approx(103.0)
    one.change(102.0, 8.0, 2.0)
    assert one.ready_at(102.0, 12) == pytest.approx(102.0)
    assert repr(one) == "<Bucket 2.0 of 2.0, 8/s>"


def test_bucket_does_not_run_backwards() -> None:
    """A time before the last one, as two clocks may give it, neither fills nor empties it."""
    one = bucket(level=4)
    one.spend(90.0, 1)
    assert one.ready_at(100.0, 3) == 100.0
    assert one.ready_at(100.0, 4) == pytest.approx(100.5)


@given(
    st.floats(0.01, 1000),
    st.floats(1, 1000),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 50)), max_size=50),
)
def test_no_bucket_gives_more_than_flows_in(
    per_s: float, capacity: float, wishes: list[tuple[float, float]]
) -> None:
    """Whoever waits until it is ready takes in all no more than it held, flowed in, and lent at the end."""
    one, now, taken, last = Bucket(per_s, capacity, 0.0), 0.0, 0.0, 0.0
    for rest_s, units in wishes:
        now = one.ready_at(now + rest_s, units)
        one.spend(now, units)
        taken, last = taken + units, units
    lent = max(0.0, last - capacity)
    assert taken <= (capacity + now * per_s + lent) * (1 + 1e-6) + 1e-6 * capacity * len(wishes)
