"""What is counted, and under which names. Labels are bounded: endpoint, model, outcome, kind of error.

Never a record's id, a path or a text of somebody else: each value of a label is a series of its own for ever.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vqa_async.config import Config
from vqa_async.errors import ConfigError, TransportError, VQAError
from vqa_async.events import Event, RecordFinished, RunStarted, Watched
from vqa_async.journal.kinds import CODES
from vqa_async.metrics.collector import EngineCollector
from vqa_async.models import AttemptFailed, Failure, Success
from vqa_async.transport import Request, Response, Transport

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

LATENCY_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
"""From an endpoint on the same machine to the longest that the default timeout lets pass."""


class PrometheusObserver:
    """Observer that keeps metrics in a registry; for one engine after the other, or several at once.

    Args:
        registry: where they are registered; default: one of its own, ``observer.registry``.

    Raises:
        ConfigError: prometheus_client is not installed.
        ValueError: the registry has these metrics already: use one observer for all engines.

    Example:
        >>> observer = PrometheusObserver()
        >>> async with open_engine(base_url="http://localhost:8000/v1", model="m", observer=observer):
        ...     text = prometheus_client.generate_latest(observer.registry)
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        try:
            from prometheus_client import CollectorRegistry
        except ImportError:
            raise ConfigError("Metrics need prometheus_client: pip install 'vqa-async[metrics]'.") from None
        self.registry = registry if registry is not None else CollectorRegistry()
        self._counters = _counters(self.registry)
        self._engines = EngineCollector()
        self.registry.register(self._engines)

    def on_event(self, event: Event) -> None:
        """Count ``event``."""
        match event:
            case RecordFinished(result=Success() as answer):
                self._answered(answer)
            case RecordFinished(result=Failure() as failure):
                self._counters["records"].labels("failed").inc()
                self._counters["failures"].labels(kind_of(failure.error)).inc()
            case AttemptFailed(error=error):
                where = host_of(getattr(error, "endpoint", ""))
                self._counters["retries"].labels(where, kind_of(error)).inc()
            case RunStarted(finished_before=before):
                self._counters["journal"].set(before)
            case _:
                pass

    def _answered(self, answer: Success) -> None:
        self._counters["records"].labels("succeeded").inc()
        self._counters["journal"].inc()
        where, usage = host_of(answer.endpoint), answer.completion.usage
        self._counters["tokens"].labels(where, "input").inc(usage.prompt_tokens)
        self._counters["tokens"].labels(where, "output").inc(usage.completion_tokens)

    def wrapped(self, transport: Transport, config: Config) -> Transport:
        """``transport``, with each chat request counted and timed."""
        models = {f"{one.base_url}/chat/completions": one.model for one in config.all_endpoints()}
        return _CountedTransport(transport, self._counters, models)

    @contextmanager
    def attached(self, engine: Watched) -> Iterator[None]:
        """Ask ``engine`` how it stands, whenever the metrics are read."""
        with self._engines.asking(engine):
            yield


class _CountedTransport:
    """Counts and times chat requests."""

    def __init__(self, transport: Transport, counters: dict[str, Any], models: dict[str, str]) -> None:
        self._transport = transport
        self._counters = counters
        self._models = models

    async def send(self, request: Request) -> Response:
        """As the transport under it."""
        model = self._models.get(request.url)
        if model is None:
            return await self._transport.send(request)
        where, started, status = host_of(request.url), time.monotonic(), "cancelled"
        try:
            response = await self._transport.send(request)
            status = str(response.status)
        except TransportError as error:
            status = kind_of(error)
            raise
        finally:
            self._counters["requests"].labels(where, model, status).inc()
            self._counters["latency"].labels(where, model).observe(time.monotonic() - started)
            self._counters["sent"].labels(where).inc(request.size)
        self._counters["received"].labels(where).inc(len(response.body))
        return response


def _counters(registry: CollectorRegistry) -> dict[str, Any]:
    from prometheus_client import Counter, Gauge, Histogram

    def counter(name: str, help: str, *labels: str) -> Counter:
        return Counter(f"vqa_{name}", help, labels, registry=registry)

    return {
        "records": counter("records", "Records that ended, by outcome.", "outcome"),
        "failures": counter("record_failures", "Records that failed, by kind of error.", "error_type"),
        "retries": counter("retries", "Attempts that failed and are repeated.", "endpoint", "error_type"),
        "requests": counter("requests", "Chat requests that ended.", "endpoint", "model", "status"),
        "tokens": counter("tokens", "Tokens of answers, as the endpoint counts.", "endpoint", "direction"),
        "sent": counter("sent_bytes", "Bytes of requests, images in base64 included.", "endpoint"),
        "received": counter("received_bytes", "Bytes of replies.", "endpoint"),
        "journal": Gauge(
            "vqa_journal_finished_records",
            "Records answered in the output of the latest run, earlier runs included.",
            registry=registry,
        ),
        "latency": Histogram(
            "vqa_request_duration_seconds",
            "Time of a chat request, first byte sent to last byte read.",
            ("endpoint", "model"),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        ),
    }


def host_of(url: str) -> str:
    """Host and port of an endpoint: what metrics call it."""
    return urlsplit(url).netloc


def kind_of(error: VQAError) -> str:
    """A word for an error, of a bounded list: endpoints send codes of their own, as many as they like."""
    return error.code if error.code in CODES else type(error).__name__
