"""What is shown of a run, as one frozen value: all that the panel, the plain line and the events know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from vqa_async.endpoints import EndpointStatistics
from vqa_async.events import RunStatistics
from vqa_async.watch.speed import Speed, TimeLeft
from vqa_async.watch.words import count, duration

Health = Literal["up", "limited", "down", "closed", "unknown"]


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint, as it is shown. What is None is not known, and not shown.

    Attributes:
        name: host and port of it.
        health: whether it answers.
        state: the same in words, with until when.
        in_flight, width: requests on the wire, of how many at most.
        requests, errors: so far.
        answered: records that it answered, where only that is known.
        latency_s: how long an answer usually takes; 0 before the first.
    """

    name: str
    health: Health = "up"
    state: str = "up"
    in_flight: int | None = None
    width: int = 0
    requests: int | None = None
    errors: int = 0
    answered: int | None = None
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ErrorView:
    """One kind of error.

    Attributes:
        code: its name.
        failed: records that ended with it.
        retried: attempts that ended with it and are repeated.
        message: of the last one.
    """

    code: str
    failed: int = 0
    retried: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment.

    Attributes:
        title: the output's name.
        elapsed_s: seconds since the run began.
        done: records that have an answer, by this run or an earlier one.
        failed: records that ended as a Failure.
        total: records of the input, 0 where that is not known.
        is_exact: whether ``total`` was counted, not guessed.
        speed: rates.
        time_left: until the end, None where that cannot be told.
        in_flight, width: requests on the wire, of how many at most; None where only the run itself knows.
        rpm: requests a minute that may be sent, 0 where nothing limits them.
        retried: attempts that failed and were repeated; None as above.
        prompt_tokens, completion_tokens: so far.
        cost: US dollars so far, None where there are no prices.
        waits_for: what the run waits for, in words.
        is_held_up: whether that is something out of order.
        endpoints: each of them.
        errors: the kinds of errors, the latest first.
    """

    title: str = ""
    elapsed_s: float = 0.0
    done: int = 0
    failed: int = 0
    total: int = 0
    is_exact: bool = False
    speed: Speed = field(default_factory=Speed)
    time_left: TimeLeft | None = None
    in_flight: int | None = None
    width: int = 0
    rpm: float = 0.0
    retried: int | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    waits_for: str = ""
    is_held_up: bool = False
    endpoints: tuple[EndpointView, ...] = ()
    errors: tuple[ErrorView, ...] = ()

    @property
    def left(self) -> int | None:
        """Records that are open, None where that is not known."""
        return max(0, self.total - self.done - self.failed) if self.total else None

    @property
    def share(self) -> float | None:
        """How much of the input is accounted for, from 0 to 1."""
        return min(1.0, (self.done + self.failed) / self.total) if self.total else None


def snapshot_of(
    s: RunStatistics,
    *,
    title: str,
    speed: Speed,
    time_left: TimeLeft | None,
    errors: Sequence[ErrorView],
    now: float,
    is_stopping: bool,
) -> Snapshot:
    """What is shown of a run whose counters are ``s``, at ``now`` of its loop."""
    pause = pause_of(s.endpoints, now)
    return Snapshot(
        title=title,
        elapsed_s=s.elapsed_s,
        done=s.succeeded + s.skipped - s.skipped_failed,
        failed=s.failed + s.skipped_failed,
        total=s.expected,
        is_exact=s.expected_is_exact,
        speed=speed,
        time_left=None if pause or is_stopping else time_left,
        in_flight=s.in_flight,
        width=s.width,
        rpm=sum(e.rpm for e in s.endpoints) if all(e.rpm for e in s.endpoints) else 0.0,
        retried=s.retries,
        prompt_tokens=s.prompt_tokens,
        completion_tokens=s.completion_tokens,
        cost=s.cost,
        waits_for=_waits_for(s, pause, is_stopping),
        is_held_up=bool(pause) or is_stopping,
        endpoints=tuple(endpoint_view(e, now) for e in s.endpoints),
        errors=tuple(errors),
    )


def endpoint_view(e: EndpointStatistics, now: float) -> EndpointView:
    """One endpoint at ``now``."""
    wait = f"for {duration(e.waits_until - now)}" if e.waits_until > now else ""
    health: Health = "up"
    if e.is_down or e.reason == "endpoint down":
        health, state = "down", f"down, probe in {duration(e.waits_until - now)}" if wait else "down, probing"
    elif wait:
        health, state = "limited", f"limited {wait}"
    elif e.reason:
        health, state = "closed", f"not asked any more: {e.reason}"
    else:
        state = "up"
    return EndpointView(
        name=host_of(e.url),
        health=health,
        state=state,
        in_flight=e.in_flight,
        width=e.width,
        requests=e.requests,
        errors=e.errors,
        latency_s=e.latency_s,
    )


def host_of(url: str) -> str:
    """Host and port, without a user's name or password that may stand before them."""
    return urlsplit(url).netloc.rpartition("@")[2] or url


def pause_of(endpoints: Sequence[EndpointStatistics], now: float) -> str:
    """Why nothing starts, where nothing does; else ""."""
    asked = [e for e in endpoints if endpoint_view(e, now).health != "closed"]
    waits = [e for e in asked if e.waits_until > now]
    if not waits or len(waits) < len(asked):
        return ""
    first = min(waits, key=lambda e: e.waits_until)
    what = f"{first.reason}, then a probe" if first.reason == "endpoint down" else first.reason
    return f"{host_of(first.url)}, {duration(first.waits_until - now)} ({what})"


def _waits_for(s: RunStatistics, pause: str, is_stopping: bool) -> str:
    if is_stopping:
        return f"{count(s.in_flight, 'request')} in flight, then it ends"
    if pause:
        return pause
    if not s.in_flight:
        return "records: nothing is on the wire, the input or its images are being read"
    if s.in_flight >= s.width:
        return f"answers, all {count(s.width, 'place')} in flight taken"
    if s.expected_is_exact and s.expected - s.seen <= s.in_flight:
        return f"the last {count(s.in_flight, 'answer')}"
    return f"answers of {count(s.in_flight, 'request')}"
