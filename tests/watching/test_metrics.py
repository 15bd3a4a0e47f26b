"""Metrics for Prometheus: what a scrape shows during a real run, and that nothing is left of it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from vqa_async import ConfigError, open_engine
from vqa_async.errors import ServerError
from vqa_async.events import Event, Notice, RecordFinished
from vqa_async.metrics import PrometheusObserver, metrics_page
from vqa_async.metrics.observer import kind_of
from vqa_async.server import ServerOptions, running_server
from vqa_async.testing import FakeTransport, reply

ASK: dict[str, Any] = {"base_url": "http://a.invalid/v1", "model": "m", "api_key": ""}
Scraped = dict[tuple[str, tuple[str, ...]], float]


class Told:
    """An observer that keeps what it was told, and can wait for a record."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.finished = asyncio.Event()

    def on_event(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.notices.append(event.message)
        if isinstance(event, RecordFinished):
            self.finished.set()


def parsed(text: str) -> Scraped:
    """Samples by name and the values of their labels."""
    return {
        (sample.name, tuple(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scrape(address: str, request: str = "GET /metrics HTTP/1.1") -> str:
    """The reply to a request, as text."""
    host, port = address.removeprefix("http://").partition("/")[0].rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{request}\r\nHost: x\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_run_is_scraped_while_it_goes_on(
    red_image: str, tmp_path: Path, no_leaks: Callable[[], None]
) -> None:
    """Everything is there in the middle of a run, by the rules of Prometheus, and no id is in it."""
    rows = "".join(
        f'{{"id": "secret-id-{n}", "image": "{red_image}", "conversation": "{n}?"}}\n' for n in range(6)
    )
    (tmp_path / "in.jsonl").write_text(
        rows + '{"id": "secret-id-bad", "image": "gone.png", "conversation": "?"}\n'
    )
    threads = threading.active_count()
    async with running_server(ServerOptions(latency=0.05)) as server:
        told = Told()
        options: dict[str, Any] = {"price_input": 1.0, "price_output": 1.0, "max_workers": 1}
        async with open_engine(
            base_url=server.base_url, model="looks-1", api_key="", observer=told, metrics_port=0, **options
        ) as engine:
            run = asyncio.create_task(engine.run(str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")))
            await told.finished.wait()
            address = told.notices[0].removeprefix("Metrics are at ")
            during = parsed((await scrape(address)).partition("\r\n\r\n")[2])
            await run
            answer = await scrape(address)
            assert not [text for text in told.notices[1:] if "Metrics" in text]
        where = server.base_url.removeprefix("http://").partition("/")[0]
    assert during["vqa_requests_width", (where,)] == 1
    assert during["vqa_requests_in_flight", (where,)] == 1
    assert 1 <= during["vqa_journal_finished_records", ()] < 6
    assert any(name == "vqa_waiting_records" and value for (name, _), value in during.items())
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK")
    assert "secret-id" not in body
    after = parsed(body)
    assert after["vqa_records_total", ("succeeded",)] == 6
    assert after["vqa_record_failures_total", ("file_not_found",)] == 1
    assert after["vqa_requests_total", (where, "looks-1", "200")] == 6
    assert after["vqa_request_duration_seconds_count", (where, "looks-1")] == 6
    assert after["vqa_request_duration_seconds_sum", (where, "looks-1")] > 0.3
    assert after["vqa_tokens_total", ("input", where)] > 0
    assert after["vqa_tokens_total", ("output", where)] > 0
    assert after["vqa_cost_dollars_total", ()] > 0
    assert after["vqa_sent_bytes_total", (where,)] > after["vqa_received_bytes_total", (where,)] * 0
    assert after["vqa_images_encoded_total", ()] == 1
    assert after["vqa_image_cache_hits_total", ()] == 5
    assert after["vqa_journal_finished_records", ()] == 6
    assert threading.active_count() <= threads + 3  # of the loop and the images, none that serves
    with pytest.raises(OSError, match="Connect"):
        await scrape(address)


async def test_retries_and_refusals_are_counted_by_kind() -> None:
    """With the endpoint and a word of a bounded list, whatever code the endpoint has thought of."""
    observer = PrometheusObserver()
    body = b'{"error": {"message": "no", "code": "code-of-theirs-17"}}'
    answers = [reply(status=503, body=b"{}"), reply(), reply(status=400, body=body)]
    transport = FakeTransport(answers)
    async with open_engine(**ASK, transport=transport, observer=observer, backoff_base=0.0) as engine:
        await engine.generate({"conversation": "a?"})
        await engine.generate({"conversation": "b?"})
    after = parsed(prometheus_client.generate_latest(observer.registry).decode())
    assert after["vqa_retries_total", ("a.invalid", "server_error")] == 1
    assert after["vqa_requests_total", ("a.invalid", "m", "503")] == 1
    assert after["vqa_record_failures_total", ("rejected",)] == 1
    assert kind_of(ServerError("x", status=500, code="theirs")) == "ServerError"


async def test_an_embedder_brings_its_own_registry() -> None:
    """One observer serves engines one after the other; what was counted stays, gauges are of those open."""
    registry = prometheus_client.CollectorRegistry()
    observer = PrometheusObserver(registry=registry)
    told = Told()
    prices: dict[str, Any] = {"price_input": 1.0, "price_output": 1.0}
    for _ in range(2):
        transport = FakeTransport([reply()])
        async with open_engine(**ASK, **prices, transport=transport, observer=[told, observer]) as engine:
            await engine.generate({"conversation": "a?"})
            text = await asyncio.to_thread(prometheus_client.generate_latest, registry)  # as its server does
            assert parsed(text.decode())["vqa_requests_width", ("a.invalid",)] == 10
    after = parsed(prometheus_client.generate_latest(registry).decode())
    assert told.finished.is_set()
    assert after["vqa_records_total", ("succeeded",)] == 2
    assert after["vqa_cost_dollars_total", ()] == pytest.approx(2 * 15e-6)
    assert not [name for name, _ in after if name == "vqa_requests_width"]
    with pytest.raises(ValueError, match="Duplicated"):
        PrometheusObserver(registry=registry)


async def test_a_request_that_breaks_off_or_is_cancelled_is_counted() -> None:
    """By the kind of its end; and what is not a chat request is left alone."""
    from vqa_async.errors import TransportError

    observer = PrometheusObserver()
    broken = FakeTransport([TransportError("it broke", code="reset")])
    async with open_engine(**ASK, transport=broken, observer=observer, max_attempts=1) as engine:
        await engine.check_endpoints()
        await engine.generate({"conversation": "a?"})
    slow = FakeTransport([reply()], latency_s=60)
    async with open_engine(**ASK, transport=slow, observer=observer) as engine:
        task = asyncio.create_task(engine.generate({"conversation": "a?"}))
        while not slow.in_flight:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    after = parsed(prometheus_client.generate_latest(observer.registry).decode())
    assert after["vqa_requests_total", ("a.invalid", "m", "reset")] == 1
    assert after["vqa_requests_total", ("a.invalid", "m", "cancelled")] == 1


async def test_a_port_that_is_taken_is_one_sentence_before_anything_is_sent() -> None:
    """It names the port and what to do."""
    transport = FakeTransport([reply()])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1 port {port}: .*another --metrics-port, or 0"):
            async with open_engine(**ASK, transport=transport, metrics_port=port):
                pass
    assert not transport.requests


async def test_the_page_answers_what_is_no_scrape(no_leaks: Callable[[], None]) -> None:
    """Other paths, methods, and visitors who say nothing or too much, cost nobody anything."""
    async with metrics_page(prometheus_client.CollectorRegistry()) as address:
        assert "404" in await scrape(address, "GET /other HTTP/1.1")
        assert "405" in await scrape(address, "POST /metrics HTTP/1.1")
        assert (await scrape(address, "HEAD /metrics HTTP/1.1")).endswith("\r\n\r\n")
        assert await scrape(address, "GET /" + "x" * 40_000) == ""
        host, port = address.removeprefix("http://").partition("/")[0].rsplit(":", 1)
        _, silent = await asyncio.open_connection(host, int(port))
    silent.close()
    await silent.wait_closed()
    no_leaks()


def test_metrics_need_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names it."""
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"vqa-async\[metrics\]"):
        PrometheusObserver()
