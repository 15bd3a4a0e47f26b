"""What each of several workers may do, so that together they keep to the limits of the run. Pure."""

from __future__ import annotations

from dataclasses import replace

from vqa_async.config import Budget, Config, Limits, NamedEndpoint
from vqa_async.errors import ConfigError

_REQUESTS_A_SHARE = 50
"""Of a budget of requests: fewer are not worth a worker of their own, for shares are not passed on."""


def sharers(config: Config, wanted: int) -> int:
    """How many workers there may be: each can have at least one request in flight."""
    budget = config.budget.max_requests
    most = [config.limits.width_bound, *(one.max_workers for one in config.endpoints if one.max_workers)]
    if budget:
        most.append(budget // _REQUESTS_A_SHARE)
    return max(1, min(wanted, *most))


def share_of(config: Config, number: int, workers: int) -> Config:
    """``config`` for worker ``number`` of so many; the shares of all together are the whole.

    The deadline is left to who can stop all of them.
    """
    return replace(
        config,
        limits=_limits(config.limits, number, workers),
        budget=_budget(config.budget, number, workers),
        endpoints=tuple(_endpoint(one, number, workers) for one in config.endpoints),
    )


def _limits(limits: Limits, number: int, workers: int) -> Limits:
    in_flight = limits.max_workers
    return replace(
        limits,
        max_workers=in_flight if isinstance(in_flight, str) else _part(in_flight, number, workers),
        start_workers=_part(limits.start_workers, number, workers),
        most_workers=_part(limits.most_workers, number, workers),
        rpm=limits.rpm / workers,
        tpm=limits.tpm / workers,
    )


def _budget(budget: Budget, number: int, workers: int) -> Budget:
    return replace(
        budget,
        max_requests=_part(budget.max_requests, number, workers) if budget.max_requests else 0,
        max_tokens_total=_part(budget.max_tokens_total, number, workers) if budget.max_tokens_total else 0,
        max_cost=budget.max_cost / workers,
        deadline=0.0,
    )


def _endpoint(one: NamedEndpoint, number: int, workers: int) -> NamedEndpoint:
    return replace(
        one,
        max_workers=_part(one.max_workers, number, workers) if one.max_workers else 0,
        rpm=one.rpm / workers,
        tpm=one.tpm / workers,
    )


def _part(whole: int, number: int, workers: int) -> int:
    """A fair part of ``whole``, one at least."""
    return max(1, whole // workers + (number < whole % workers))


def has_budget(config: Config) -> bool:
    """Whether what the run may spend is bounded."""
    b = config.budget
    return bool(b.max_requests or b.max_tokens_total or b.max_cost)


def require_possible(config: Config) -> None:
    """Refuse what cannot be divided.

    Raises:
        ConfigError: an option has no meaning over many processes.
    """
    for given, flag, instead in (
        (config.quality.accept, "--accept", "run it in one process"),
        (config.observability.metrics_port is not None, "--metrics-port", "look at what Ray serves"),
        (config.observability.otel, "--otel", "trace the run of one process"),
        (config.verification.verify, "--verify", "run 'vqa-async verify OUT.jsonl' afterwards"),
    ):
        if given:
            raise ConfigError(f"{flag} does not go with --engine ray: {instead}.")
