"""The same request again, elsewhere, where its answer takes too long; the first answer counts."""

from __future__ import annotations

import asyncio

from vqa_async.client.course import Course
from vqa_async.client.exchange import Exchange
from vqa_async.endpoints import EndpointPool, EndpointState, Permit
from vqa_async.errors import BudgetReached
from vqa_async.limits import Hedging
from vqa_async.models import Completion
from vqa_async.spending import Spending
from vqa_async.tokens import Estimate


class HedgedExchange:
    """Sends requests, and some of them twice.

    Args:
        exchange: sends one.
        pool: has permits to spare, or not.
        rule: says after how long.
    """

    __slots__ = ("_exchange", "_pool", "_rule")

    def __init__(self, exchange: Exchange, pool: EndpointPool, rule: Hedging) -> None:
        self._exchange = exchange
        self._pool = pool
        self._rule = rule

    async def send(
        self, endpoint: EndpointState, course: Course, estimate: Estimate | None, started: float
    ) -> tuple[EndpointState, Completion]:
        """The endpoint that answered first, with its answer."""
        first = self._pool.loop.create_task(self._exchange.send(endpoint, course, estimate, started))
        try:
            answer = await self._hedge(first, endpoint, course, estimate)
        finally:
            await _ended(first)
        self._rule.answered(self._pool.now() - started)
        return answer

    async def _hedge(
        self,
        first: asyncio.Task[Completion],
        endpoint: EndpointState,
        course: Course,
        estimate: Estimate | None,
    ) -> tuple[EndpointState, Completion]:
        delay_s = self._rule.delay_s()
        # Never `await first`: to be cancelled would cancel it too, perhaps before its first step, and what
        # was reserved for it would never be settled.
        done, _ = await asyncio.wait({first}, timeout=delay_s)
        if not done:
            tokens = estimate.total if estimate is not None else 0.0
            spare = self._pool.spare_permit(avoid=endpoint, tokens=tokens)
            if spare is not None and _has_left(course.spending, estimate):
                return await self._race(first, endpoint, spare, course, estimate)
            await asyncio.wait({first})
        return endpoint, first.result()

    async def _race(
        self,
        first: asyncio.Task[Completion],
        endpoint: EndpointState,
        spare: Permit,
        course: Course,
        estimate: Estimate | None,
    ) -> tuple[EndpointState, Completion]:
        async with spare as other:
            self._rule.sent()
            sent_at = spare.entered_at
            second = self._pool.loop.create_task(self._exchange.send(other, course, estimate, sent_at))
            try:
                racing = {first: endpoint, second: other}
                while racing:
                    done, _ = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        if task.exception() is None:
                            return racing[task], task.result()
                        del racing[task]
                return endpoint, first.result()
            finally:
                await _ended(second)


def _has_left(spending: Spending, estimate: Estimate | None) -> bool:
    """Reserve a request that need not be sent; whether there is anything left for it."""
    try:
        return spending.reserve(estimate)
    except BudgetReached:
        return False


async def _ended(task: asyncio.Task[Completion]) -> None:
    """Cancel ``task`` unless it is over, and wait for its end; what it ended with is not asked for."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
