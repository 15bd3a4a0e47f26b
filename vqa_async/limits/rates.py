"""Requests and tokens a minute at one endpoint: told by the user, read from headers, or learned from 429s.

Each of the three is a bucket of its own, and whoever sends waits for all of them. Decisions only.
"""

from __future__ import annotations

from collections.abc import Mapping

from vqa_async.limits.bucket import Bucket
from vqa_async.limits.headers import Standing, Unit

_MINUTE_S = 60.0

_TOLD_BURST = {"requests": 0.01, "tokens": 0.02}
"""Share of a minute that may be sent at once where only the limit is known.

Servers that count by the minute, and those that break it down to seconds, are both satisfied.
"""

_READ_BURST = 0.1
"""The same where each reply says how much is left."""


def _told(unit: Unit, per_minute: float) -> Bucket:
    capacity = max(1.0, per_minute * _TOLD_BURST[unit])
    # What may be sent at once comes out of the minute's worth, so that no minute holds more, wherever it
    # begins.
    spare = capacity - 1 if unit == "requests" else capacity
    return Bucket((per_minute - spare) / _MINUTE_S, capacity, 0.0)


class Rates:
    """The rates of one endpoint.

    Args:
        rpm: requests a minute at most, 0 for no such limit.
        tpm: tokens a minute at most, prompt and completion; 0 for no such limit.
    """

    __slots__ = ("_learned", "_read", "_told", "counts_tokens", "is_active")

    def __init__(self, *, rpm: float = 0, tpm: float = 0) -> None:
        self._told: dict[Unit, Bucket] = {}
        if rpm:
            self._told["requests"] = _told("requests", rpm)
        if tpm:
            self._told["tokens"] = _told("tokens", tpm)
        self._read: dict[Unit, _ReadRate] = {}
        self._learned = LearnedRate()
        self.is_active = bool(self._told)
        """Whether anything is limited: until then nobody need ask."""
        self.counts_tokens = bool(tpm)
        """Whether tokens are limited, so that requests must say how many they need."""

    def __repr__(self) -> str:
        facts = [f"{unit} {bucket.per_s * _MINUTE_S:.0f}/min told" for unit, bucket in self._told.items()]
        facts += [f"{unit} {rate.per_minute:.0f}/min read" for unit, rate in self._read.items()]
        if self._learned.is_steady:
            facts.append(f"requests {self._learned.per_s * _MINUTE_S:.0f}/min learned")
        return f"<Rates {', '.join(facts) or 'none'}>"

    @property
    def explains_refusals(self) -> bool:
        """Whether the rate at which the endpoint refuses is known: its 429s say nothing of the width then."""
        return self._learned.is_steady

    def rules_out_rates(self, now: float) -> bool:
        """Whether it was tried, and failed, to keep to a rate: it must be the width that is refused."""
        return self._learned.is_doubted(now)

    def per_minute(self) -> float:
        """Requests a minute that are let through at most; 0 where nothing limits them."""
        found = [bucket.per_s * _MINUTE_S for unit, bucket in self._told.items() if unit == "requests"]
        if "requests" in self._read:
            found.append(self._read["requests"].per_minute)
        if self._learned.is_steady:
            found.append(self._learned.per_s * _MINUTE_S)
        return min(found, default=0.0)

    def ready_at(self, now: float, tokens: float) -> float:
        """The time from which a request of ``tokens`` tokens may be sent."""
        at = now
        for unit, bucket in self._told.items():
            at = max(at, bucket.ready_at(now, tokens if unit == "tokens" else 1.0))
        for unit, rate in self._read.items():
            at = max(at, rate.ready_at(now, tokens if unit == "tokens" else 1.0))
        return max(at, self._learned.ready_at(now))

    def sent(self, now: float, tokens: float) -> None:
        """A request of about ``tokens`` tokens is sent."""
        self._learned.sent(now)
        for unit, bucket in self._told.items():
            bucket.spend(now, tokens if unit == "tokens" else 1.0)
        for unit, rate in self._read.items():
            rate.send(now, tokens if unit == "tokens" else 1.0)

    def settled(self, now: float, tokens: float) -> None:
        """A request took ``tokens`` more than was said when it was sent (fewer: a negative number)."""
        if bucket := self._told.get("tokens"):
            bucket.spend(now, tokens)
        if rate := self._read.get("tokens"):
            rate.settle(now, tokens)

    def heard(self, now: float, found: Mapping[Unit, Standing]) -> None:
        """A reply has said where we stand."""
        for unit, standing in found.items():
            rate = self._read.get(unit)
            if rate is None:
                if not standing.limit:
                    continue  # without a limit there is no rate that could be kept
                rate = self._read[unit] = _ReadRate(now, standing.limit)
                self.is_active = True
                self.counts_tokens = self.counts_tokens or unit == "tokens"
            rate.heard(now, standing)

    def refused(self, now: float, resume_at: float, *, is_first: bool) -> None:
        """The endpoint has answered 429, and nothing is sent before ``resume_at``.

        ``is_first`` says that this refusal began the pause; the others were in flight with it.
        """
        if is_first:
            self._learned.refused(now, resume_at)
        else:
            self._learned.refused_too(resume_at)
        for rate in self._read.values():
            rate.refused()
        self.is_active = True


_TRUSTED_RESET_S = 10.0
"""Resets are rounded to seconds by some servers; what is shorter tells no rate."""
_WATCHED_S = 2.0
"""How long resets are watched before it is said of what kind they are."""
_SPREAD_S = 600.0
"""What is all back within this time is spread over it. What takes longer, such as a quota for each day, is
used as long as there is any."""
_PATIENCE_S = 60.0
"""Seconds for which a header is believed that says to send nothing. Then one request is sent: where that is
answered, the next waits half as long, and after a refusal as long as at first."""
_LEAST_PATIENCE_S = 0.01


class _ReadRate:
    """A rate that the endpoint's headers tell.

    Two kinds of servers send the same headers. One refills steadily, and its reset is the time until all is
    back: what is missing, divided by it, is the rate, whatever the period. The other counts by the period,
    and its reset is the end of that, which stays where it is while we spend; there, what is left must last
    until then.

    Some mean something else by their headers, and some say that nothing is left whatever they still answer.
    So nobody is believed for long who says to wait and then answers all the same.
    """

    __slots__ = (
        "_bucket",
        "_closed_until",
        "_counts_periods",
        "_end",
        "_is_early",
        "_limit",
        "_patience_s",
        "_remaining",
        "_sent_at",
        "_since",
    )

    def __init__(self, now: float, limit: float) -> None:
        self._limit = limit
        self._bucket = Bucket(limit / _MINUTE_S, self._capacity(), now)
        self._closed_until = 0.0
        self._counts_periods = False
        self._since: float | None = None
        self._end = 0.0
        self._remaining = 0.0
        self._sent_at = now
        self._patience_s = _PATIENCE_S
        self._is_early = False  # whether a request was sent because patience was at its end

    @property
    def per_minute(self) -> float:
        return self._bucket.per_s * _MINUTE_S

    def ready_at(self, now: float, units: float) -> float:
        return max(now, min(self._told_at(now, units), self._sent_at + self._patience_s))

    def _told_at(self, now: float, units: float) -> float:
        return max(self._closed_until, self._bucket.ready_at(now, units))

    def send(self, now: float, units: float) -> None:
        if self._told_at(now, units) > now:
            self._is_early = True
        else:
            self._bucket.spend(now, units)
        self._sent_at = now

    def settle(self, now: float, units: float) -> None:
        self._bucket.spend(now, units)

    def refused(self) -> None:
        self._patience_s = _PATIENCE_S
        self._is_early = False

    def heard(self, now: float, standing: Standing) -> None:
        if self._is_early:
            self._is_early = False
            self._patience_s = max(_LEAST_PATIENCE_S, self._patience_s / 2)
        if standing.limit:
            self._limit = standing.limit
        if standing.reset_s is not None:
            self._watch(now, now + standing.reset_s, standing.remaining)
        per_s = self._rate(standing)
        is_back_in_s = (standing.reset_s or 0.0) if self._counts_periods else self._limit / per_s
        is_long = is_back_in_s > _SPREAD_S
        self._bucket.change(now, per_s, self._limit if is_long else self._capacity())
        if not self._counts_periods:
            self._closed_until = 0.0
        elif standing.remaining < 1 and standing.reset_s is not None:
            self._closed_until = now + standing.reset_s
        if is_long:
            self._bucket.fill_to(now, standing.remaining)
        elif not self._counts_periods:
            self._bucket.lower(now, standing.remaining)

    def _watch(self, now: float, end: float, remaining: float) -> None:
        """Whether the reset is a moment that stays where it is although we spend."""
        slack = max(1.0, 0.1 * (now - (self._since if self._since is not None else now)))
        if self._since is None or abs(end - self._end) > slack or remaining > self._remaining:
            self._since, self._end, self._counts_periods = now, end, False
        elif now - self._since >= _WATCHED_S and remaining < self._remaining:
            self._counts_periods = True
        if not self._counts_periods:
            self._remaining = max(remaining, self._remaining if self._since != now else remaining)

    def _rate(self, standing: Standing) -> float:
        reset_s, missing = standing.reset_s, self._limit - standing.remaining
        if reset_s is None or self._since is None:
            return self._limit / _MINUTE_S
        if self._counts_periods:
            if reset_s > _SPREAD_S:
                return self._limit / reset_s
            return max(standing.remaining, 1.0) / max(reset_s, 1.0)
        if reset_s >= _TRUSTED_RESET_S and missing >= max(5.0, 0.02 * self._limit):
            return missing / reset_s
        return self._bucket.per_s

    def _capacity(self) -> float:
        return max(1.0, self._limit * _READ_BURST)


_BELOW = 0.985
"""Share of a learned rate at which sending begins anew: a little below, so that refusals are rare."""
_ALIKE = 0.1
_AGREEING = 2
"""By how much an estimate may differ from the one before to agree with it; how many in a row must."""
_CLIMB_S = 15.0
_CLIMB_REQUESTS = 200.0
"""Seconds, and requests, in which a steady rate climbs from a little below to what was measured.

A rate is found by exceeding it, so one request in a few hundred is refused.
"""
_GENTLE = 0.25
_GENTLE_DOUBLES_S = 0.5
"""How sending begins anew where no rate is known: at a share of the speed before, doubled so often."""
_CLIMBS = 2.0
_STEADY_GROWS = 1.25
"""Factor for each climb beyond so many without a refusal: the rate was measured too low, or raised."""
_EARLY_CLIMB = 0.5
_DOUBTED_S = (60.0, 120.0, 240.0, 480.0)
"""For how long no rate is believed once one was contradicted.

A rate that is kept to is not exceeded: two refusals in a row that come before half of the climb, while it is
believed, are none of a rate.
"""
_RESTED_S = 2.0
"""Seconds' worth that may be sent at once after a pause, in which the endpoint's bucket has filled too."""


class LearnedRate:
    """The rate of an endpoint that only says 429 and when to come back.

    Between two moments at which its bucket was empty, an endpoint has let through just what flowed in: the
    requests that it took since the pause before this one ended, divided by the time from there to the end of
    this one. Three such estimates that agree are a rate, and are kept to. Where they do not agree, or where
    refusals come though we stay below (at random, or for other reasons), sending only begins anew gently.

    Attributes:
        is_steady: whether the rate is known.
        per_s: the rate at which requests are let through.
    """

    __slots__ = (
        "_agreeing",
        "_before",
        "_began",
        "_bucket",
        "_doubted_until",
        "_doubts",
        "_early",
        "_estimate",
        "_refused_at",
        "_resumed_at",
        "_sent",
        "_taken",
        "is_steady",
    )

    def __init__(self) -> None:
        self.is_steady = False
        self._before = 0.0  # the estimate before this one, 0 where there is none
        self._estimate = 0.0
        self._bucket: Bucket | None = None
        self._began: float | None = None
        self._refused_at = 0.0
        self._resumed_at: float | None = None
        self._agreeing = 0  # estimates in a row that agreed with the one before, save for the last
        self._early = 0
        self._doubts = 0
        self._doubted_until = 0.0
        self._taken = 0  # requests of the interval that the last refusal ended, as far as is known
        self._sent = 0  # requests since then

    @property
    def per_s(self) -> float:
        return self._bucket.per_s if self._bucket is not None else 0.0

    def is_doubted(self, now: float) -> bool:
        return now < self._doubted_until

    def ready_at(self, now: float) -> float:
        if self._bucket is not None:
            self._grow(now)
        if self._bucket is None:  # it never was one, or has grown beyond being one
            return now
        at = self._bucket.ready_at(now, 1.0)
        # Until then the speed will have doubled, and who waits must see that.
        return at if self.is_steady else min(at, now + _GENTLE_DOUBLES_S)

    def sent(self, now: float) -> None:
        if self._resumed_at is None:
            self._resumed_at = now
        self._sent += 1
        if self._bucket is not None:
            self._bucket.spend(now, 1.0)

    def refused(self, now: float, resume_at: float) -> None:
        """The first refusal after a pause, and the end of the pause that it begins."""
        self._began = now if self._resumed_at is None else self._resumed_at
        self._note_early(now)
        self._agreeing = self._agreeing + 1 if self._agrees else 0
        self._before = self._estimate
        self._taken, self._sent = self._sent - 1, 0
        self._refused_at, self._resumed_at = now, resume_at
        self._judge()

    def refused_too(self, resume_at: float) -> None:
        """One more of those that were in flight then."""
        if self._resumed_at is not None:
            self._taken -= 1
            self._resumed_at = max(self._resumed_at, resume_at)
            self._judge()

    def _note_early(self, now: float) -> None:
        """See whether this refusal contradicts the rate that was believed."""
        assert self._began is not None
        if not self.is_steady:  # nothing was believed, so nothing is contradicted or confirmed
            return
        self._early = self._early + 1 if self._climbs(now - self._began) < _EARLY_CLIMB else 0
        if self._early >= 2:
            self._early = 0
            self._doubted_until = now + _DOUBTED_S[min(self._doubts, len(_DOUBTED_S) - 1)]
            self._doubts += 1

    def _judge(self) -> None:
        assert self._began is not None
        assert self._resumed_at is not None
        if self._taken < 1:  # nothing was taken, so there is nothing to learn
            self._estimate, self._bucket, self.is_steady = 0.0, None, False
            return
        # Nothing is known of the bucket at the very beginning, so the first time tells only how fast we were.
        until = self._resumed_at if self._before else self._refused_at
        self._estimate = self._taken / max(until - self._began, 1e-3)
        agreeing = self._agreeing + 1 if self._agrees else 0
        self.is_steady = agreeing >= _AGREEING and self._refused_at >= self._doubted_until
        per_s = self._estimate * _BELOW if self.is_steady else self._gentle()
        capacity = max(1.0, per_s * _RESTED_S) if self.is_steady else 1.0
        self._bucket = Bucket(per_s, capacity, self._refused_at, level=0.0)

    @property
    def _agrees(self) -> bool:
        return abs(self._estimate - self._before) <= _ALIKE * self._before > 0

    def _climbs(self, seconds: float) -> float:
        return seconds / max(_CLIMB_S, _CLIMB_REQUESTS / self._estimate)

    def _gentle(self) -> float:
        """The speed at which sending begins anew. The first estimate is one of our speed, not of a rate."""
        return self._estimate * (1.0 if self._before else _GENTLE)

    def _grow(self, now: float) -> None:
        assert self._bucket is not None
        assert self._resumed_at is not None
        rested_s = now - self._resumed_at
        if rested_s <= 0:
            return
        if not self.is_steady:
            doublings = rested_s / _GENTLE_DOUBLES_S
            if doublings > 10:
                # A thousandfold, and no refusal: there is no rate to keep.
                self._bucket, self._estimate = None, 0.0
                return
            self._bucket.change(now, self._gentle() * 2.0**doublings, 1.0)
            return
        climbs = self._climbs(rested_s)
        share = _BELOW + (1 - _BELOW) * min(climbs, _CLIMBS)
        grown = share * _STEADY_GROWS ** max(0.0, min(climbs - _CLIMBS, 60.0))
        per_s = self._estimate * grown
        self._bucket.change(now, per_s, max(1.0, per_s * _RESTED_S))
