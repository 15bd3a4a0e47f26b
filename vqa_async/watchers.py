"""Who watches a run from outside, as ``config.Observability`` asks for it.

Opened and closed with the run; once for all stages of a run, since a port can be taken only once.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from vqa_async.config import Config, Observability
from vqa_async.errors import ConfigError
from vqa_async.events import Instrument, Notice, Observer
from vqa_async.transport import Transport

log = logging.getLogger("vqa_async")

Observers: TypeAlias = Observer | Sequence[Observer] | None
"""What callers may give: one, several, or none."""


def all_of(observers: Observers) -> tuple[Observer, ...]:
    """Each of them."""
    if observers is None:
        return ()
    return tuple(observers) if isinstance(observers, Sequence) else (observers,)


@contextlib.asynccontextmanager
async def watched(config: Config, observers: Observers = None) -> AsyncIterator[tuple[Config, Observers]]:
    """``config`` without its wishes to be watched, and the observers who fulfil them behind ``observers``.

    Raises:
        ConfigError: the port is taken, an extra is missing, or no SDK is set up.
    """
    wishes = config.observability
    if wishes == Observability():
        yield config, observers
        return
    if wishes.logs:
        raise ConfigError(
            "log_level and log_file belong to the command line: a program sets up the logger 'vqa_async' of "
            "the standard library itself."
        )
    found = list(all_of(observers))
    async with contextlib.AsyncExitStack() as stack:
        if wishes.otel:
            found.append(_tracing())
        if wishes.metrics_port is not None:
            found.append(await _metrics(wishes, stack, all_of(observers)))
        yield replace(config, observability=Observability()), tuple(found)


def _tracing() -> Observer:
    from vqa_async.tracing import OpenTelemetryObserver, require_sdk

    require_sdk()
    return OpenTelemetryObserver()


async def _metrics(
    wishes: Observability, stack: contextlib.AsyncExitStack, told: Sequence[Observer]
) -> Observer:
    from vqa_async.metrics import PrometheusObserver, metrics_page

    assert wishes.metrics_port is not None
    observer = PrometheusObserver()
    page = metrics_page(observer.registry, port=wishes.metrics_port, host=wishes.metrics_host)
    address = await stack.enter_async_context(page)
    log.info("metrics are at %s", address)
    for one in told:
        one.on_event(Notice(f"Metrics are at {address}"))
    return observer


def instruments_of(observers: Sequence[Observer]) -> list[Instrument]:
    """Those that want more than events."""
    return [one for one in observers if isinstance(one, Instrument)]


def wrapped(transport: Transport, config: Config, observers: Sequence[Observer]) -> Transport:
    """``transport`` as the instruments among ``observers`` want it."""
    for one in instruments_of(observers):
        transport = one.wrapped(transport, config)
    return transport
