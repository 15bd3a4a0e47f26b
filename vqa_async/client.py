"""One record: images -> body -> permit -> transport -> reply -> pairs. Retry happens here, nowhere else.

``complete`` never raises for a record's sake: whatever goes wrong with one record ends as its Failure. Only
two things pass through: cancellation, and a journal that cannot be written.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from vqa_async.chat import Body, RequestForm, read_completion, read_error
from vqa_async.config import Limits, RetryPolicy, Timeouts
from vqa_async.endpoints import EndpointPool, EndpointState
from vqa_async.errors import AuthError, JournalError, RequestError, VQAError
from vqa_async.images import ImageLoader
from vqa_async.models import AttemptFailed, Completion, Failure, Record, Result, Success
from vqa_async.qa import parse_pairs
from vqa_async.retry import next_wait, retry_after_s, should_retry_header
from vqa_async.transport import Response, Transport

Save = Callable[[Result], Awaitable[None]]
"""Keeps a result; when it returns, the result is safe."""


class _Attempts:
    """What happened to one record so far."""

    __slots__ = ("count", "endpoint", "first_at")

    def __init__(self) -> None:
        self.count = 0
        self.first_at = 0.0
        self.endpoint: EndpointState | None = None


class VLMClient:
    """Answers records, one call each; any number of calls may run at once.

    Args:
        form: builds request bodies.
        images: prepares images.
        pool: hands out permits.
        transport: carries requests.
        timeouts, limits, retry: the bounds.
        key_hint: a sentence on where the API key came from, added when it is refused.
        secrets: strings that must not appear in anything that is kept (keys, secret headers).
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
        key_hint: str = "",
        secrets: Sequence[str] = (),
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._form = form
        self._images = images
        self._pool = pool
        self._transport = transport
        self._timeouts = timeouts
        self._limits = limits
        self._retry = retry
        self._key_hint = key_hint
        self._secrets = tuple(secret for secret in secrets if len(secret) >= 4)
        self._rng = rng or random.Random()
        self._sleep = sleep
        self._on_wire: set[asyncio.Task[object]] = set()

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
    ) -> Result:
        """Answer ``record``.

        Args:
            record: what to ask.
            save: keeps the result; called while the permit is still held, so that what is paid for and not
                yet saved never exceeds the permits.
            may_retry: asked after a failed attempt; False ends the record at once (the run is stopping).
            notify: told about attempts that failed and will be repeated.

        Raises:
            JournalError: ``save`` failed.
        """
        attempts = _Attempts()
        try:
            async with self._images.prepare(record.images, record.folder) as images:
                body = self._form.body(record.messages, images)
                return await self._until_answered(record, body, attempts, save, may_retry, notify)
        except JournalError:
            raise
        except VQAError as error:
            failure = Failure(record, self._redacted(error, attempts), attempts.count, time.time())
        except Exception as error:
            # A defect of ours or of a plug-in: it costs this record, never the others.
            unexpected = VQAError(f"Unexpected {type(error).__name__}: {error}", code="internal")
            failure = Failure(record, self._redacted(unexpected, attempts), attempts.count, time.time())
        # A Failure that ends the run is not saved: its record stays open for the next run.
        if save is not None and not failure.error.stops_run and (may_retry() or not failure.error.retryable):
            await save(failure)
        return failure

    async def _until_answered(
        self,
        record: Record,
        body: Body,
        attempts: _Attempts,
        save: Save | None,
        may_retry: Callable[[], bool],
        notify: Callable[[AttemptFailed], None],
    ) -> Success:
        def wait(state: RetryCallState) -> float:
            assert state.outcome is not None
            error = state.outcome.exception()
            assert error is not None
            elapsed_s = asyncio.get_running_loop().time() - attempts.first_at
            seconds = next_wait(
                error, attempt=attempts.count, elapsed_s=elapsed_s, policy=self._retry, rng=self._rng
            )
            return math.inf if seconds is None or not may_retry() else seconds

        def tell(state: RetryCallState) -> None:
            assert state.outcome is not None
            error = state.outcome.exception()
            assert isinstance(error, VQAError)
            notify(AttemptFailed(record.id, error, attempts.count, state.upcoming_sleep))

        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, RequestError)),
            wait=wait,
            stop=lambda state: state.upcoming_sleep == math.inf,
            before_sleep=tell,
            sleep=self._sleep,
            reraise=True,
        )
        return await retrying(self._attempt, record, body, attempts, save)

    async def _attempt(self, record: Record, body: Body, attempts: _Attempts, save: Save | None) -> Success:
        loop = asyncio.get_running_loop()
        async with self._pool.permit(avoid=attempts.endpoint) as endpoint:
            task = asyncio.current_task()
            assert task is not None
            self._on_wire.add(task)
            try:
                started = loop.time()
                attempts.first_at = attempts.first_at or started
                attempts.count += 1
                attempts.endpoint = endpoint
                completion = await self._exchange(endpoint, body)
                result = self._success(record, completion, body, attempts, loop.time() - started)
                if save is not None:
                    await save(result)
                return result
            finally:
                self._on_wire.discard(task)

    async def _exchange(self, endpoint: EndpointState, body: Body) -> Completion:
        try:
            request = endpoint.request(body, self._timeouts, self._limits)
            completion = _read(await self._transport.send(request))
        except RequestError as error:
            error.endpoint = endpoint.url
            if isinstance(error, AuthError) and self._key_hint:
                error.message += f" {self._key_hint}"
            self._pool.failed(endpoint, error)
            raise
        self._pool.succeeded(endpoint)
        return completion

    def _success(
        self, record: Record, completion: Completion, body: Body, attempts: _Attempts, latency_s: float
    ) -> Success:
        assert attempts.endpoint is not None
        text = self._redact(completion.text)
        if text is not completion.text:
            completion = Completion(text, completion.model, completion.finish_reason, completion.usage)
        return Success(
            record=record,
            completion=completion,
            pairs=parse_pairs(text),
            endpoint=attempts.endpoint.url,
            attempts=attempts.count,
            latency_s=latency_s,
            finished_at=time.time(),
            request_digest=body.digest,
        )

    def _redacted(self, error: VQAError, attempts: _Attempts) -> VQAError:
        """``error`` with its facts complete and no secret in any of them."""
        error.message = self._redact(error.message)[:500]
        error.args = (error.message,)
        if isinstance(error, RequestError):
            error.attempts = attempts.count
            error.elapsed_s = asyncio.get_running_loop().time() - attempts.first_at
        if hasattr(error, "excerpt"):
            error.excerpt = self._redact(error.excerpt)
        return error

    def _redact(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "[removed]")
        return text


def _read(response: Response) -> Completion:
    """The completion in ``response``, or the error that it stands for."""
    if response.status == 200:
        return read_completion(response.body)
    if 200 < response.status < 300:
        return read_completion(response.body or b'"empty reply"')
    error = read_error(
        response.status,
        response.body,
        retry_after_s=retry_after_s(response.headers, now=time.time()),
        location=response.headers.get("Location", ""),
    )
    advice = should_retry_header(response.headers)
    if advice is not None and not error.stops_run:
        error.retryable = advice
    raise error
