"""The pool: permits in order, pauses and outages by a virtual clock, nothing lost to cancellation."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import asking, in_virtual_time, now

from vqa_async.config import Config
from vqa_async.endpoints import CHECK_START_AFTER, EndpointPool, EndpointState, endpoint_state
from vqa_async.errors import (
    RateLimited,
    Rejected,
    RequestError,
    ResponseError,
    ServerError,
    TransportError,
)
from vqa_async.limits import Breaker
from vqa_async.models import Failure
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Response

A, B, C = (f"http://{name}.invalid/v1" for name in "abc")


def pool(*urls: str, clock: Callable[[], float] | None = None, **limits: Any) -> EndpointPool:
    config = Config.of(base_url=urls or (A,), model="m", **limits)
    states = [endpoint_state(one, {}, config.limits) for one in config.all_endpoints()]
    return EndpointPool(states, config.limits, clock=clock)


def reset() -> TransportError:
    return TransportError("The connection broke.", code="reset")


def refused() -> TransportError:
    return TransportError("Nobody is there.", code="connect")


def limited(wait_s: float | None = None) -> RateLimited:
    return RateLimited("Slow down.", status=429, retry_after_s=wait_s)


def page() -> ResponseError:
    return ResponseError("A web page.", code="html_response")


async def use(pool: EndpointPool, outcome: RequestError | None = None, **how: Any) -> EndpointState:
    """Take a permit, end as told, give it back."""
    async with pool.permit(**how) as endpoint:
        if outcome is None:
            pool.succeeded(endpoint)
        else:
            pool.failed(endpoint, outcome)
    return endpoint


async def settled() -> None:
    """Let everything run that can run now."""
    for _ in range(20):
        await asyncio.sleep(0)


def timers() -> int:
    """Timers that are set on the running loop and not cancelled."""
    loop: Any = asyncio.get_running_loop()
    return sum(not handle.cancelled() for handle in loop._scheduled)


virtual = in_virtual_time


# --- permits -----------------------------------------------------------------------------------------------


async def test_permits_are_bounded_over_all_endpoints() -> None:
    """Three endpoints do not make three times as many requests."""
    shared = pool(A, B, C, max_workers=4)
    most = 0

    async def one() -> None:
        nonlocal most
        async with shared.permit():
            most = max(most, shared.in_flight)
            await asyncio.sleep(0)

    await asyncio.gather(*(one() for _ in range(50)))
    assert (most, shared.in_flight) == (4, 0)


async def test_permits_are_given_in_the_order_of_asking() -> None:
    """First come, first served, also for those who come while others wait."""
    shared = pool(max_workers=1)
    order: list[int] = []

    async def one(number: int) -> None:
        async with shared.permit():
            order.append(number)
            await asyncio.sleep(0)

    tasks = []
    for number in range(20):
        tasks.append(asyncio.create_task(one(number)))
        if number % 3 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == list(range(20))


async def test_nobody_overtakes_those_who_wait_for_a_pause_to_end() -> None:
    """Whoever comes after its end, but before the first in line has been woken, stands behind it."""
    time, order = 0.0, []
    shared = pool(A, max_workers=1, clock=lambda: time)
    await use(shared, limited(20.0))

    async def one(name: str) -> None:
        async with shared.permit():
            order.append(name)

    first = asyncio.create_task(one("first"))
    await settled()
    time = 20.0
    second = asyncio.create_task(one("second"))
    await settled()
    time = 21.0
    await asyncio.gather(first, second)
    shared.close()
    assert order == ["first", "second"]


async def test_permit_goes_to_the_endpoint_with_the_smallest_share_in_use() -> None:
    """Evenly, where all are alike; by width, where one has been narrowed."""
    shared = pool(A, B, max_workers=12)
    async with AsyncExitStack() as stack:
        taken = [await stack.enter_async_context(shared.permit()) for _ in range(8)]
        assert Counter(endpoint.url for endpoint in taken) == {A: 4, B: 4}
        taken[0].gate.width = 4.0
        more = [await stack.enter_async_context(shared.permit()) for _ in range(4)]
        assert {endpoint.url for endpoint in more} == {B}


async def test_endpoint_that_failed_a_record_is_avoided_where_there_is_a_choice() -> None:
    """Also by a record that has to wait for its permit; and taken where there is none."""
    shared = pool(A, B, max_workers=1)
    first = await use(shared, reset())
    for _ in range(5):
        assert (await use(shared, avoid=first)) is not first
    async with shared.permit():
        waiting = asyncio.create_task(use(shared, avoid=first))
        await settled()
    assert (await waiting) is not first
    alone = pool(A)
    only = await use(alone)
    assert (await use(alone, avoid=only)) is only


async def test_endpoint_named_twice_is_one() -> None:
    """Its width is not doubled by naming it again."""
    assert len(pool(A, A, B).statistics()) == 2


# --- cancellation ------------------------------------------------------------------------------------------


async def test_cancelled_waiter_leaves_the_line() -> None:
    """Those behind it are served, and nothing stays taken."""
    shared = pool(max_workers=1)
    async with shared.permit():
        waiting = [asyncio.create_task(use(shared)) for _ in range(3)]
        await settled()
        waiting[0].cancel()
        waiting[1].cancel()
        await settled()
    assert (await waiting[2]).url == A
    assert shared.in_flight == 0
    assert repr(shared) == "<EndpointPool 0 in flight, 0 waiting>"


async def test_permit_handed_over_in_the_moment_of_cancellation_is_given_back() -> None:
    """The waiter never learns that it had one; the next in line gets it."""
    shared = pool(max_workers=1)
    holder = shared.permit()
    await holder.__aenter__()
    waiting = [asyncio.create_task(use(shared)) for _ in range(2)]
    await settled()
    await holder.__aexit__(None, None, None)  # hands over to the first, which has not run yet
    waiting[0].cancel()
    assert (await waiting[1]).url == A
    assert waiting[0].cancelled()
    assert shared.in_flight == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 3))
def test_cancellation_at_any_moment_loses_no_permit(seed: int, width: int, endpoints: int) -> None:
    """60 tasks that ask, fail, pause and are cancelled at random: in the end all permits are back."""
    rng = random.Random(seed)

    async def one(shared: EndpointPool) -> None:
        for _ in range(3):
            async with shared.permit() as endpoint:
                await asyncio.sleep(rng.choice([0, 0.01, 0.3]))
                outcome = rng.choice([None, None, reset(), limited(rng.choice([None, 0.0, 0.2]))])
                if outcome is None:
                    shared.succeeded(endpoint)
                else:
                    shared.failed(endpoint, outcome)

    async def all_of_them() -> None:
        shared = pool(*(A, B, C)[:endpoints], max_workers=width, max_outage=1e5)
        await use(shared)
        tasks = [asyncio.create_task(one(shared)) for _ in range(60)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(rng.choice([0, 0.02, 5]))
            rng.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert shared.in_flight == 0
        assert [endpoint.in_flight for endpoint in shared.statistics()] == [0] * endpoints
        await asyncio.wait_for(use(shared), 60)  # and the pool still works
        shared.close()

    virtual(all_of_them())


# --- 429 ---------------------------------------------------------------------------------------------------


def test_429_pauses_everyone_at_that_endpoint_until_the_time_named() -> None:
    """Nobody asks in between, and all go on from that moment; the other endpoint takes no pause."""

    async def main() -> None:
        shared = pool(A, B, max_workers=8)
        began = now()
        async with shared.permit() as endpoint:
            shared.failed(endpoint, limited(20.0))
        assert [(await use(shared)).url for _ in range(4)] == [B if endpoint.url == A else A] * 4
        alone = pool(max_workers=8)
        await use(alone, limited(20.0))
        assert alone.statistics()[0].reason == "rate limit"
        await asyncio.gather(*(use(alone) for _ in range(5)))
        assert now() - began == pytest.approx(20.0, abs=0.1)

    virtual(main())


def test_time_that_an_endpoint_named_is_waited_for_by_its_gate() -> None:
    """By all who ask it, so the record that met the refusal need not wait by itself, nor for it."""

    async def main() -> tuple[float | None, float | None]:
        shared, alone = pool(A, B), pool(A)
        first, second = limited(20.0), limited(20.0)
        await use(shared, first)
        await use(alone, second)
        return first.retry_after_s, second.retry_after_s

    assert virtual(main()) == (None, None)


def test_endpoint_that_always_says_429_still_gets_one_request_at_a_time() -> None:
    """Progress never stops: through ten minutes of refusals it is asked on and on, never by two at once."""

    async def main() -> tuple[int, int]:
        shared = pool(max_workers=32)
        asked = most = 0

        async def one() -> None:
            nonlocal asked, most
            while now() < end:
                async with shared.permit() as endpoint:
                    asked += 1
                    if endpoint.gate.width == 1.0:
                        most = max(most, shared.in_flight)
                    sent_at = shared.now()
                    await asyncio.sleep(0.1)
                    shared.failed(endpoint, limited(), sent_at=sent_at)

        end = now() + 600
        await asyncio.gather(*(one() for _ in range(32)))
        shared.close()
        return asked, most

    asked, most = virtual(main())
    assert most == 1
    assert asked >= 32 + 600 / 31


def test_wait_longer_than_the_longest_outage_stops_the_run() -> None:
    """With a sentence that says how long, and what to do; a shorter one does not."""

    async def main() -> None:
        for wait_s, stops in ((59.0, False), (61.0, True), (1e35, True)):
            error = limited(wait_s)
            await use(pool(max_outage=60), error)
            assert error.stops_run is stops
            assert ("run the same command again after that" in error.message) is stops
        shared = pool(A, B, max_outage=60)
        first, second = limited(61.0), limited(61.0)
        await use(shared, first)
        await use(shared, second)
        assert (first.stops_run, second.stops_run) == (False, True)

    virtual(main())


# --- outages -----------------------------------------------------------------------------------------------


async def fail_until_open(shared: EndpointPool, error: Callable[[], RequestError] = reset) -> None:
    for _ in range(Breaker.THRESHOLD):
        await use(shared, error())


def test_dead_endpoint_is_probed_by_one_request_at_a_time() -> None:
    """32 workers wait meanwhile, and all go on once a probe is answered."""

    async def main() -> tuple[list[float], int, float]:
        shared = pool(max_workers=32, max_outage=1e5)
        await use(shared)
        await fail_until_open(shared)
        assert shared.statistics()[0].reason == "endpoint down"
        began, probes, most, answered = now(), [], 0, 0

        async def one() -> None:
            nonlocal most, answered
            while True:
                async with shared.permit() as endpoint:
                    most = max(most, shared.in_flight if now() - began < 40 else 0)
                    sent_at = shared.now()
                    await asyncio.sleep(0.5)
                    if now() - began >= 40:
                        shared.succeeded(endpoint)
                        answered += 1
                        return
                    probes.append(round(sent_at - began, 1))
                    shared.failed(endpoint, reset(), sent_at=sent_at)

        await asyncio.gather(*(one() for _ in range(32)))
        assert answered == 32
        return probes, most, now() - began

    probes, most, took_s = virtual(main())
    assert most == 1
    assert probes == [1.0, 3.5, 8.0, 16.5, 33.0]  # pauses of 1, 2, 4, 8, 16 s and half a second each
    assert took_s == pytest.approx(64.5, abs=0.3)


def test_probe_that_is_cancelled_does_not_leave_the_endpoint_closed() -> None:
    """The next in line becomes the probe, at once."""

    async def main() -> None:
        shared = pool(max_outage=1e5)
        await use(shared)
        await fail_until_open(shared)

        async def hang() -> None:
            async with shared.permit():
                await asyncio.sleep(1e6)

        probe = asyncio.create_task(hang())
        await asyncio.sleep(1.5)
        assert shared.in_flight == 1
        waiting = asyncio.create_task(use(shared))
        await asyncio.sleep(5)
        assert not waiting.done()
        probe.cancel()
        await asyncio.wait_for(waiting, 0.1)
        assert shared.statistics()[0].reason == ""

    virtual(main())


def test_requests_that_hang_do_not_keep_a_probe_from_being_sent() -> None:
    """Some ran into the outage and hang until their deadline: the endpoint is probed all the same."""

    async def main() -> float:
        shared = pool(max_workers=8, max_outage=1e5)
        await use(shared)

        async def hang() -> None:
            async with shared.permit():
                await asyncio.sleep(600)

        hanging = [asyncio.create_task(hang()) for _ in range(4)]
        await settled()
        await fail_until_open(shared)
        began = now()
        await use(shared)
        for task in hanging:
            task.cancel()
        return now() - began

    assert virtual(main()) == pytest.approx(1.0, abs=0.1)


def test_other_endpoints_take_over_from_a_dead_one() -> None:
    """Without a pause."""

    async def main() -> None:
        shared = pool(A, B, max_workers=4)
        dead = await use(shared)
        for _ in range(Breaker.THRESHOLD):
            shared.failed(dead, reset())
        began = now()
        urls = {(await use(shared)).url for _ in range(20)}
        assert urls == {A, B} - {dead.url}
        assert now() - began < 0.1

    virtual(main())


def test_outage_of_all_endpoints_for_too_long_stops_the_run() -> None:
    """Not before, and not while one of them answers."""

    async def main() -> tuple[float, str]:
        shared = pool(max_outage=60)
        await use(shared)
        began = now()
        while True:
            error = reset()
            await use(shared, error)
            if error.stops_run:
                return now() - began, error.message

    took_s, message = virtual(main())
    assert 60 <= took_s <= 60 + 31
    assert "No endpoint has answered for 60 s" in message

    async def one_of_two() -> bool:
        shared = pool(A, B, max_outage=60)
        dead = await use(shared)
        error = reset()
        for _ in range(40):
            shared.failed(dead, error)
            await asyncio.sleep(30)
        return error.stops_run

    assert virtual(one_of_two()) is False


@pytest.mark.parametrize("error", [refused, page, lambda: TransportError("No such name.", code="dns")])
def test_endpoint_that_never_answered_is_taken_for_a_wrong_address(
    error: Callable[[], RequestError],
) -> None:
    """Three failures at the start stop the run; each of several endpoints must have had its three."""

    async def main(*urls: str) -> list[bool]:
        shared, stops = pool(*urls), []
        last = None
        for _ in range(CHECK_START_AFTER * len(urls)):
            last = await use(shared, failure := error(), avoid=last)
            stops.append(failure.stops_run)
        return stops

    assert virtual(main(A)) == [False, False, True]
    assert virtual(main(A, B)) == [False] * 5 + [True]


@pytest.mark.parametrize("error", [refused, page])
def test_endpoint_that_answered_once_is_only_down(error: Callable[[], RequestError]) -> None:
    """The same failures later in the run are an outage, to be waited for."""

    async def main() -> list[bool]:
        shared, stops = pool(A, B), []
        await use(shared)
        for _ in range(20):
            await use(shared, failure := error())
            stops.append(failure.stops_run)
        return stops

    assert not any(virtual(main()))


@pytest.mark.parametrize("error", [reset, lambda: ServerError("busy", status=503)])
def test_trouble_at_the_start_is_not_a_wrong_address(error: Callable[[], RequestError]) -> None:
    """A server that is loading its model resets connections and says 503; somebody is there."""

    async def main() -> list[bool]:
        shared, stops = pool(), []
        for _ in range(20):
            await use(shared, failure := error())
            stops.append(failure.stops_run)
        return stops

    assert not any(virtual(main()))


def test_endpoint_that_rejects_records_is_not_down() -> None:
    """It answers, even if not as hoped."""

    async def main() -> str:
        shared = pool()
        for n in range(40):
            await use(shared, Rejected("no", status=400) if n % 2 else ResponseError("empty"))
        return shared.statistics()[0].reason

    assert virtual(main()) == ""


# --- waking up ---------------------------------------------------------------------------------------------


def test_waiters_are_woken_when_the_pause_ends_and_not_before() -> None:
    """Also when it is prolonged while they wait."""

    async def main() -> float:
        shared = pool(max_workers=4)
        await use(shared)
        async with shared.permit() as endpoint:
            shared.failed(endpoint, limited(5.0))
            began = now()
            waiting = asyncio.create_task(use(shared))
            await asyncio.sleep(4)
            shared.failed(endpoint, limited(10.0))
        await waiting
        return now() - began

    assert virtual(main()) == pytest.approx(14.0, abs=0.1)


def test_timer_is_set_only_while_somebody_waits() -> None:
    """One for all who wait; none for a pause that concerns nobody; none after close."""

    async def main() -> list[int]:
        shared = pool(max_workers=4)
        await use(shared, limited(50.0))
        counts = [timers()]
        waiting = [asyncio.create_task(use(shared)) for _ in range(3)]
        await settled()
        counts.append(timers())
        for task in waiting:
            task.cancel()
        shared.close()
        await settled()
        counts.append(timers())
        return counts

    assert virtual(main()) == [0, 1, 0]


def test_full_house_sets_no_timer() -> None:
    """Whoever waits for a permit alone is woken by the one that comes back."""

    async def main() -> int:
        shared = pool(max_workers=1)
        async with shared.permit():
            waiting = asyncio.create_task(use(shared))
            await settled()
            count = timers()
        await waiting
        return count

    assert virtual(main()) == 0


def test_clock_may_be_brought_along() -> None:
    """Pauses are reckoned by the pool's clock, which a test may own."""

    async def main() -> None:
        time = 1000.0
        shared = pool(A, clock=lambda: time)
        await use(shared, limited(20.0))
        assert shared.statistics()[0].waits_until == 1020.0
        time = 1020.0
        await asyncio.wait_for(use(shared), 0.1)

    virtual(main())


# --- with the client ---------------------------------------------------------------------------------------


def answers(schedule: Callable[[float], Response]) -> Callable[[Any], Response]:
    return lambda _: schedule(now())


def test_storm_of_503_is_survived_with_few_requests() -> None:
    """A minute of it, 200 records, 16 at a time: all answered, at a tenth more requests and the probes."""

    async def main() -> tuple[int, int]:
        began = now()
        storm = answers(lambda t: reply(status=503, body=b"") if 5 <= t - began < 65 else reply("yes"))
        transport = FakeTransport(storm, latency_s=0.5)
        async with asking(transport, max_workers=16, sleep=asyncio.sleep, max_outage=600) as asker:
            results = await asyncio.gather(*(asker.ask(str(n)) for n in range(200)))
        return sum(result.ok for result in results), len(transport.requests)

    answered, requests = virtual(main())
    assert answered == 200
    assert requests <= 1.1 * 200 + 16 * 2


def test_rate_limit_of_a_server_is_kept_without_losing_a_record() -> None:
    """10 requests a second are allowed, 40 workers ask: none fails, few are refused."""

    async def main() -> tuple[int, int]:
        seen: list[float] = []

        def allow(_: Any) -> Response:
            t = now()
            if sum(t - s < 1 for s in seen[-10:]) >= 10:
                return reply(status=429, body=b"", headers={"Retry-After": "1"})
            seen.append(t)
            return reply("yes")

        transport = FakeTransport(allow, latency_s=0.1)
        async with asking(transport, max_workers=40, sleep=asyncio.sleep) as asker:
            results = await asyncio.gather(*(asker.ask(str(n)) for n in range(400)))
        return sum(result.ok for result in results), len(transport.requests)

    answered, requests = virtual(main())
    assert answered == 400
    assert requests < 2 * 400


@pytest.mark.parametrize(
    "headers", [{"Retry-After": "0"}, {"retry-after-ms": "20"}, {"Retry-After": "1"}, {}]
)
@pytest.mark.parametrize("workers", [1, 10, "auto"])
def test_minute_of_429s_fails_no_record_whatever_wait_they_ask_for(
    headers: dict[str, str], workers: int | str
) -> None:
    """50 s of them, as of an endpoint that is restarted: nobody's attempts are used up, and no hot loop."""

    async def main() -> tuple[int, int, float]:
        began = now()

        def storm(_: Any) -> Response:
            is_on = 2 < now() - began < 52
            return reply(status=429, headers=headers, body=b"") if is_on else reply()

        transport = FakeTransport(storm, latency_s=0.1)
        async with asking(transport, max_workers=workers, sleep=asyncio.sleep) as asker:
            free = asyncio.Semaphore(12)

            async def one(number: int) -> bool:
                async with free:
                    return (await asker.ask(str(number))).ok

            answers = await asyncio.gather(*(one(n) for n in range(300)))
        return sum(answers), len(transport.requests), now() - began

    answered, requests, took_s = virtual(main())
    assert answered == 300
    assert requests <= 300 + 130
    assert took_s < 52 + 30 + 40


@pytest.mark.parametrize("workers", [1, 10])
def test_429s_without_end_that_ask_for_no_wait_stop_the_run(workers: int) -> None:
    """After --max-outage, and with few requests: who says 0 for ever is not taken at its word."""

    async def main() -> tuple[bool, str, int, float]:
        began = now()
        transport = FakeTransport([reply(status=429, headers={"Retry-After": "0"}, body=b"")], latency_s=0.01)
        async with asking(transport, max_workers=workers, sleep=asyncio.sleep) as asker:
            tasks = [asyncio.create_task(asker.ask(str(n))) for n in range(workers + 4)]
            first = await next(asyncio.as_completed(tasks))
            for left in tasks:
                left.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(first, Failure)
        return first.error.stops_run, first.error.message, len(transport.requests), now() - began

    stops, message, requests, took_s = virtual(main())
    assert stops
    assert "has answered nothing else for 600 s" in message
    assert requests < 100
    assert 600 < took_s < 635


def test_record_that_alone_is_refused_ends_after_its_attempts() -> None:
    """Some answer 429 to what is too large for their limit: it stops no run, and does not go on for ever."""

    async def main() -> tuple[int, int, bool]:
        def answer(request: Any) -> Response:
            is_large = b"large" in b"".join(request.body)
            return reply(status=429, headers={"Retry-After": "0"}, body=b"") if is_large else reply()

        transport = FakeTransport(answer, latency_s=0.1)
        async with asking(transport, max_workers=4, sleep=asyncio.sleep) as asker:
            results = await asyncio.gather(*(asker.ask("large" if n == 5 else str(n)) for n in range(50)))
        bad = results[5]
        assert isinstance(bad, Failure)
        return sum(result.ok for result in results), bad.attempts, bad.error.stops_run

    assert virtual(main()) == (49, 8, False)


def test_requests_refused_together_narrow_the_gate_once() -> None:
    """32 of them, one after the other, by a server that names no pause at all."""

    async def main() -> int:
        refusal = reply(status=429, body=b"", headers={"Retry-After": "0"})
        async with asking(FakeTransport([refusal], latency_s=1), max_workers=32, max_attempts=1) as asker:
            await asyncio.gather(*(asker.ask(str(n)) for n in range(32)))
            return asker.pool.statistics()[0].width

    assert virtual(main()) == 22


def test_wrong_address_stops_the_run_after_a_few_requests() -> None:
    """The whole queue is not burnt on it."""

    async def main() -> tuple[list[Any], int]:
        transport = FakeTransport([refused()])
        async with asking(transport, max_workers=2, sleep=asyncio.sleep) as asker:
            results = await asyncio.gather(*(asker.ask(str(n)) for n in range(2)))
        return results, len(transport.requests)

    results, requests = virtual(main())
    assert requests <= 5
    assert any(isinstance(result, Failure) and result.error.stops_run for result in results)
