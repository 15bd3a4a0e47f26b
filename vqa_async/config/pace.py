"""How much at once, how much in all, and how long anything may take."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from vqa_async.config.values import MIB, require


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once."""

    max_workers: int | Literal["auto"] = 10
    """Requests in flight at most, over all endpoints. 'auto' finds how many each endpoint makes the best
    of."""

    start_workers: int = 8
    """With 'auto': requests in flight at first, at each endpoint."""

    most_workers: int = 2000
    """With 'auto': requests in flight at most, over all endpoints."""

    rpm: float = 0.0
    """Requests a minute at each endpoint at most. 0: what its replies tell, by their headers and 429s."""

    tpm: float = 0.0
    """Tokens a minute at each endpoint at most, prompt and completion. 0: what its replies tell."""

    max_response_bytes: int = 8 * MIB
    """Refuse replies larger than this, after decompression."""

    on_outage: Literal["wait", "stop"] = "wait"
    """When every endpoint is down: wait and probe them now and then, for up to max_outage; or stop the run,
    which the same command resumes."""

    max_outage: float = 600.0
    """Seconds for which every endpoint may be down, or refuse with 429, before the run stops (resumable)."""

    hedge: str = ""
    """Send a request again, to another endpoint if there is one, when its answer takes longer than that of
    this share of requests, such as p95; the first answer counts. Costs 2 % more requests at most. Default:
    off."""

    def __post_init__(self) -> None:
        require(
            isinstance(self.max_workers, int) or self.max_workers == "auto",
            f"max_workers must be a number or 'auto', not {self.max_workers!r}.",
        )
        for name in ("max_workers", "start_workers", "most_workers"):
            value = getattr(self, name)
            require(value == "auto" or 1 <= value <= 100_000, f"{name} must be from 1 to 100000.")
        for name in ("rpm", "tpm", "max_outage"):
            require(0 <= getattr(self, name) < 1e12, f"{name} must not be negative.")
        require(self.max_response_bytes >= 1024, "max_response_bytes must be at least 1024.")
        require(
            not self.hedge or re.fullmatch(r"p[5-9]\d(\.\d)?", self.hedge) is not None,
            f"hedge must be a percentile from p50 to p99, such as p95, not {self.hedge!r}.",
        )

    @property
    def is_adaptive(self) -> bool:
        """Whether each endpoint's width is found by trying."""
        return isinstance(self.max_workers, str)

    @property
    def width_bound(self) -> int:
        """Requests in flight at most, over all endpoints."""
        return self.max_workers if isinstance(self.max_workers, int) else self.most_workers

    def bounded(self, most: int) -> Limits:
        """The same with a lower bound."""
        return replace(self, most_workers=most) if self.is_adaptive else replace(self, max_workers=most)

    def hedge_share(self) -> float:
        """The share of requests that are not sent again, 0 where none is."""
        return float(self.hedge[1:]) / 100 if self.hedge else 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may cost. Once that is used up, it ends drained, and the same command resumes."""

    max_requests: int = 0
    """Requests that this run may send, retries included. 0: no limit."""

    max_tokens_total: int = 0
    """Tokens that this run may spend, prompts and answers together. 0: no limit."""

    max_cost: float = 0.0
    """What this run may cost, in US dollars. Prices are those below, else of the genai-prices package
    (extra 'cost'). 0: no limit."""

    price_input: float | None = None
    """Price of a million prompt tokens, in US dollars. Default: looked up by the model's name."""

    price_output: float | None = None
    """Price of a million answer tokens, in US dollars. Default: likewise."""

    deadline: float = 0.0
    """Seconds after which the run stops. 0: none."""

    def __post_init__(self) -> None:
        for name in ("max_requests", "max_tokens_total", "max_cost", "deadline"):
            require(0 <= getattr(self, name) < 1e18, f"{name} must not be negative.")
        for name in ("price_input", "price_output"):
            price = getattr(self, name)
            require(price is None or 0 <= price < 1e9, f"{name} must not be negative.")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds."""

    timeout: float = 600.0
    """Seconds for one attempt, from connecting to the last byte of the reply."""

    connect_timeout: float = 10.0
    """Seconds to open a connection, TLS included."""

    stall_timeout: float = 60.0
    """Seconds in which nothing of a request is taken, or nothing more comes of a reply that has begun, after
    which the attempt is over. Waiting for the first byte of an answer does not count."""

    stall_notice: float = 60.0
    """Seconds without any record finished after which it is said what everything waits for. 0: never."""

    drain_timeout: float = 10.0
    """Seconds that requests in flight get to finish when a run is stopped; when a budget is used up, as long
    as they need."""

    def __post_init__(self) -> None:
        require(0 <= self.stall_notice < 1e6, "stall_notice must not be negative.")
        for name in ("timeout", "connect_timeout", "stall_timeout"):
            require(0 < getattr(self, name) < 1e6, f"{name} must be a positive number of seconds.")
        require(0 <= self.drain_timeout < 1e6, "drain_timeout must not be negative.")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is tried again: full jitter, bounded in attempts and in time."""

    max_attempts: int = 8
    """Attempts per record at most, the first included."""

    max_retry_time: float = 900.0
    """Seconds after which a record is not tried again; waiting for an endpoint that is down or limited does
    not count."""

    backoff_base: float = 0.5
    """The wait before attempt n+1 is random, up to backoff_base x 2^(n-1) seconds."""

    backoff_max: float = 30.0
    """The longest wait of our own, in seconds."""

    retry_after_max: float = 120.0
    """The longest Retry-After of an error other than 429 that is honoured, in seconds; a longer one ends the
    record. A 429 is waited for up to max_outage, by all who ask that endpoint."""

    retry_share: float = 0.5
    """Retries at most for each answer; beyond that they are slowed down, so that a bad hour does not double
    the load. 0: no such bound."""

    def __post_init__(self) -> None:
        require(self.max_attempts >= 1, "max_attempts must be at least 1.")
        require(0 <= self.retry_share <= 100, "retry_share must be from 0 to 100.")
        for name in ("max_retry_time", "backoff_base", "backoff_max", "retry_after_max"):
            require(0 <= getattr(self, name) < 1e6, f"{name} must be a number of seconds, not negative.")
