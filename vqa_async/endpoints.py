"""Several base URLs as one: which endpoint takes the next request, and when.

The pool hands out permits. A permit means "on the wire": it is taken when everything is ready to be sent
and given back as soon as the reply is in (and saved, where it is to be saved). Waiting is first come, first
served and never polls: whoever waits is woken by a permit that is given back, or by a timer set for the
moment at which a pause ends or a probe is due.

Choice: the endpoint with the smallest share of its width in use, not the one that just failed this record.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from vqa_async.chat import Body
from vqa_async.config import Limits, Timeouts
from vqa_async.errors import RateLimited, RequestError, ResponseError, ServerError, TransportError
from vqa_async.limits import Breaker, Gate
from vqa_async.transport import Request

CHECK_START_AFTER = 3
"""Failures in a row after which an endpoint that never answered is taken for wrong rather than unlucky."""


@dataclass(frozen=True, slots=True)
class EndpointStatistics:
    """One endpoint, as it stands.

    ``waits_until`` is the loop time before which nothing starts there (0: now), ``reason`` says why.
    """

    url: str
    in_flight: int
    width: int
    waits_until: float
    reason: str


@dataclass(slots=True, eq=False)
class EndpointState:
    """One endpoint: address, headers, and how it fares. ``eq=False``: there is one of each."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    gate: Gate
    breaker: Breaker
    proven: bool = False
    """Whether it ever gave a completion."""
    completions_url: str = field(init=False)

    def __post_init__(self) -> None:
        self.completions_url = f"{self.url}/chat/completions"

    def request(self, body: Body, timeouts: Timeouts, limits: Limits) -> Request:
        """The HTTP request that carries ``body`` to this endpoint."""
        return Request(
            url=self.completions_url,
            headers=self.headers,
            body=body.pieces,
            size=body.size,
            timeout_s=timeouts.timeout,
            connect_timeout_s=timeouts.connect_timeout,
            max_response_bytes=limits.max_response_bytes,
        )

    def admits(self, now: float) -> bool:
        """Whether a request may start here at ``now``."""
        return self.gate.admits(now) and self.breaker.admits(now)

    def waits_until(self) -> float:
        """The time before which nothing starts here."""
        return max(self.gate.resume_at, self.breaker.open_until if self.breaker.is_open else 0.0)

    def statistics(self, now: float) -> EndpointStatistics:
        """A snapshot."""
        until = self.waits_until()
        reason = "" if until <= now else "endpoint down" if self.breaker.is_open else "rate limit"
        return EndpointStatistics(self.url, self.gate.in_flight, int(self.gate.width), until, reason)


class EndpointPool:
    """Permits for a set of endpoints, with one bound over all of them.

    Args:
        urls: base URLs.
        headers: headers of every request, the key among them.
        limits: ``max_workers`` over all endpoints, ``max_outage``.
        clock: seconds, monotonic; by default that of the running event loop, to which the pool belongs.
    """

    def __init__(
        self,
        urls: Sequence[str],
        headers: Mapping[str, str],
        limits: Limits,
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._endpoints = [
            EndpointState(url, headers, Gate(limits.max_workers), Breaker()) for url in dict.fromkeys(urls)
        ]
        self._limits = limits
        self.loop = asyncio.get_running_loop()  # asked for once: on Python 3.11 that costs a system call
        self.now = clock or self.loop.time
        self._in_flight = 0
        self._waiters: deque[_Permit] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def __repr__(self) -> str:
        return f"<EndpointPool {self._in_flight} in flight, {len(self._waiters)} waiting>"

    @property
    def in_flight(self) -> int:
        """Permits handed out."""
        return self._in_flight

    def statistics(self) -> tuple[EndpointStatistics, ...]:
        """A snapshot of each endpoint."""
        now = self.now()
        return tuple(endpoint.statistics(now) for endpoint in self._endpoints)

    def permit(self, *, avoid: EndpointState | None = None) -> AbstractAsyncContextManager[EndpointState]:
        """A permit to have one request on the wire, as ``async with``; gives the endpoint to send it to.

        ``avoid`` is the endpoint that just failed the record: another one is taken if there is a choice.
        """
        return _Permit(self, avoid)

    # --- what came back ---------------------------------------------------------------------------------

    def succeeded(self, endpoint: EndpointState) -> None:
        """``endpoint`` gave a completion."""
        endpoint.proven = True
        endpoint.gate.succeeded()
        endpoint.breaker.succeeded()

    def failed(self, endpoint: EndpointState, error: RequestError, *, sent_at: float | None = None) -> None:
        """``endpoint`` failed a request: pause it, count it, and mark ``error`` where it ends the run.

        Args:
            endpoint: which one.
            error: how it failed.
            sent_at: the pool's time at which the request was sent; default: now.
        """
        now = self.now()
        sent_at = now if sent_at is None else sent_at
        if isinstance(error, RateLimited):
            endpoint.breaker.succeeded()
            self._rate_limited(endpoint, error, now, sent_at)
        elif isinstance(error, TransportError | ServerError):
            endpoint.breaker.failed(now, sent_at=sent_at)
            self._judge_outage(error, now)
        elif isinstance(error, ResponseError) and error.code == "html_response":
            endpoint.breaker.failed(now, sent_at=sent_at)
            error.stops_run = self._never_answered()
            self._judge_outage(error, now)
        else:
            endpoint.breaker.succeeded()  # it answers, even if not as hoped

    def _rate_limited(self, endpoint: EndpointState, error: RateLimited, now: float, sent_at: float) -> None:
        wait_s = error.retry_after_s
        endpoint.gate.rate_limited(now, wait_s, sent_at=sent_at)
        if any(e.waits_until() <= now for e in self._endpoints):
            error.retry_after_s = None  # another endpoint can take the record now
        elif wait_s is not None and all(
            e.gate.resume_at - now > self._limits.max_outage for e in self._endpoints
        ):
            error.stops_run = True
            _add(error, f"It asks to wait {wait_s:,.0f} s: run the same command again after that.")

    def _judge_outage(self, error: RequestError, now: float) -> None:
        if isinstance(error, TransportError) and error.code in ("connect", "dns") and self._never_answered():
            error.stops_run = True
            return
        downs = [e.breaker.down_since for e in self._endpoints]
        if all(down is not None and now - down >= self._limits.max_outage for down in downs):
            error.stops_run = True
            _add(
                error,
                f"No endpoint has answered for {self._limits.max_outage:,.0f} s: "
                "run the same command again when one does.",
            )

    def _never_answered(self) -> bool:
        """Whether nothing has answered since the start, and not by bad luck."""
        return not any(e.proven for e in self._endpoints) and all(
            e.breaker.failures >= CHECK_START_AFTER for e in self._endpoints
        )

    # --- permits ----------------------------------------------------------------------------------------

    def _take(self, permit: _Permit) -> EndpointState | None:
        """An endpoint at once, if nobody is before us; else a place in the line, and None."""
        if not self._waiters and (endpoint := self._choose(permit.avoid)) is not None:
            return self._enter(permit, endpoint)
        permit.turn = self.loop.create_future()
        self._waiters.append(permit)
        self._wake()
        return None

    def _enter(self, permit: _Permit, endpoint: EndpointState) -> EndpointState:
        self._in_flight += 1
        endpoint.gate.in_flight += 1
        permit.endpoint = endpoint
        permit.is_probe = endpoint.breaker.entered()
        return endpoint

    def _release(self, permit: _Permit) -> None:
        endpoint, permit.endpoint = permit.endpoint, None
        assert endpoint is not None
        self._in_flight -= 1
        endpoint.gate.in_flight -= 1
        if permit.is_probe:
            endpoint.breaker.probe_ended()
        self._wake()

    def _wake(self) -> None:
        """Hand out what is free to those who wait, in their order."""
        # With all permits out nothing needs a timer: whoever gives one back comes here.
        while self._waiters and self._in_flight < self._limits.max_workers:
            permit = self._waiters[0]
            assert permit.turn is not None
            if not permit.turn.done():  # else it was cancelled while it waited
                endpoint = self._choose(permit.avoid)
                if endpoint is None:
                    self._set_timer()
                    return
                permit.turn.set_result(self._enter(permit, endpoint))
            self._waiters.popleft()

    def _choose(self, avoid: EndpointState | None) -> EndpointState | None:
        if self._in_flight >= self._limits.max_workers:
            return None
        now = self.now()
        if len(self._endpoints) == 1:
            return self._endpoints[0] if self._endpoints[0].admits(now) else None
        free = [endpoint for endpoint in self._endpoints if endpoint.admits(now)]
        return min(free, key=lambda e: (e is avoid, e.gate.in_flight / e.gate.width), default=None)

    def _set_timer(self) -> None:
        """Wake up at the next moment that changes something by itself: the end of a pause."""
        now = self.now()
        next_end = min((end for e in self._endpoints if (end := e.waits_until()) > now), default=None)
        if self._timer is not None and next_end == self._timer_at:
            return
        self.close()
        if next_end is not None:
            self._timer_at = next_end
            self._timer = self.loop.call_later(next_end - now, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._wake()

    def close(self) -> None:
        """Drop the timer, so that nothing of the pool outlives its owner."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _add(error: RequestError, sentence: str) -> None:
    error.message = f"{error.message.rstrip('. ')}. {sentence}"


class _Permit:
    """One permit, as an async context manager; while it waits, its place in the line."""

    __slots__ = ("_pool", "avoid", "endpoint", "is_probe", "turn")

    def __init__(self, pool: EndpointPool, avoid: EndpointState | None) -> None:
        self._pool = pool
        self.avoid = avoid
        self.endpoint: EndpointState | None = None
        self.is_probe = False
        self.turn: asyncio.Future[EndpointState] | None = None

    async def __aenter__(self) -> EndpointState:
        endpoint = self._pool._take(self)
        if endpoint is not None:
            return endpoint
        assert self.turn is not None
        try:
            return await self.turn
        except asyncio.CancelledError:
            if self.endpoint is not None:  # it was handed over and cancelled in one go
                self._pool._release(self)
            raise

    async def __aexit__(self, *exc: object) -> None:
        self._pool._release(self)
