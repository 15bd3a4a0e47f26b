"""Several base URLs as one: which endpoint takes the next request, and when.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from vqa_async.chat import Body, opening_of
from vqa_async.config import Limits, NamedEndpoint, Timeouts
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
from vqa_async.limits import AdaptiveWidth, Breaker, Gate, Rates, RetryBudget, Standing, Unit
from vqa_async.transport import Request

IDEMPOTENCY_KEY = "Idempotency-Key"
"""Header of draft-ietf-httpapi-idempotency-key-header; a user's own of this name wins."""

CHECK_START_AFTER = 3
"""Failures in a row after which an endpoint that never answered is taken for wrong rather than unlucky."""

_HOPELESS = (AuthError, QuotaExceeded, ModelNotFound, EndpointNotFound)
"""Errors that say of an endpoint that no request to it can succeed until somebody changes something."""

_NEWEST = 0.1
"""Weight of the newest latency in the usual one."""

_QUALITY = 4
"""An endpoint that answers half of what it is asked gets a sixteenth of the load: every failure costs its
record a wait, and somebody else the request."""

_AFFINITY = 1.25
"""How much more loaded than the best the endpoint may be that has seen an image before."""

_DOWN_FOR_ALL_S = 20.0
_LIMITED_FOR_ALL_S = 60.0
"""Seconds of nothing but failures, and of nothing but 429s, after which attempts are no longer counted."""

_LISTEN_FIRST = 8
_LISTEN_EVERY = 32
"""Replies whose headers are read to see whether the endpoint tells rates."""

_RETRIES_AT_ONCE = 0.5
_RETRIES_PER_S = 1.0
"""Retries that may be saved up, and those that are allowed each second whatever happens, for each of the
width."""


@dataclass(frozen=True, slots=True)
class EndpointStatistics:
    """One endpoint, as it stands.

    Attributes:
        url: its base URL.
        in_flight: requests on the wire.
        width: requests on the wire at most, now.
        waits_until: loop time before which nothing starts there (0: now).
        reason: why it waits, or why it is not asked any more; "" where neither.
        rpm: requests a minute that it is asked at most; 0 where nothing limits them.
        latency_s: how long an answer usually takes.
        quality: share of the latest requests that it answered.
    """

    url: str
    in_flight: int
    width: int
    waits_until: float
    reason: str
    rpm: float = 0.0
    latency_s: float = 0.0
    quality: float = 1.0


@dataclass(slots=True, eq=False)
class EndpointState:
    """One endpoint: address, headers, and how it fares. ``eq=False``: there is one of each.

    Attributes:
        url: base URL.
        model: its name for the model.
        headers: of every request, the key among them.
        gate, breaker: what may be sent, and whether it is worth it.
        weight: share of the work beside the others.
        key_hint: a sentence on where its key came from, added where it is refused.
        proven: whether it ever gave a completion.
        closed: why it is not asked any more, "" while it is.
        latency_s: how long an answer usually takes, 0 before the first.
    """

    url: str
    model: str
    headers: Mapping[str, str] = field(repr=False)
    gate: Gate
    breaker: Breaker
    weight: float = 1.0
    key_hint: str = ""
    proven: bool = False
    closed: str = ""
    latency_s: float = 0.0
    _first_refused: str = ""
    _refuses_others: bool = False
    _replies: int = 0
    _tells_rates: bool = False
    completions_url: str = field(init=False)
    _opening: bytes = field(init=False, repr=False)
    _has_key: bool = field(init=False)

    def __post_init__(self) -> None:
        self._has_key = any(name.lower() == IDEMPOTENCY_KEY.lower() for name in self.headers)
        self.completions_url = f"{self.url}/chat/completions"
        self._opening = opening_of(self.model)

    def request(self, body: Body, timeouts: Timeouts, limits: Limits, *, once: str = "") -> Request:
        """The HTTP request that carries ``body`` to this endpoint, under its name for the model.

        Args:
            body: what is asked.
            timeouts, limits: the bounds.
            once: the same for all attempts at one record, by which a gateway can tell that they are one.
        """
        pieces, size = body.for_model(self._opening)
        return Request(
            url=self.completions_url,
            headers={IDEMPOTENCY_KEY: once, **self.headers} if once and not self._has_key else self.headers,
            body=pieces,
            size=size,
            timeout_s=timeouts.timeout,
            connect_timeout_s=timeouts.connect_timeout,
            stall_timeout_s=timeouts.stall_timeout,
            max_response_bytes=limits.max_response_bytes,
        )

    def is_refusing(self, now: float) -> bool:
        """Whether it has refused everybody for a while: one more refusal says nothing of its record."""
        down, limited = self.breaker.down_since, self.gate.limited_since
        return (down is not None and now - down > _DOWN_FOR_ALL_S) or (
            limited is not None and now - limited > _LIMITED_FOR_ALL_S
        )

    def refuses_others(self, id: str) -> bool:
        """Told of each 429 before the pool is: whether others than the record ``id`` have met one too,
        without an answer in between. Then it is no record's fault."""
        if self.gate.limited_since is None:
            self._first_refused, self._refuses_others = id, False
        self._refuses_others = self._refuses_others or id != self._first_refused
        return self._refuses_others

    def is_listened_to(self) -> bool:
        """Whether the headers of the next reply are worth reading: those of an endpoint that never says
        anything about rates are looked at only now and then."""
        self._replies += 1
        return self._tells_rates or self._replies <= _LISTEN_FIRST or self._replies % _LISTEN_EVERY == 0

    def heard(self, now: float, standings: Mapping[Unit, Standing]) -> None:
        """The headers of a reply say where we stand with the limits here."""
        self._tells_rates = True
        self.gate.rates.heard(now, standings)

    def admits(self, now: float, tokens: float = 0.0) -> bool:
        """Whether a request of about ``tokens`` tokens may start here at ``now``."""
        return not self.closed and self.gate.admits(now, tokens) and self.breaker.admits(now)

    def waits_until(self, now: float = 0.0, tokens: float = 0.0) -> float:
        """The time before which nothing starts here."""
        opens_at = self.gate.opens_at(now, tokens)
        return max(opens_at, self.breaker.open_until) if self.breaker.is_open else opens_at

    def load(self, default_s: float) -> float:
        """How much there is to do here, in seconds of work; ``default_s`` for a latency that is not known."""
        work = (self.gate.in_flight + 1) * (self.latency_s or default_s)
        return work / (self.weight * max(self.breaker.quality, 0.05) ** _QUALITY)

    def statistics(self, now: float) -> EndpointStatistics:
        """A snapshot."""
        pause = max(self.gate.resume_at, self.breaker.open_until if self.breaker.is_open else 0.0)
        reason = "" if pause <= now else "endpoint down" if self.breaker.is_open else "rate limit"
        return EndpointStatistics(
            url=self.url,
            in_flight=self.gate.in_flight,
            width=int(self.gate.width),
            waits_until=pause,
            reason=self.closed or reason,
            rpm=self.gate.rates.per_minute(),
            latency_s=self.latency_s,
            quality=self.breaker.quality,
        )


def endpoint_state(
    options: NamedEndpoint, headers: Mapping[str, str], limits: Limits, *, key_hint: str = ""
) -> EndpointState:
    """An endpoint that has not been asked yet."""
    most = min(options.max_workers or limits.width_bound, limits.width_bound)
    adaptive = AdaptiveWidth(start=limits.start_workers, limit=most) if limits.is_adaptive else None
    return EndpointState(
        url=options.base_url,
        model=options.model,
        headers=headers,
        gate=Gate(most, adaptive=adaptive, rates=Rates(rpm=options.rpm, tpm=options.tpm)),
        breaker=Breaker(),
        weight=options.weight,
        key_hint=key_hint,
    )


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
        self._limits = limits
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
        if isinstance(error, RateLimited):
            endpoint.breaker.answered()
            self._rate_limited(endpoint, error, now, sent_at)
            return
        endpoint.gate.failed(now, sent_at=sent_at, timed_out=error.code == "timeout")
        if isinstance(error, TransportError | ServerError):
            refused = isinstance(error, TransportError) and error.code in ("connect", "dns")
            endpoint.breaker.failed(now, sent_at=sent_at, refused=refused)
            error.stops_run = error.stops_run or (refused and self._never_answered())
            self._judge_outage(error, now)
        elif isinstance(error, ResponseError) and error.code == "html_response":
            endpoint.breaker.failed(now, sent_at=sent_at)
            error.stops_run = self._never_answered()
            self._judge_outage(error, now)
        else:
            endpoint.breaker.answered()  # it answers, even if not as hoped
        if isinstance(error, _HOPELESS) or (error.stops_run and error.code == "tls"):
            self._close(endpoint, error, now)

    def _close(self, endpoint: EndpointState, error: RequestError, now: float) -> None:
        """Ask ``endpoint`` no more, where others are left that may answer; else ``error`` ends the run."""
        others = [e for e in self.endpoints if e is not endpoint and not e.closed]
        if all(self._is_out(e, now) for e in others):
            return
        error.stops_run = False
        error.retryable = True
        if not endpoint.closed:
            endpoint.closed = error.code
            self._on_closed(f"{endpoint.url} is not asked any more: {error.message}")

    def _rate_limited(self, endpoint: EndpointState, error: RateLimited, now: float, sent_at: float) -> None:
        wait_s = error.retry_after_s
        endpoint.gate.rate_limited(now, wait_s, sent_at=sent_at)
        error.retry_after_s = None  # it is the gate that waits, for all
        if not self._is_outage(now):
            return
        error.stops_run = True
        longest = self._limits.max_outage
        asked = [e for e in self.endpoints if not e.closed]
        if wait_s is not None and all(e.gate.resume_at - now > longest for e in asked):
            _add(error, f"It asks to wait {wait_s:,.0f} s: run the same command again after that.")
        elif all(e.gate.limited_since is not None for e in asked):
            _add(
                error, f"It has answered nothing else for {longest:,.0f} s: run the same command again later."
            )
        else:
            _add(error, self._outage())

    def _judge_outage(self, error: RequestError, now: float) -> None:
        if not error.stops_run and self._is_outage(now):
            error.stops_run = True
            _add(error, self._outage())

    def _is_outage(self, now: float) -> bool:
        """Whether none that is asked has answered for as long as is to be borne, or will."""
        return all(self._is_out(e, now) for e in self.endpoints if not e.closed)

    def _is_out(self, endpoint: EndpointState, now: float) -> bool:
        longest = self._limits.max_outage
        down, limited = endpoint.breaker.down_since, endpoint.gate.limited_since
        if down is not None and now - down >= (longest if self._limits.on_outage == "wait" else 0.0):
            return True
        is_refusing = limited is not None and now - limited > longest
        return is_refusing or endpoint.gate.resume_at - now > longest

    def _outage(self) -> str:
        if self._limits.on_outage == "stop":
            said = ", and the run is not to wait for one (--on-outage stop)"
        else:
            said = f" for {self._limits.max_outage:,.0f} s"
        return f"No endpoint has answered{said}: run the same command again when one does."

    def _never_answered(self) -> bool:
        """Whether nothing has answered since the start, and not by bad luck."""
        return not any(e.proven for e in self.endpoints) and all(
            e.breaker.failures >= CHECK_START_AFTER for e in self.endpoints if not e.closed
        )

    # --- permits ----------------------------------------------------------------------------------------

    def _take(self, permit: Permit) -> EndpointState | None:
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
        endpoint.gate.entered(now, permit.tokens)
        permit.endpoint = endpoint
        permit.entered_at = now
        permit.is_probe = endpoint.breaker.entered()
        return endpoint

    def _release(self, permit: Permit) -> None:
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


def _add(error: RequestError, sentence: str) -> None:
    error.message = f"{error.message.rstrip('. ')}. {sentence}"


class Permit:
    """One permit, as an async context manager; while it waits, its place in the line.

    Attributes:
        entered_at: the pool's time at which it was given: that of sending.
    """

    __slots__ = ("_pool", "avoid", "endpoint", "entered_at", "is_probe", "key", "tokens", "turn")

    def __init__(self, pool: EndpointPool, avoid: EndpointState | None, tokens: float, key: str) -> None:
        self._pool = pool
        self.avoid = avoid
        self.tokens = tokens
        self.key = key
        self.endpoint: EndpointState | None = None
        self.entered_at = 0.0
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
