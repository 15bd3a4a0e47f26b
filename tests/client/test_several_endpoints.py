"""Several endpoints as one: who gets the next request, under which name and key, and who is left out."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest
from wire import CANARY, asking, in_virtual_time, now

from vqa_async.api import open_engine
from vqa_async.config import Config, NamedEndpoint
from vqa_async.endpoints import EndpointPool, endpoint_state
from vqa_async.errors import AuthError, ConfigError, ModelNotFound, RateLimited, ServerError
from vqa_async.events import Event, Notice
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Request, Response

A, B, C = (f"http://{name}.invalid/v1" for name in "abc")
REFUSED = reply(status=401, body=b'{"error":"Unauthorized"}')


def pool(*endpoints: dict[str, Any] | str, **limits: Any) -> EndpointPool:
    config = Config.of(endpoints=endpoints, model="m", **limits)
    return EndpointPool(
        [endpoint_state(one, {}, config.limits) for one in config.all_endpoints()], config.limits
    )


def host(request: Request) -> str:
    return request.url.split("/")[2].removesuffix(".invalid")


async def taken(shared: EndpointPool, count: int, **how: Any) -> Counter[str]:
    """Where ``count`` permits lead that are held at the same time."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(shared.permit(**how)) for _ in range(count)]
        return Counter(endpoint.url for endpoint in found)


# --- the choice --------------------------------------------------------------------------------------------


async def test_work_is_shared_by_weight() -> None:
    """An endpoint of weight 3 gets three times as much as one of weight 1."""
    shared = pool({"base_url": A, "weight": 3}, B, max_workers=40)
    assert await taken(shared, 40) == {A: 30, B: 10}


async def test_quicker_endpoint_gets_more() -> None:
    """Requests in flight times latency is what is made even."""
    shared = pool(A, B, max_workers=50)
    for endpoint, latency_s in zip(shared.endpoints, (0.1, 0.4), strict=True):
        endpoint.latency_s = latency_s
    found = await taken(shared, 50)
    assert found[A] == pytest.approx(40, abs=1)


async def test_endpoint_that_fails_every_other_request_gets_little() -> None:
    """While the others have room; it is not left out, for it may get better."""
    shared = pool(A, B, max_workers=60)
    bad = shared.endpoints[0]
    for number in range(100):
        if number % 2:
            bad.breaker.succeeded()
        else:
            bad.breaker.failed(float(number), sent_at=float(number))
    found = await taken(shared, 60)
    assert 1 <= found[A] <= 6


async def test_bound_of_one_endpoint_is_its_own() -> None:
    """The others take what it does not."""
    shared = pool({"base_url": A, "max_workers": 2}, B, max_workers=20)
    assert await taken(shared, 20) == {A: 2, B: 18}


async def test_same_image_goes_to_the_same_endpoint_where_that_costs_nothing() -> None:
    """Each image has its endpoint, and images spread over all of them; under load the load counts."""
    shared = pool(A, B, C, max_workers=30)
    homes: Counter[str] = Counter()
    for image in range(60):
        found = {url for _ in range(3) for url in await taken(shared, 1, key=f"image {image}")}
        assert len(found) == 1
        homes += Counter(found)
    assert min(homes[url] for url in (A, B, C)) >= 8
    crowd = await taken(shared, 30, key="image 1")
    assert max(crowd.values()) <= 13


def test_rate_of_one_endpoint_does_not_hold_up_the_others() -> None:
    """60 a minute at one, none set at the other: all go to the other while the first rests."""

    async def main() -> Counter[str]:
        shared = pool({"base_url": A, "rpm": 60}, B, max_workers=8)
        found: Counter[str] = Counter()
        for _ in range(100):
            found += await taken(shared, 1)
        assert now() == pytest.approx(began, abs=1.5)
        shared.close()
        return found

    began = 0.0

    async def timed() -> Counter[str]:
        nonlocal began
        began = now()
        return await main()

    found = in_virtual_time(timed())
    assert 1 <= found[A] <= 3
    assert found.total() == 100


# --- each its own ------------------------------------------------------------------------------------------


async def test_each_endpoint_is_asked_under_its_own_name_for_the_model_with_its_own_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Name, key and headers of one endpoint go to no other."""
    monkeypatch.setenv("KEY_A", "key-of-a-0123456789")
    monkeypatch.setenv("KEY_B", "key-of-b-0123456789")
    transport = FakeTransport([reply()])
    endpoints = [
        {"base_url": A, "model": "large", "api_key_env": "KEY_A", "header": "X-Team: red-team-1"},
        {"base_url": B, "model": "vendor/large-v2", "api_key_env": "KEY_B"},
    ]
    async with open_engine(endpoints=endpoints, transport=transport, max_workers=4) as engine:
        results = [result async for result in engine.stream([{"conversation": f"q{n}"} for n in range(20)])]
    assert all(result.ok for result in results)
    seen = {
        (
            host(request),
            orjson.loads(b"".join(request.body))["model"],
            request.headers["Authorization"],
            request.headers.get("X-Team"),
            request.size == sum(map(len, request.body)),
        )
        for request in transport.requests
    }
    assert seen == {
        ("a", "large", "Bearer key-of-a-0123456789", "red-team-1", True),
        ("b", "vendor/large-v2", "Bearer key-of-b-0123456789", None, True),
    }


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({}, "base_url"),
        ({"base_url": A, "wieght": 2}, "weight"),
        ({"base_url": A, "weight": 0}, "above 0"),
        ({"base_url": A, "rpm": -1}, "rpm"),
        ({"base_url": "ftp://a"}, "http://"),
        ({"base_url": A, "header": "no colon"}, "Name: value"),
        ("", "base_url"),
        ({"base_url": A, "model": 5}, "model"),
        ({"base_url": A, "api_key_env": 5}, "api_key_env"),
        ({"base_url": A, "header": [5]}, "Name: value"),
        ({"base_url": A, "weight": "2"}, "must be a number"),
        ({"base_url": A, "weight": float("inf")}, "above 0"),
        ({"base_url": A, "rpm": True}, "must be a number"),
        ({"base_url": A, "tpm": float("inf")}, "tpm"),
        ({"base_url": A, "max_workers": "auto"}, "whole number"),
    ],
)
def test_endpoint_that_cannot_work_is_refused(table: Any, word: str) -> None:
    """With one sentence that says which."""
    with pytest.raises(ConfigError, match=word):
        NamedEndpoint.of(table)


def test_endpoints_are_named_in_one_way() -> None:
    """By base_url or as tables: both at once would leave open which counts."""
    with pytest.raises(ConfigError, match="use one of the two"):
        Config.of(base_url=A, endpoints=[B], model="m")


# --- left out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AuthError, ModelNotFound])
async def test_endpoint_that_refuses_us_is_left_out_while_others_are_there(
    kind: type[AuthError | ModelNotFound],
) -> None:
    """A wrong key at one costs no record; it is said once, and only the last one ends the run."""
    said: list[str] = []
    config = Config.of(endpoints=[A, B], model="m")
    states = [endpoint_state(one, {}, config.limits) for one in config.all_endpoints()]
    shared = EndpointPool(states, config.limits, on_closed=said.append)
    first, last = (kind("No.", status=401) for _ in range(2))
    shared.failed(states[0], first)
    assert (first.stops_run, first.retryable, len(said)) == (False, True, 1)
    assert await taken(shared, 5) == {B: 5}
    shared.failed(states[1], last)
    assert last.stops_run
    assert shared.statistics()[0].reason == first.code


async def test_record_that_met_a_wrong_key_is_answered_elsewhere() -> None:
    """All of them are, at the first try of the endpoint that takes its key."""

    def answer(request: Request) -> Response:
        return REFUSED if host(request) == "a" else reply()

    async with asking(FakeTransport(answer), [A, B], max_workers=4) as asker:
        results = await asyncio.gather(*(asker.ask(str(n)) for n in range(20)))
    assert all(result.ok for result in results)


async def test_sentence_about_an_endpoint_that_is_left_out_shows_no_secret() -> None:
    """Not even where the endpoint quotes the key in an escaped form."""
    escaped = "".join(f"\\u{ord(char):04x}" for char in CANARY)
    refusal = reply(status=401, body=f'{{"error":{{"message":"bad key {escaped}"}}}}'.encode())
    said: list[str] = []

    class Told:
        def on_event(self, event: Event) -> None:
            if isinstance(event, Notice):
                said.append(event.message)

    transport = FakeTransport(lambda request: refusal if host(request) == "a" else reply())
    options: dict[str, Any] = {"base_url": [A, B], "model": "m", "api_key": CANARY, "max_workers": 4}
    async with open_engine(transport=transport, observer=Told(), **options) as engine:
        results = [result async for result in engine.stream([{"conversation": f"q{n}"} for n in range(20)])]
    assert all(result.ok for result in results)
    assert len(said) == 1
    assert "bad key [removed]" in said[0]


def test_last_endpoint_that_takes_our_key_may_be_out_for_too_long() -> None:
    """One asks to wait an hour, the other refuses our key: nobody is left who would answer in time."""

    async def main() -> tuple[bool, bool]:
        shared = pool(A, B, max_workers=4)
        first, last = shared.endpoints
        limited = RateLimited("Slow.", status=429, retry_after_s=3600)
        refused = AuthError("No.", status=401)
        shared.failed(first, limited)
        shared.failed(last, refused)
        return limited.stops_run, refused.stops_run

    assert in_virtual_time(main()) == (False, True)


# --- outages -----------------------------------------------------------------------------------------------


class Clocked(FakeTransport):
    """Remembers when it was asked."""

    def __init__(self, *given: Any, **how: Any) -> None:
        super().__init__(*given, **how)
        self.asked_at: list[float] = []

    async def send(self, request: Request) -> Response:
        self.asked_at.append(now())
        return await super().send(request)


@pytest.mark.parametrize("workers", [1, 8, 64])
@pytest.mark.parametrize("urls", [[A], [A, B]])
def test_five_minutes_without_any_endpoint_fail_no_record(urls: list[str], workers: int) -> None:
    """They are waited for, probed now and then, and when they are back all is answered."""

    async def main() -> tuple[int, int, float]:
        began = now()

        def answer(request: Request) -> Response:
            return reply(status=503, body=b"") if 5 < now() - began < 305 else reply()

        transport = Clocked(answer, latency_s=0.5)
        async with asking(transport, urls, max_workers=workers, sleep=asyncio.sleep) as asker:
            results = await asyncio.gather(*(asker.ask(str(n)) for n in range(20 * workers)))
        asked = sum(5 < at - began < 305 for at in transport.asked_at)
        return sum(not result.ok for result in results), asked, now() - began

    failed, asked, took_s = in_virtual_time(main())
    assert failed == 0
    assert asked <= len(urls) * (2 * workers + 10 + 25)
    assert took_s < 305 + 32 + 30


def test_an_outage_of_all_ends_the_run_where_it_is_not_to_wait() -> None:
    """--on-outage stop: the error that opens the last breaker says so."""

    async def main() -> list[bool]:
        shared = pool(A, B, on_outage="stop", max_workers=4)
        errors = [ServerError("Trouble.", status=503) for _ in range(20)]
        for number, error in enumerate(errors):
            shared.failed(shared.endpoints[number % 2], error)
        assert "--on-outage stop" in errors[-1].message
        return [error.stops_run for error in errors]

    stops = in_virtual_time(main())
    assert stops == [False] * 19 + [True]


@pytest.mark.parametrize("wait", ["0", "5", "3600"])
def test_one_endpoint_down_and_the_other_limited_for_ever_is_an_outage(wait: str) -> None:
    """It ends within --max-outage, and no record fails for it."""

    async def main() -> tuple[Counter[str], float]:
        began = now()
        ends: Counter[str] = Counter()

        def answer(request: Request) -> Response:
            if now() - began < 2:
                return reply()
            if host(request) == "a":
                return reply(status=503, body=b"")
            return reply(status=429, headers={"Retry-After": wait}, body=b"")

        transport = Clocked(answer, latency_s=0.05)
        async with asking(transport, [A, B], max_workers=4, sleep=asyncio.sleep) as asker:
            tasks = [asyncio.create_task(asker.ask(str(n))) for n in range(300)]
            for task in asyncio.as_completed(tasks):
                result = await task
                ends["ok" if result.ok else "stops" if result.error.stops_run else "failed"] += 1
                if not result.ok:
                    break  # as a run would
            for left in tasks:
                left.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return ends, now() - began

    ends, took_s = in_virtual_time(main())
    assert ends["ok"] >= 100
    assert ends["stops"] == 1
    assert took_s < 2 + 600 + 35


def test_minute_of_errors_sends_little_more_than_was_to_be_sent() -> None:
    """A 503 for everything, 60 s long: a tenth more, and the attempts of those in flight; none fails."""
    count, workers = 2000, 64

    async def main() -> tuple[int, int]:
        began = now()

        def answer(request: Request) -> Response:
            return reply(status=503, body=b"") if 2 < now() - began < 62 else reply()

        transport = Clocked(answer, latency_s=0.2)
        async with asking(transport, [A], max_workers=workers, sleep=asyncio.sleep) as asker:
            results = await asyncio.gather(*(asker.ask(str(n)) for n in range(count)))
        return sum(not result.ok for result in results), len(transport.asked_at)

    failed, asked = in_virtual_time(main())
    assert failed == 0
    assert asked <= 1.1 * count + workers * 8


@pytest.mark.parametrize(("share", "most_per_s"), [(0.5, 40), (0.0, 1e9)])
def test_retries_of_an_endpoint_that_fails_most_requests_are_slowed_down(
    share: float, most_per_s: float
) -> None:
    """Four of five requests fail: beyond half of the answers, retries wait for their turn."""

    async def main() -> float:
        numbers = iter(range(10**6))

        def answer(request: Request) -> Response:
            return reply() if next(numbers) % 5 == 0 else reply(status=500, body=b"")

        transport = Clocked(answer, latency_s=0.05)
        options: dict[str, Any] = {"max_attempts": 100, "backoff_max": 0.1, "retry_share": share}
        async with asking(transport, [A], max_workers=20, sleep=asyncio.sleep, **options) as asker:
            await asyncio.gather(*(asker.ask(str(n)) for n in range(100)))
        times = transport.asked_at
        return len(times) / (times[-1] - times[0])

    rate = in_virtual_time(main())
    assert rate <= most_per_s
    assert rate >= 4
