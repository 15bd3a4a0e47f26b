"""Spans and metrics of requests by OpenTelemetry, with the names of its semantic conventions for GenAI.

Only the API is used: which SDK there is, and where it sends what, is for the program to say. Neither prompts
nor answers nor images are put into a span.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from urllib.parse import urlsplit

from vqa_async.chat import read_completion
from vqa_async.config import Config
from vqa_async.errors import ConfigError, ResponseError, TransportError
from vqa_async.events import Event, Watched
from vqa_async.models import Completion
from vqa_async.transport import Request, Response, Transport

# The boundaries that the conventions ask for.
DURATION_BUCKETS_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS = tuple(4**power for power in range(14))


class OpenTelemetryObserver:
    """Observer that makes a span of each chat request, and the two client metrics of the conventions.

    Args:
        tracer_provider, meter_provider: of the program; default: those that are set for the process.
        provider: ``gen_ai.provider.name``; what speaks OpenAI's protocol is called so unless somebody knows
            better.

    Raises:
        ConfigError: opentelemetry-api is not installed.

    Example:
        >>> async with open_engine(..., observer=OpenTelemetryObserver()) as engine:
        ...     await engine.generate(record)
    """

    def __init__(
        self, tracer_provider: Any = None, meter_provider: Any = None, *, provider: str = "openai"
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError:
            raise ConfigError("--otel needs opentelemetry-api: pip install 'vqa-async[otel]'.") from None
        self._provider = provider
        self._tracer = trace.get_tracer("vqa_async", tracer_provider=tracer_provider)
        meter = metrics.get_meter("vqa_async", meter_provider=meter_provider)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS_S,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKEN_BUCKETS,
        )

    def on_event(self, event: Event) -> None:
        """Nothing: what is told here is about requests."""

    def attached(self, engine: Watched) -> AbstractContextManager[None]:
        """Nothing to be asked."""
        return nullcontext()

    def wrapped(self, transport: Transport, config: Config) -> Transport:
        """``transport``, with a span of each chat request."""
        asked = {
            f"{one.base_url}/chat/completions": _attributes(self._provider, one.base_url, one.model)
            for one in config.all_endpoints()
        }
        sampling = {
            "gen_ai.request.temperature": config.sampling.temperature,
            "gen_ai.request.max_tokens": config.sampling.max_tokens,
            "gen_ai.request.seed": config.sampling.seed,
        }
        return _TracedTransport(self, transport, asked, {k: v for k, v in sampling.items() if v is not None})

    @contextmanager
    def _span(self, asked: Mapping[str, Any], sampling: Mapping[str, Any]) -> Iterator[Any]:
        from opentelemetry.trace import SpanKind

        # An exception's own text may hold what an endpoint has sent: only its kind is told.
        with self._tracer.start_as_current_span(
            f"chat {asked['gen_ai.request.model']}",
            kind=SpanKind.CLIENT,
            attributes={**asked, **sampling},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span

    def _ended(
        self, span: Any, asked: Mapping[str, Any], seconds: float, error: str, answer: Completion | None
    ) -> None:
        from opentelemetry.trace import Status, StatusCode

        told = {**asked}
        if error:
            told["error.type"] = error
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        if answer is not None:
            if answer.model:
                told["gen_ai.response.model"] = answer.model
            span.set_attributes(_answered(answer))
            self._counted(told, answer)
        self._duration.record(seconds, told)

    def _counted(self, told: Mapping[str, Any], answer: Completion) -> None:
        for kind, count in (
            ("input", answer.usage.prompt_tokens),
            ("output", answer.usage.completion_tokens),
        ):
            if count:
                self._tokens.record(count, {**told, "gen_ai.token.type": kind})


class _TracedTransport:
    """Makes a span of each chat request."""

    def __init__(
        self,
        observer: OpenTelemetryObserver,
        transport: Transport,
        asked: Mapping[str, Mapping[str, Any]],
        sampling: Mapping[str, Any],
    ) -> None:
        self._observer = observer
        self._transport = transport
        self._asked = asked
        self._sampling = sampling

    async def send(self, request: Request) -> Response:
        """As the transport under it."""
        asked = self._asked.get(request.url)
        if asked is None:
            return await self._transport.send(request)
        observer, started = self._observer, time.monotonic()
        with observer._span(asked, self._sampling) as span:
            error, answer = "", None
            try:
                response = await self._transport.send(request)
                error, answer = _read(response)
            except TransportError as failed:
                error = failed.code
                raise
            except asyncio.CancelledError:
                error = "cancelled"
                raise
            finally:
                observer._ended(span, asked, time.monotonic() - started, error, answer)
            return response


def _attributes(provider: str, base_url: str, model: str) -> dict[str, Any]:
    parts = urlsplit(base_url)
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "server.address": parts.hostname or "",
        "server.port": parts.port or (443 if parts.scheme == "https" else 80),
    }


def _answered(answer: Completion) -> dict[str, Any]:
    found: dict[str, Any] = {
        "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
        "gen_ai.response.finish_reasons": (answer.finish_reason,),
    }
    return found | ({"gen_ai.response.model": answer.model} if answer.model else {})


def _read(response: Response) -> tuple[str, Completion | None]:
    """The kind of error, "" where there is none, and the completion in a reply."""
    if not 200 <= response.status < 300:
        return str(response.status), None
    try:
        return "", read_completion(response.body)
    except ResponseError as error:
        return error.code, None


def require_sdk() -> None:
    """Refuse to make spans that go nowhere.

    Raises:
        ConfigError: opentelemetry-api is not installed, or no SDK is set up in this process.
    """
    try:
        from opentelemetry import trace
    except ImportError:
        raise ConfigError("--otel needs opentelemetry-api: pip install 'vqa-async[otel]'.") from None
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        raise ConfigError(
            "--otel: no OpenTelemetry SDK is set up in this process, so spans would go nowhere. Start it "
            "with 'opentelemetry-instrument vqa-async run ...', or set a tracer provider in your program "
            "first."
        )
