"""OpenTelemetry: the spans and metrics of the GenAI conventions, read from the SDK's own exporters."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from vqa_async import ConfigError, open_engine
from vqa_async.errors import TransportError
from vqa_async.testing import FakeTransport, reply
from vqa_async.tracing import DURATION_BUCKETS_S, TOKEN_BUCKETS, OpenTelemetryObserver

ASK: dict[str, Any] = {"base_url": "http://gpu.invalid:8000/v1", "model": "qwen", "api_key": ""}


class Collected:
    """An observer with SDK providers of its own, and what came out of it."""

    def __init__(self) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.observer = OpenTelemetryObserver(tracers, MeterProvider([self._reader]))

    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def points(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        assert data is not None
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


async def test_a_request_is_a_span_of_the_conventions(red_image: str) -> None:
    """With its attributes, and neither prompt nor answer nor image in any of them."""
    seen = Collected()
    transport = FakeTransport([reply("- Q: hidden-q?\n  A: hidden-a")])
    options = {"temperature": 0.5, "max_tokens": 99, "seed": 7}
    async with open_engine(**ASK, **options, transport=transport, observer=seen.observer) as engine:
        await engine.generate({"image": red_image, "conversation": "hidden-prompt"})
    (span,) = seen.spans()
    assert (span.name, span.kind, span.status.status_code) == ("chat qwen", SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "qwen",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 99,
        "gen_ai.request.seed": 7,
        "gen_ai.response.model": "test",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "server.address": "gpu.invalid",
        "server.port": 8000,
    }
    assert "hidden" not in span.to_json()
    assert "base64" not in span.to_json()
    (duration,) = seen.points("gen_ai.client.operation.duration")
    assert tuple(duration.explicit_bounds) == DURATION_BUCKETS_S
    assert duration.attributes["gen_ai.response.model"] == "test"
    tokens = {p.attributes["gen_ai.token.type"]: p for p in seen.points("gen_ai.client.token.usage")}
    assert {kind: point.sum for kind, point in tokens.items()} == {"input": 10, "output": 5}
    assert tuple(tokens["input"].explicit_bounds) == TOKEN_BUCKETS
    assert TOKEN_BUCKETS[-1] == 67108864


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(status=503, body=b'{"error": {"message": "hidden"}}'), "503"),
        (TransportError("hidden", code="reset"), "reset"),
        (reply(body=b"{}"), "malformed_response"),
    ],
)
async def test_each_attempt_that_fails_has_its_kind(answer: Any, kind: str) -> None:
    """A span for each attempt; the one that failed says so, without the text of the error."""
    seen = Collected()
    transport = FakeTransport([answer, reply()])
    async with open_engine(**ASK, transport=transport, observer=seen.observer, backoff_base=0.0) as engine:
        await engine.generate({"conversation": "a?"})
    failed, fine = seen.spans()
    assert (failed.attributes or {})["error.type"] == kind
    assert failed.status.status_code is StatusCode.ERROR
    assert "hidden" not in failed.to_json()
    assert "error.type" not in (fine.attributes or {})
    kinds = {p.attributes.get("error.type") for p in seen.points("gen_ai.client.operation.duration")}
    assert kinds == {kind, None}


async def test_a_cancelled_request_and_a_reply_without_names() -> None:
    """Both end as a span; what was not told is not there."""
    seen = Collected()
    slow = FakeTransport([reply()], latency_s=60)
    async with open_engine(**ASK, transport=slow, observer=seen.observer) as engine:
        task = asyncio.create_task(engine.generate({"conversation": "a?"}))
        while not slow.in_flight:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    body = b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}'
    asked = {**ASK, "base_url": "https://api.invalid"}
    async with open_engine(
        **asked, transport=FakeTransport([reply(body=body)]), observer=seen.observer
    ) as engine:
        await engine.generate({"conversation": "a?"})
    cancelled, bare = (span.attributes or {} for span in seen.spans())
    assert cancelled["error.type"] == "cancelled"
    assert bare["server.port"] == 443
    assert "gen_ai.response.model" not in bare
    assert not seen.points("gen_ai.client.token.usage")


async def test_the_flag_needs_an_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one it says so before anything is sent; with one, the process's own providers are used."""
    transport = FakeTransport([reply()])
    with pytest.raises(ConfigError, match="no OpenTelemetry SDK is set up"):
        async with open_engine(**ASK, transport=transport, otel=True):
            pass
    assert not transport.requests
    spans, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracers)
    async with open_engine(**ASK, transport=transport, otel=True) as engine:
        await engine.generate({"conversation": "a?"})
    assert [span.name for span in spans.get_finished_spans()] == ["chat qwen"]


async def test_tracing_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names it."""
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match=r"vqa-async\[otel\]"):
        OpenTelemetryObserver()
    with pytest.raises(ConfigError, match=r"vqa-async\[otel\]"):
        async with open_engine(**ASK, otel=True):
            pass
