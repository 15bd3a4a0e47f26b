"""One endpoint: address, headers, and how it fares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vqa_async.chat import Body, opening_of
from vqa_async.config import Limits, NamedEndpoint, Timeouts
from vqa_async.limits import AdaptiveWidth, Breaker, Gate, Rates, Standing, Unit
from vqa_async.transport import Request

IDEMPOTENCY_KEY = "Idempotency-Key"
"""Header of draft-ietf-httpapi-idempotency-key-header; a user's own of this name wins."""

_QUALITY = 4
"""An endpoint that answers half of what it is asked gets a sixteenth of the load: every failure costs its
record a wait, and somebody else the request."""

_DOWN_FOR_ALL_S = 20.0
_LIMITED_FOR_ALL_S = 60.0
"""Seconds of nothing but failures, and of nothing but 429s, after which attempts are no longer counted."""

_LISTEN_FIRST = 8
_LISTEN_EVERY = 32
"""Replies whose headers are read to see whether the endpoint tells rates."""


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
        requests: sent to it so far.
        errors: those of them that failed for its sake, or were refused by it.
        is_down: whether it counts as down; then single requests probe it now and then.
    """

    url: str
    in_flight: int
    width: int
    waits_until: float
    reason: str
    rpm: float = 0.0
    latency_s: float = 0.0
    quality: float = 1.0
    requests: int = 0
    errors: int = 0
    is_down: bool = False


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
        requests, errors: sent to it so far, and how many of them failed.
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
    requests: int = 0
    errors: int = 0
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
            requests=self.requests,
            errors=self.errors,
            is_down=self.breaker.is_open,
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
