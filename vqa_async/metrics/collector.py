"""What is asked of open engines whenever the metrics are read, instead of being noted with each record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vqa_async.events import Watched

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class EngineCollector:
    """A collector of prometheus_client over the engines that are open."""

    def __init__(self) -> None:
        self._engines: list[Watched] = []
        self._spent = 0.0  # by engines that are closed
        self._has_prices = False
        self._encoded = self._hits = 0

    @contextmanager
    def asking(self, engine: Watched) -> Iterator[None]:
        """Ask ``engine`` until the block is left; what it has counted by then stays counted."""
        self._engines.append(engine)
        try:
            yield
        finally:
            self._engines.remove(engine)
            self._spent, self._has_prices = _spent((engine,), self._spent, self._has_prices)
            self._encoded += engine.image_statistics().encodes
            self._hits += engine.image_statistics().cache_hits

    def describe(self) -> Iterator[Metric]:
        """The names alone: asked for when it is registered."""
        yield from self.collect()

    def collect(self) -> Iterator[Metric]:
        """How the engines stand; may be called from any thread."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        engines = tuple(self._engines)
        yield from _of_endpoints(engines)
        waiting = GaugeMetricFamily(
            "vqa_waiting_records", "Records under way, by what they wait for.", labels=["reason"]
        )
        for reason, records in _waits(engines).items():
            waiting.add_metric([reason], records)
        yield waiting
        spent, has_prices = _spent(engines, self._spent, self._has_prices)
        cost = CounterMetricFamily("vqa_cost_dollars", "US dollars spent, where prices are known.", labels=())
        if has_prices:
            cost.add_metric([], spent)
        yield cost
        images = [engine.image_statistics() for engine in engines]
        encodes = self._encoded + sum(one.encodes for one in images)
        hits = self._hits + sum(one.cache_hits for one in images)
        held = sum(one.bytes_in_use for one in images)
        cached = sum(one.cached_bytes for one in images)
        yield CounterMetricFamily("vqa_images_encoded", "Images prepared for sending.", value=encodes)
        yield CounterMetricFamily("vqa_image_cache_hits", "Images that were prepared already.", value=hits)
        yield GaugeMetricFamily("vqa_image_bytes", "Bytes of images of records under way.", value=held)
        yield GaugeMetricFamily("vqa_image_cache_bytes", "Bytes of images kept for others.", value=cached)


def _of_endpoints(engines: tuple[Watched, ...]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    flying: dict[str, int] = {}
    widths: dict[str, int] = {}
    paused: dict[str, int] = {}
    for engine in engines:
        for one in engine.statistics().endpoints:
            where = urlsplit(one.url).netloc
            flying[where] = flying.get(where, 0) + one.in_flight
            widths[where] = widths.get(where, 0) + one.width
            paused[where] = max(paused.get(where, 0), int(bool(one.reason)))
    shown: list[tuple[str, str, dict[str, Any]]] = [
        ("vqa_requests_in_flight", "Requests on the wire.", flying),
        ("vqa_requests_width", "Requests on the wire at most, now.", widths),
        ("vqa_endpoint_paused", "1 where nothing starts: rate limit, outage, or refused for good.", paused),
    ]
    for name, text, values in shown:
        gauge = GaugeMetricFamily(name, text, labels=["endpoint"])
        for where, value in values.items():
            gauge.add_metric([where], value)
        yield gauge


def _waits(engines: tuple[Watched, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for engine in engines:
        for wait in engine.waits():
            found[wait.what] = found.get(wait.what, 0) + wait.records
    return found


def _spent(engines: tuple[Watched, ...], spent: float, has_prices: bool) -> tuple[float, bool]:
    costs = [cost for engine in engines if (cost := engine.statistics().cost) is not None]
    return spent + sum(costs), has_prices or bool(costs)
