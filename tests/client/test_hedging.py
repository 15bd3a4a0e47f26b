"""Requests sent a second time because the first takes too long: who wins, what it costs, what is left."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from wire import asking, in_virtual_time, now

from vqa_async.errors import TransportError
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Request, Response

A, B = "http://a.invalid/v1", "http://b.invalid/v1"
QUICK_S, SLOW_S = 0.1, 30.0


class Stragglers(FakeTransport):
    """Answers in 0.1 s, but from the 100th on every so many requests in 30 s, or not at all."""

    def __init__(self, *, every: int = 100, then: Exception | None = None) -> None:
        super().__init__([reply()])
        self.every = every
        self.then = then
        self.cancelled = 0
        self.hosts: Counter[str] = Counter()

    async def send(self, request: Request) -> Response:
        number = len(self.requests)
        self.hosts[request.url.split("/")[2]] += 1
        try:
            if number >= 100 and number % self.every == 0:
                self.requests.append(request)
                await asyncio.sleep(SLOW_S)
                if self.then is not None:
                    raise self.then
                return reply()
            await asyncio.sleep(QUICK_S)
            return await super().send(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def ask(count: int, urls: list[str], transport: Stragglers, **options: object) -> tuple[list[float], int]:
    """How long each of ``count`` questions took, and how many requests the budget has counted."""

    async def main() -> tuple[list[float], int]:
        async with asking(transport, urls, max_workers=10, sleep=asyncio.sleep, **options) as asker:

            async def one(number: int) -> float:
                async with free:
                    began = now()
                    assert (await asker.ask(str(number))).ok
                    return now() - began

            free = asyncio.Semaphore(8)
            took = await asyncio.gather(*(one(n) for n in range(count)))
            assert asker.pool.in_flight == 0
            return list(took), asker.client.spending.requests

    return in_virtual_time(main())


@pytest.mark.parametrize("urls", [[A], [A, B]])
def test_stragglers_are_asked_again_and_the_first_answer_counts(urls: list[str]) -> None:
    """No question takes 30 s; the slow request is cancelled, and each question is counted once."""
    transport = Stragglers()
    took, requests = ask(1000, urls, transport, hedge="p95")
    assert max(took) < 2.0
    extra = len(transport.requests) - 1000
    assert 1 <= extra <= 20
    assert transport.cancelled >= 1
    assert requests == len(transport.requests)


def test_without_hedging_a_straggler_is_waited_for() -> None:
    """It is off by default."""
    transport = Stragglers()
    took, _ = ask(300, [A], transport)
    assert max(took) == pytest.approx(SLOW_S, abs=0.1)
    assert (len(transport.requests), transport.cancelled) == (300, 0)


def test_first_that_fails_does_not_end_the_race() -> None:
    """The second may still answer; only when both have failed is the question tried again."""
    transport = Stragglers(then=TransportError("It broke.", code="reset"))
    took, _ = ask(400, [A, B], transport, hedge="p99")
    assert max(took) < 5.0


def test_question_that_is_cancelled_leaves_neither_request() -> None:
    """Both are cancelled, and both permits are back."""

    async def main() -> tuple[int, int]:
        transport = Stragglers(every=1)
        async with asking(transport, [A, B], max_workers=4, hedge="p95", sleep=asyncio.sleep) as asker:
            for number in range(100):
                await asker.ask(str(number))
            slow = asyncio.create_task(asker.ask("slow"))
            await asyncio.sleep(5.0)
            in_flight = asker.pool.in_flight
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)
            assert asker.pool.in_flight == 0
            assert len(asyncio.all_tasks()) == 1
            return in_flight, transport.cancelled

    assert in_virtual_time(main()) == (2, 2)
