"""The way of a record to its Success or Failure; retry happens here, nowhere else.

``complete`` never raises for a record's sake: whatever goes wrong with one record ends as its Failure. Only
two things pass through: cancellation, and a journal that cannot be written.

Whatever an endpoint sends is searched for the secrets that were sent to it before anything else reads it;
and an error that leaves here is stripped of its traceback, whose frames hold the images.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from vqa_async.chat import Body, RequestForm
from vqa_async.client.course import (
    BUDGET,
    JOURNAL,
    RETRY,
    TURN,
    Course,
    Save,
    Wait,
    detached,
    idempotency_key,
)
from vqa_async.client.exchange import Exchange
from vqa_async.client.hedging import HedgedExchange
from vqa_async.client.reasking import NotGood, Reasks
from vqa_async.client.secrets import Secrets
from vqa_async.config import Budget, Limits, RetryPolicy, Timeouts
from vqa_async.endpoints import EndpointPool, EndpointState
from vqa_async.errors import JournalError, RateLimited, RequestError, VQAError
from vqa_async.images import ImageLoader
from vqa_async.limits import Hedging
from vqa_async.models import AttemptFailed, Completion, Failure, QAPair, Record, Result, Success
from vqa_async.qa import answer_pairs, parse_pairs
from vqa_async.retry import next_wait
from vqa_async.spending import Spending
from vqa_async.tokens import TokenEstimator
from vqa_async.transport import Response, Transport


class VLMClient:
    """Answers records, one call each; any number of calls may run at once.

    Args:
        form: builds request bodies.
        images: prepares images.
        pool: hands out permits.
        transport: carries requests.
        timeouts, limits, retry: the bounds.
        spending: what may be sent and spent by calls that bring none of their own; default: anything.
        tokens: estimates what requests take; only asked where tokens are limited.
        reasks: asks again because of an answer; default: each is good as it is.
        secrets: strings that must not appear in anything that is kept (keys, secret headers).
        checks: gives the pairs of an answer their flags.
        rng: source of jitter.
        sleep: how to wait between attempts; tests bring a virtual one.
    """

    def __init__(
        self,
        *,
        form: RequestForm,
        images: ImageLoader,
        pool: EndpointPool,
        transport: Transport,
        timeouts: Timeouts,
        limits: Limits,
        retry: RetryPolicy,
        spending: Spending | None = None,
        tokens: TokenEstimator | None = None,
        reasks: Reasks | None = None,
        secrets: Sequence[str] = (),
        checks: Callable[[tuple[QAPair, ...]], tuple[QAPair, ...]] = lambda pairs: pairs,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._form = form
        self._images = images
        self._pool = pool
        self._retry = retry
        self.spending = spending or Spending(Budget(), "")
        self._secrets = Secrets(secrets)
        self._checks = checks
        self._exchange = Exchange(
            pool=pool,
            transport=transport,
            timeouts=timeouts,
            limits=limits,
            tokens=tokens or TokenEstimator(""),
            secrets=self._secrets,
            reasks=reasks,
        )
        self._reasks = reasks
        rule = Hedging(limits.hedge_share()) if limits.hedge else None
        self._hedging = HedgedExchange(self._exchange, pool, rule) if rule else None
        self._rng = rng or random.Random()
        # One for all records: tenacity keeps what belongs to a call in the call's state, and what it keeps
        # in the object only from one step to the next, between which nothing else runs.
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(RequestError),
            wait=self._wait,
            stop=lambda state: state.upcoming_sleep == math.inf,
            before_sleep=self._tell,
            sleep=sleep,
            reraise=True,
        )
        self._courses: set[Course] = set()
        self._on_wire: set[asyncio.Task[object]] = set()

    def waits(self) -> list[Wait]:
        """What the records wait for that are being answered, the most common first."""
        now = self._pool.now()
        found: dict[str, list[float]] = {}
        for course in tuple(self._courses):  # whoever asks may be another thread
            found.setdefault(course.phase.name, []).append(now - course.phase.since)
        waits = [Wait(what, len(seconds), max(seconds)) for what, seconds in found.items()]
        return sorted(waits, key=lambda wait: -wait.records)

    def pauses(self) -> list[str]:
        """For each endpoint at which nothing starts now: why, and for how long still."""
        now = self._pool.now()
        stands = [(e, e.statistics(now), e.waits_until(now)) for e in self._pool.endpoints if not e.closed]
        return [
            f"{urlsplit(e.url).netloc}: {one.reason or 'held to its rate'}, {until - now:,.0f} s to go"
            for e, one, until in stands
            if until > now
        ]

    @property
    def width(self) -> int:
        """Requests in flight at most, now."""
        return self._pool.width

    def is_on_wire(self, task: asyncio.Task[None]) -> bool:
        """Whether ``task`` has a request in flight, or a reply that is being saved."""
        return task in self._on_wire

    async def complete(
        self,
        record: Record,
        *,
        save: Save | None = None,
        may_retry: Callable[[], bool] = lambda: True,
        notify: Callable[[AttemptFailed], None] = lambda _: None,
        spending: Spending | None = None,
    ) -> Result:
        """Answer ``record``.

        Args:
            record: what to ask.
            save: keeps the result; called while the permit is still held, so that what is paid for and not
                yet saved never exceeds the permits.
            may_retry: asked after a failed attempt; False ends the record at once (the run is stopping).
            notify: told about attempts that failed and will be repeated.
            spending: what may be sent and spent; default: that of the client.

        Raises:
            JournalError: ``save`` failed.
        """
        course = Course(record, save, may_retry, notify, spending or self.spending)
        course.phase.since = self._pool.now()
        self._courses.add(course)
        try:
            async with self._images.prepare(record.images, record.folder) as images:
                course.images = images
                if self._reasks is not None:
                    return await self._reasks.until_good(course, self._until_answered)
                course.body = self._form.body(record.messages, images, record.asked)
                course.once = idempotency_key(record, course.body)
                return await self._until_answered(course)
        except JournalError:
            raise
        except VQAError as error:
            reason = error
        except Exception as error:
            # A defect of ours or of a plug-in: it costs this record, never the others.
            reason = _unexpected(error)
        finally:
            self._courses.discard(course)
        failure = Failure(record, self._settled(reason, course), course.count, time.time())
        # A Failure that ends the run is not saved: its record stays open for the next run.
        if save is not None and not failure.error.stops_run and (may_retry() or not failure.error.retryable):
            await save(failure)
        return failure

    async def _until_answered(self, course: Course) -> Success:
        # Most records are answered at once and need no machinery; what fails goes through it from the start.
        try:
            return await self._attempt(course)
        except RequestError as error:
            course.first_error = error
        return await self._retrying(self._again, course)

    async def _again(self, course: Course) -> Success:
        if course.first_error is not None:
            error, course.first_error = course.first_error, None
            raise error
        return await self._attempt(course)

    def _wait(self, state: RetryCallState) -> float:
        course, error = _course_of(state)
        seconds = next_wait(
            error, attempt=course.counted, elapsed_s=course.spent_s, policy=self._retry, rng=self._rng
        )
        if seconds is None or not course.may_retry():
            return math.inf
        if not isinstance(error, RateLimited):
            seconds = max(seconds, self._pool.retry_delay_s())
        if course.counts:
            course.spent_s += seconds
        course.phase.become(RETRY, self._pool.now())
        return seconds

    def _tell(self, state: RetryCallState) -> None:
        course, error = _course_of(state)
        course.notify(AttemptFailed(course.record.id, detached(error), course.count, state.upcoming_sleep))

    async def _attempt(self, course: Course) -> Success:
        estimate = self._exchange.estimate(course)
        tokens = estimate.total if estimate is not None else 0.0
        key = course.images[0].digest if course.images else ""
        permit = self._pool.permit(avoid=course.endpoint, tokens=tokens, key=key)
        course.phase.become(TURN, self._pool.now())
        async with permit as endpoint:
            started = permit.entered_at
            while not course.spending.reserve(estimate):
                course.phase.become(BUDGET, self._pool.now())
                await self._exchange.settlement()
                started = self._pool.now()
            task = asyncio.current_task(self._pool.loop)
            assert task is not None
            self._on_wire.add(task)
            try:
                course.first_at = course.first_at or started
                course.endpoint = endpoint
                course.count += 1
                if self._hedging is None:
                    completion = await self._exchange.send(endpoint, course, estimate, started)
                else:
                    endpoint, completion = await self._hedging.send(endpoint, course, estimate, started)
                result = self._success(completion, course, endpoint, self._pool.now() - started)
                if course.save is not None:
                    course.phase.become(JOURNAL, self._pool.now())
                    await course.save(result)
                return result
            finally:
                self._on_wire.discard(task)

    def _success(
        self, completion: Completion, course: Course, endpoint: EndpointState, latency_s: float
    ) -> Success:
        text = self._secrets.removed(completion.text)  # once more: JSON escapes may have hidden one
        if text is not completion.text:
            completion = replace(completion, text=text)
        structured: Any = None
        if self._reasks is not None:
            completion, pairs, structured = self._reasks.read(completion, course, self._secrets.removed)
        else:
            asked = course.record.asked
            question = asked.question if asked is not None else ""
            pairs = answer_pairs(question, text) if question else parse_pairs(text)
        return Success(
            record=course.record,
            completion=completion,
            pairs=self._checks(pairs),
            endpoint=endpoint.url,
            attempts=course.count,
            latency_s=latency_s,
            finished_at=time.time(),
            request_digest=course.body.digest,
            structured=structured,
        )

    @asynccontextmanager
    async def prepared(self, record: Record) -> AsyncIterator[Body]:
        """The request for ``record`` as it would be sent first, for as long as the block lasts.

        Raises:
            VQAError: it cannot be made; nothing hangs on the error.
        """
        course = Course(record, None, lambda: False, lambda _: None, self.spending)
        async with AsyncExitStack() as stack:
            try:
                preparing = self._images.prepare(record.images, record.folder)
                course.images = await stack.enter_async_context(preparing)
                body = self._first_body(course)
            except VQAError as error:
                raise self._settled(error, course) from None
            except Exception as error:
                raise self._settled(_unexpected(error), course) from None
            yield body

    def _first_body(self, course: Course) -> Body:
        record = course.record
        if self._reasks is None:
            return self._form.body(record.messages, course.images, record.asked)
        return self._reasks.first_body(course)

    def reading(
        self, record: Record, response: Response, *, digest: str, endpoint: EndpointState, latency_s: float
    ) -> Result:
        """What ``response`` is for ``record``, where it came by another way than ``complete``.

        Args:
            record: what was asked; its messages are not needed.
            response: the reply.
            digest: that of the request.
            endpoint: who replied.
            latency_s: how long that took.
        """
        course = Course(record, None, lambda: False, lambda _: None, self.spending)
        course.count, course.first_at = 1, self._pool.now() - latency_s
        course.body = Body((), 0, digest, 0, 0)
        if self._reasks is not None:
            self._reasks.begin(course)
        error: VQAError
        try:
            return self._success(self.read(response), course, endpoint, latency_s)
        except NotGood as answer:
            error = answer.error
        except VQAError as reason:
            error = reason
        if isinstance(error, RequestError):
            error.endpoint = endpoint.url
            # Live it would be asked again at once: so whoever asks live next may.
            error.retryable |= self._reasks is not None and self._reasks.would_ask_again(course, error)
        return Failure(record, self._settled(error, course), 1, time.time())

    def _settled(self, error: VQAError, course: Course) -> VQAError:
        """``error`` with its facts complete, no secret in any of them, and nothing hanging on it."""
        self._secrets.redact(error)
        if isinstance(error, RequestError):
            error.attempts = course.count
            error.elapsed_s = course.elapsed_s(self._pool.now())
        return detached(error)

    def read(self, response: Response) -> Completion:
        """The completion in ``response``.

        Raises:
            RequestError: what it stands for instead; no secret is in it.
        """
        return self._exchange.read(response)

    def redact(self, error: VQAError) -> None:
        """Take the secrets out of ``error``, and what is too long."""
        self._secrets.redact(error)


def _course_of(state: RetryCallState) -> tuple[Course, RequestError]:
    assert state.outcome is not None
    course, error = state.args[0], state.outcome.exception()
    assert isinstance(error, RequestError)
    return course, error


def _unexpected(error: Exception) -> VQAError:
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    where = f"{PurePath(frame.f_code.co_filename).name}:{line}"
    return VQAError(f"Unexpected {type(error).__name__} at {where}: {error}", code="internal")
