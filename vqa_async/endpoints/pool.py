"""Which endpoint takes the next request, and when.

The pool hands out permits. A permit means "on the wire": it is taken when everything is ready to be sent
and given back as soon as the reply is in (and saved, where it is to be saved). Waiting is first come, first
served and never polls: whoever waits is woken by a permit that is given back, or by a timer set for the
moment at which a pause ends, a rate allows more, or a probe is due.

Choice: the endpoint with the least load, which is its requests in flight times their usual latency (the "peak
EWMA" of Finagle's load balancer), held against its weight and against the share of requests that it answers;
not the one that just failed this record; and where it costs nothing, the one that has seen the image before,
whose caches may still hold it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import blake2b

from vqa_async.config import Limits
from vqa_async.endpoints.outage import OutageRule
from vqa_async.endpoints.permit import Permit
from vqa_async.endpoints.state import EndpointState, EndpointStatistics
from vqa_async.errors import (
    AuthError,
    EndpointNotFound,
    ModelNotFound,
    QuotaExceeded,
    RateLimited,
    RequestError,
    ResponseError,
    ServerError,
    TransportError,
)
from vqa_async.limits import RetryBudget

_HOPELESS = (AuthError, QuotaExceeded, ModelNotFound, EndpointNotFound)
"""Errors that say of an endpoint that no request to it can succeed until somebody changes something."""

_NEWEST = 0.1
"""Weight of the newest latency in the usual one."""

_AFFINITY = 1.25
"""How much more loaded than the best the endpoint may be that has seen an image before."""

_RETRIES_AT_ONCE = 0.5
_RETRIES_PER_S = 1.0
"""Retries that may be saved up, and those that are allowed each second whatever happens, for each of the
width."""


class EndpointPool:
    """Permits for a set of endpoints, with one bound over all of them.

    Args:
        endpoints: what is asked.
        limits: ``max_workers`` over all endpoints, what to do in an outage.
        retry_share: retries for each answer, see RetryBudget.
        clock: seconds, monotonic; by default that of the running event loop, to which the pool belongs.
        on_closed: told in a sentence when an endpoint is not asked any more, because others are left.
    """

    def __init__(
        self,
        endpoints: Sequence[EndpointState],
        limits: Limits,
        *,
        retry_share: float = 0.0,
        clock: Callable[[], float] | None = None,
        on_closed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._outage = OutageRule(self.endpoints, limits)
        self._bound = limits.width_bound
        self._on_closed = on_closed
        self.loop = asyncio.get_running_loop()  # asked for once: on Python 3.11 that costs a system call
        self.now = clock or self.loop.time
        self._retries = RetryBudget(
            retry_share,
            at_once=max(10.0, self._bound * _RETRIES_AT_ONCE),
            per_s=max(1.0, self._bound * _RETRIES_PER_S),
            now=self.now(),
        )
        self._in_flight = 0
        self._waiters: deque[Permit] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def __repr__(self) -> str:
        return f"<EndpointPool {self._in_flight} in flight, {len(self._waiters)} waiting>"

    @property
    def in_flight(self) -> int:
        """Permits handed out."""
        return self._in_flight

    @property
    def width(self) -> int:
        """Requests in flight at most, now, over all endpoints."""
        return max(1, min(self._bound, sum(int(e.gate.width) for e in self.endpoints if not e.closed)))

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited somewhere, so that permits must be asked for with an estimate."""
        return True in [endpoint.gate.rates.counts_tokens for endpoint in self.endpoints]

    def statistics(self) -> tuple[EndpointStatistics, ...]:
        """A snapshot of each endpoint."""
        now = self.now()
        return tuple(endpoint.statistics(now) for endpoint in self.endpoints)

    def permit(self, *, avoid: EndpointState | None = None, tokens: float = 0.0, key: str = "") -> Permit:
        """A permit to have one request on the wire, as ``async with``; gives the endpoint to send it to.

        Args:
            avoid: the endpoint that just failed the record: another one is taken if there is a choice.
            tokens: what the request will take, about; only matters where tokens are limited.
            key: what requests have in common that better go to the same endpoint, such as an image.
        """
        return Permit(self, avoid, tokens, key)

    def spare_permit(self, *, avoid: EndpointState, tokens: float) -> Permit | None:
        """A permit that is to be had at once, without anybody having to wait for it; else None."""
        now = self.now()
        if self._waiters or self._choose(avoid, tokens, "", now) is None:
            return None
        return Permit(self, avoid, tokens, "")

    def retry_delay_s(self) -> float:
        """Count a retry; seconds for which it must wait, so that retries do not double the load."""
        now = self.now()
        delay_s = self._retries.ready_at(now) - now
        self._retries.spent(now)
        return delay_s

    # --- what came back ---------------------------------------------------------------------------------

    def succeeded(self, endpoint: EndpointState, *, sent_at: float | None = None) -> None:
        """``endpoint`` gave a completion for what was sent at ``sent_at`` of the pool's time."""
        now = self.now()
        endpoint.proven = True
        endpoint.breaker.succeeded()
        if sent_at is None:
            sent_at = now
        else:
            latency_s = now - sent_at
            known_s = endpoint.latency_s
            endpoint.latency_s = known_s + _NEWEST * (latency_s - known_s) if known_s else latency_s
        endpoint.gate.succeeded(now, sent_at=sent_at)
        self._retries.succeeded(now)

    def abandoned(self, endpoint: EndpointState, *, sent_at: float) -> None:
        """What was sent at ``sent_at`` was cancelled."""
        endpoint.gate.failed(self.now(), sent_at=sent_at)

    def answered(self, endpoint: EndpointState, *, sent_at: float) -> None:
        """``endpoint`` refused what was sent at ``sent_at`` for its form: it is there."""
        endpoint.breaker.answered()
        endpoint.gate.failed(self.now(), sent_at=sent_at)

    def settled(self, endpoint: EndpointState, tokens: float) -> None:
        """A request took ``tokens`` more than it was estimated at (fewer: a negative number)."""
        if endpoint.gate.rates.counts_tokens:
            endpoint.gate.rates.settled(self.now(), tokens)

    def failed(self, endpoint: EndpointState, error: RequestError, *, sent_at: float | None = None) -> None:
        """``endpoint`` failed a request: pause it, count it, and mark ``error`` where it ends the run.

        Args:
            endpoint: which one.
            error: how it failed.
            sent_at: the pool's time at which the request was sent; default: now.
        """
        now = self.now()
        sent_at = now if sent_at is None else sent_at
        endpoint.errors += 1
        if isinstance(error, RateLimited):
            endpoint.breaker.answered()
            self._outage.rate_limited(endpoint, error, now, sent_at)
            return
        endpoint.gate.failed(now, sent_at=sent_at, timed_out=error.code == "timeout")
        if isinstance(error, TransportError | ServerError):
            refused = isinstance(error, TransportError) and error.code in ("connect", "dns")
            endpoint.breaker.failed(now, sent_at=sent_at, refused=refused)
            error.stops_run = error.stops_run or (refused and self._outage.never_answered())
            self._outage.judge(error, now)
        elif isinstance(error, ResponseError) and error.code == "html_response":
            endpoint.breaker.failed(now, sent_at=sent_at)
            error.stops_run = self._outage.never_answered()
            self._outage.judge(error, now)
        else:
            endpoint.breaker.answered()  # it answers, even if not as hoped
        if isinstance(error, _HOPELESS) or (error.stops_run and error.code == "tls"):
            self._close(endpoint, error, now)

    def _close(self, endpoint: EndpointState, error: RequestError, now: float) -> None:
        """Ask ``endpoint`` no more, where others are left that may answer; else ``error`` ends the run."""
        others = [e for e in self.endpoints if e is not endpoint and not e.closed]
        if all(self._outage.is_out(e, now) for e in others):
            return
        error.stops_run = False
        error.retryable = True
        if not endpoint.closed:
            endpoint.closed = error.code
            self._on_closed(f"{endpoint.url} is not asked any more: {error.message}")

    # --- permits ----------------------------------------------------------------------------------------

    def take(self, permit: Permit) -> EndpointState | None:
        """An endpoint at once, if nobody is before us; else a place in the line, and None."""
        if not self._waiters:
            now = self.now()
            endpoint = self._choose(permit.avoid, permit.tokens, permit.key, now)
            if endpoint is not None:
                return self._enter(permit, endpoint, now)
        permit.turn = self.loop.create_future()
        self._waiters.append(permit)
        self._wake()
        return None

    def _enter(self, permit: Permit, endpoint: EndpointState, now: float) -> EndpointState:
        self._in_flight += 1
        endpoint.requests += 1
        endpoint.gate.entered(now, permit.tokens)
        permit.endpoint = endpoint
        permit.entered_at = now
        permit.is_probe = endpoint.breaker.entered()
        return endpoint

    def release(self, permit: Permit) -> None:
        endpoint, permit.endpoint = permit.endpoint, None
        assert endpoint is not None
        self._in_flight -= 1
        endpoint.gate.left()
        if permit.is_probe:
            endpoint.breaker.probe_ended()
        self._wake()

    def _wake(self) -> None:
        """Hand out what is free to those who wait, in their order."""
        # With all permits out nothing needs a timer: whoever gives one back comes here.
        while self._waiters and self._in_flight < self._bound:
            permit = self._waiters[0]
            assert permit.turn is not None
            if not permit.turn.done():  # else it was cancelled while it waited
                now = self.now()
                endpoint = self._choose(permit.avoid, permit.tokens, permit.key, now)
                if endpoint is None:
                    self._set_timer(now, permit.tokens)
                    return
                permit.turn.set_result(self._enter(permit, endpoint, now))
            self._waiters.popleft()

    def _choose(
        self, avoid: EndpointState | None, tokens: float, key: str, now: float
    ) -> EndpointState | None:
        if self._in_flight >= self._bound:
            return None
        if len(self.endpoints) == 1:
            return self.endpoints[0] if self.endpoints[0].admits(now, tokens) else None
        free = [endpoint for endpoint in self.endpoints if endpoint.admits(now, tokens)]
        if len(free) < 2:
            return free[0] if free else None
        default_s = min((e.latency_s for e in self.endpoints if e.latency_s), default=1.0)
        loads = {id(e): e.load(default_s) for e in free}
        best = min(free, key=lambda e: (e is avoid, loads[id(e)]))
        if key:
            home = max(free, key=lambda e: _rank(key, e.url))
            if home is not avoid and loads[id(home)] <= _AFFINITY * loads[id(best)]:
                return home
        return best

    def _set_timer(self, now: float, tokens: float) -> None:
        """Wake up at the next moment that changes something by itself: the end of a pause."""
        ends = (e.waits_until(now, tokens) for e in self.endpoints if not e.closed)
        next_end = min((end for end in ends if end > now), default=None)
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


def _rank(key: str, url: str) -> bytes:
    """Rendezvous hashing (Thaler and Ravishankar, 1998): each key has its order of the endpoints."""
    return blake2b(f"{key}\n{url}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
