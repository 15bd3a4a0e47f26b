"""Runs against made-up endpoints, played through event by event: the simulation is the clock.

There is always more to ask, so whatever the gate lets through is sent. The endpoints do what real ones do:
they saturate, make requests queue, refuse beyond a number in flight or beyond a rate.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Protocol, TypeAlias

from vqa_async.limits import Gate, Standing, Unit

# --- endpoints ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """What becomes of a request: an answer ``after_s`` seconds, or a 429 that asks for ``wait_s``."""

    after_s: float
    is_refusal: bool = False
    wait_s: float | None = None


class Endpoint(Protocol):
    """What a simulated run asks."""

    def take(self, now: float, in_flight: int) -> Reply:
        """The fate of a request that arrives at ``now``, the ``in_flight``-th of those under way."""

    def standings(self, now: float) -> Mapping[Unit, Standing]:
        """What the headers of a reply say at ``now``."""


class Latency:
    """Draws latencies: log-normal, of a given mean and coefficient of variation."""

    def __init__(self, mean_s: float, spread: float = 0.0, seed: int = 1) -> None:
        self._mean_s = mean_s
        self._sigma = math.sqrt(math.log(1 + spread**2))
        self._rng = random.Random(seed)

    def draw(self) -> float:
        if not self._sigma:
            return self._mean_s
        return self._mean_s * self._rng.lognormvariate(-(self._sigma**2) / 2, self._sigma)


@dataclass
class Silent:
    """What most endpoints share: headers that say nothing of rates, and a knee that may move at a time."""

    latency: Latency
    knee: int = 1
    moves_at: float = math.inf
    moves_to: int = 0

    def standings(self, now: float) -> Mapping[Unit, Standing]:
        return {}

    def knee_at(self, now: float) -> int:
        return self.moves_to if now >= self.moves_at else self.knee


@dataclass
class Sharing(Silent):
    """Works on all at once, as a GPU does: beyond the knee each request takes as much longer."""

    def take(self, now: float, in_flight: int) -> Reply:
        return Reply(self.latency.draw() * max(1.0, in_flight / self.knee_at(now)))


@dataclass
class Queueing(Silent):
    """Works on as many as it has seats, and lets the others wait in a line."""

    _free_from: list[float] = field(default_factory=list)

    def take(self, now: float, in_flight: int) -> Reply:
        seats, knee = self._free_from, self.knee_at(now)
        while len(seats) < knee:
            heapq.heappush(seats, now)
        while len(seats) > knee:
            heapq.heappop(seats)
        ends = max(now, heapq.heappop(seats)) + self.latency.draw()
        heapq.heappush(seats, ends)
        return Reply(ends - now)


@dataclass
class Crowded(Silent):
    """Refuses what is more than ``knee`` in flight."""

    wait_s: float | None = None

    def take(self, now: float, in_flight: int) -> Reply:
        if in_flight > self.knee_at(now):
            return Reply(0.002, is_refusal=True, wait_s=self.wait_s)
        return Reply(self.latency.draw())


@dataclass
class Moody(Silent):
    """Refuses a share of the requests, for no reason that could be seen."""

    share: float = 1.0
    wait_s: float | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def take(self, now: float, in_flight: int) -> Reply:
        if self._rng.random() < self.share:
            return Reply(0.002, is_refusal=True, wait_s=self.wait_s)
        return Reply(self.latency.draw())


@dataclass
class Metered(Silent):
    """Lets through ``rpm`` requests a minute, and refuses the others after ``refusal_s``.

    Retry-After is ``exact``, rounded ``up`` to seconds, or ``missing``.
    """

    rpm: float = 600.0
    retry_after: str = "exact"
    tells_rates: bool = False
    refusal_s: float = 0.002

    def take(self, now: float, in_flight: int) -> Reply:
        if self.left(now) >= 1:
            self.spend(now)
            return Reply(self.latency.draw())
        wait_s: float | None = self.wait_s(now)
        if self.retry_after == "up":
            wait_s = float(math.ceil(self.wait_s(now)))
        elif self.retry_after == "missing":
            wait_s = None
        return Reply(self.refusal_s, is_refusal=True, wait_s=wait_s)

    def standings(self, now: float) -> Mapping[Unit, Standing]:
        if not self.tells_rates:
            return {}
        return {"requests": Standing(self.rpm, math.floor(self.left(now)), self.reset_s(now))}

    def left(self, now: float) -> float:
        raise NotImplementedError

    def spend(self, now: float) -> None:
        raise NotImplementedError

    def wait_s(self, now: float) -> float:
        raise NotImplementedError

    def reset_s(self, now: float) -> float:
        raise NotImplementedError


@dataclass
class TokenBucket(Metered):
    """Fills steadily, and holds a minute's worth, as OpenAI's and Anthropic's do."""

    _level: float = math.inf
    _at: float = 0.0

    def left(self, now: float) -> float:
        self._level = min(self.rpm, self._level + (now - self._at) * self.rpm / 60)
        self._at = now
        return self._level

    def spend(self, now: float) -> None:
        self._level -= 1

    def wait_s(self, now: float) -> float:
        return (1 - self.left(now)) * 60 / self.rpm

    def reset_s(self, now: float) -> float:
        return (self.rpm - self.left(now)) * 60 / self.rpm


@dataclass
class FixedWindow(Metered):
    """Counts anew with each minute of its clock, as gateways with a counter in Redis do."""

    _minute: int = -1
    _count: int = 0

    def left(self, now: float) -> float:
        if int(now // 60) != self._minute:
            self._minute, self._count = int(now // 60), 0
        return self.rpm - self._count

    def spend(self, now: float) -> None:
        self._count += 1

    def wait_s(self, now: float) -> float:
        return (now // 60 + 1) * 60 - now

    reset_s = wait_s


# --- a run -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refusal:
    """A 429: when it came in, and for how long it asked to wait."""

    at: float
    asked_s: float


Flight: TypeAlias = tuple[float, int, float, Reply]
"""A request under way: when its reply comes in, its number, when it was sent, and the reply."""


@dataclass
class Run:
    """What happened: times of what was sent, answered and refused, and the requests in flight in between."""

    duration_s: float
    sent: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    in_flight: list[tuple[float, int]] = field(default_factory=list)

    def rate(self, since: float, until: float) -> float:
        """Answers a second between two times."""
        return (bisect_left(self.answered, until) - bisect_left(self.answered, since)) / (until - since)

    def width(self, since: float, until: float) -> float:
        """Requests in flight between two times, on average."""
        inside = [(t, n) for t, n in self.in_flight if since <= t < until]
        ends = [*(t for t, _ in inside[1:]), until]
        return sum(n * (end - t) for (t, n), end in zip(inside, ends, strict=True)) / (until - since)

    @property
    def share_refused(self) -> float:
        """Refusals as a share of what came back."""
        return len(self.refused) / max(1, len(self.refused) + len(self.answered))

    def excess_gap_s(self) -> float:
        """The longest time without an answer, less the wait that was asked for in it, in seconds."""
        return max(
            end
            - start
            - max((r.asked_s for r in self.refused if r.at <= end and r.at + r.asked_s > start), default=0.0)
            for start, end in pairwise([0.0, *self.answered, self.duration_s])
        )

    def most_requests_within(self, seconds: float) -> int:
        """The most requests that were sent in any window of so many seconds, its end not included."""
        return max(self._end_of(start, seconds) - first for first, start in enumerate(self.sent))

    def most_tokens_within(self, seconds: float) -> float:
        """The same, of the tokens that they really took."""
        sums = [0.0, *accumulate(self.tokens)]
        return max(sums[self._end_of(start, seconds)] - sums[first] for first, start in enumerate(self.sent))

    def _end_of(self, start: float, seconds: float) -> int:
        # A hair is left to the rounding of sums of small steps.
        return bisect_left(self.sent, start + seconds - 1e-6)


@dataclass
class Tokens:
    """What requests take: an estimate, and what is used in the end, half as much more or less."""

    estimated: float = 0.0
    used: float = 0.0
    _rng: random.Random = field(default_factory=lambda: random.Random(11))

    def draw(self) -> float:
        return self.used * self._rng.uniform(0.5, 1.5)


def play(gate: Gate, endpoint: Endpoint, duration_s: float, tokens: Tokens | None = None) -> Run:
    """Ask ``endpoint`` through ``gate`` for so many seconds of simulated time."""
    run, now, tokens = Run(duration_s), 0.0, tokens or Tokens()
    under_way: list[Flight] = []
    while now < duration_s:
        while gate.admits(now, tokens.estimated):
            gate.entered(now, tokens.estimated)
            reply = endpoint.take(now, gate.in_flight)
            heapq.heappush(under_way, (now + reply.after_s, len(run.sent), now, reply))
            run.sent.append(now)
            run.tokens.append(tokens.draw())
        run.in_flight.append((now, gate.in_flight))
        now = _next_event(gate, now, under_way, tokens.estimated)
        while under_way and under_way[0][0] <= now:
            _, number, sent_at, reply = heapq.heappop(under_way)
            gate.rates.heard(now, endpoint.standings(now))
            if reply.is_refusal:
                run.refused.append(Refusal(now, reply.wait_s or 0.0))
                gate.rate_limited(now, reply.wait_s, sent_at=sent_at)
            else:
                run.answered.append(now)
                gate.succeeded(now, sent_at=sent_at)
                gate.rates.settled(now, run.tokens[number] - tokens.estimated)
            gate.left()
    return run


def _next_event(gate: Gate, now: float, under_way: list[Flight], tokens: float) -> float:
    """When the next reply comes in, or the gate opens for more."""
    events = [under_way[0][0]] if under_way else []
    if gate.in_flight < int(gate.width):
        events.append(gate.opens_at(now, tokens))
    assert events, f"nothing is under way at {gate!r}, and nothing may start"
    assert min(events) > now, f"time stands still at {gate!r}"
    return min(events)
