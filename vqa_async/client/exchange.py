"""One request and its reply: sent, searched for secrets, read; and whom that concerns is told."""

from __future__ import annotations

import asyncio
import time

from vqa_async.chat import read_completion, read_error, read_usage
from vqa_async.client.course import Course
from vqa_async.client.forms import FormRefused
from vqa_async.client.reasking import Reasks
from vqa_async.client.secrets import Secrets
from vqa_async.config import Limits, Timeouts
from vqa_async.endpoints import EndpointPool, EndpointState
from vqa_async.errors import AuthError, RateLimited, RequestError, ResponseError, TransportError
from vqa_async.limits import standings
from vqa_async.models import Completion, Usage
from vqa_async.retry import header, retry_after_s, should_retry_header
from vqa_async.spending import Spending
from vqa_async.tokens import Estimate, TokenEstimator, estimate_text
from vqa_async.transport import Response, Transport


class Exchange:
    """Sends requests, one call each.

    Args:
        pool: told how each went.
        transport: carries them.
        timeouts, limits: the bounds.
        tokens: estimates what they take, and learns from what they took.
        secrets: what replies are searched for before anything else reads them.
        reasks: says what each endpoint is asked, where that is not the same for all.
    """

    __slots__ = (
        "_limits",
        "_next_settlement",
        "_pool",
        "_reasks",
        "_secrets",
        "_timeouts",
        "_tokens",
        "_transport",
    )

    def __init__(
        self,
        *,
        pool: EndpointPool,
        transport: Transport,
        timeouts: Timeouts,
        limits: Limits,
        tokens: TokenEstimator,
        secrets: Secrets,
        reasks: Reasks | None = None,
    ) -> None:
        self._reasks = reasks
        self._pool = pool
        self._transport = transport
        self._timeouts = timeouts
        self._limits = limits
        self._tokens = tokens
        self._secrets = secrets
        self._next_settlement: asyncio.Future[None] | None = None

    def estimate(self, course: Course) -> Estimate | None:
        """Tokens that the request will take, where anybody wants to know."""
        if not (course.spending.bounds_tokens or self._pool.counts_tokens):
            return None
        return self._tokens.estimate(course.body.text_bytes, course.sizes())

    async def send(
        self, endpoint: EndpointState, course: Course, estimate: Estimate | None, sent_at: float
    ) -> Completion:
        """Send the request of ``course`` to ``endpoint``, for which a permit is held, and read the reply."""
        usage: Usage | None = None
        response: Response | None = None
        if self._reasks is not None:
            self._reasks.ask(course, endpoint)
        try:
            request = endpoint.request(course.body, self._timeouts, self._limits, once=course.once)
            course.phase = request.phase
            course.phase.since = sent_at
            try:
                response = await self._transport.send(request)
            except asyncio.CancelledError:
                _require_cancelled()
                raise
            if endpoint.is_listened_to():
                self._listen(endpoint, response)
            completion = self.read(response)
            usage = _taken(completion.usage, completion.text, estimate)
        except RequestError as error:
            if response is not None and isinstance(error, ResponseError):
                usage = _taken_in_vain(response, error, estimate)
            error.endpoint = endpoint.url
            self._secrets.redact(error)  # before anybody is told
            if self._reasks is not None:
                if self._reasks.refused(course, endpoint, error):
                    self._pool.answered(endpoint, sent_at=sent_at)
                    raise FormRefused from None
                self._reasks.lost(course, usage or Usage())
            if isinstance(error, AuthError) and endpoint.key_hint:
                error.message = f"{error.message.rstrip('. ')}. {endpoint.key_hint}"
            is_for_all = isinstance(error, RateLimited) and endpoint.refuses_others(course.record.id)
            self._pool.failed(endpoint, error, sent_at=sent_at)
            is_for_all = is_for_all or endpoint.is_refusing(self._pool.now())
            course.counts = not (is_for_all and course.counted)  # who may try once, does so once
            if course.counts:
                course.counted += 1
                course.spent_s += self._pool.now() - sent_at
            self._secrets.redact(error)
            raise
        except asyncio.CancelledError:
            self._pool.abandoned(endpoint, sent_at=sent_at)
            raise
        finally:
            self._settle(course.spending, estimate, usage)
        self._pool.succeeded(endpoint, sent_at=sent_at)
        if self._reasks is not None:
            self._reasks.taken(course, endpoint)
        if estimate is not None:
            self._pool.settled(endpoint, usage.prompt_tokens + usage.completion_tokens - estimate.total)
            self._tokens.correct(course.body.text_bytes, course.sizes(), completion.usage)
        return completion

    def _settle(self, spending: Spending, estimate: Estimate | None, usage: Usage | None) -> None:
        spending.settle(estimate, usage)
        if self._next_settlement is not None and not self._next_settlement.done():
            self._next_settlement.set_result(None)

    async def settlement(self) -> None:
        """Until a request in flight has been settled, and so perhaps left something of the budget."""
        if self._next_settlement is None or self._next_settlement.done():
            self._next_settlement = self._pool.loop.create_future()
        await asyncio.shield(self._next_settlement)

    def _listen(self, endpoint: EndpointState, response: Response) -> None:
        if found := standings(response.headers, now=time.time()):
            endpoint.heard(self._pool.now(), found)

    def read(self, response: Response) -> Completion:
        """The completion in ``response``.

        Raises:
            RequestError: what it stands for instead; no secret is in it.
        """
        return _read(self._secrets.removed_from(response))


def _taken(usage: Usage, text: str, estimate: Estimate | None) -> Usage:
    """What a reply took: as it tells, else as it was estimated, where anybody wants to know."""
    if estimate is None or (usage.prompt_tokens and usage.completion_tokens):
        return usage
    return Usage(
        usage.prompt_tokens or round(estimate.prompt), usage.completion_tokens or estimate_text(text)
    )


def _taken_in_vain(response: Response, error: ResponseError, estimate: Estimate | None) -> Usage:
    """What a reply took that is no use: the model has worked for an empty answer too."""
    usage = read_usage(response.body)
    return usage if error.retryable else _taken(usage, "", estimate)


def _require_cancelled() -> None:
    """Make an error of a cancellation that nobody has asked for.

    Libraries raise one where something of theirs was cancelled, and it would end a worker without a word.
    """
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        raise TransportError("The transport gave the request up by a cancellation of its own.") from None


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
        location=header(response.headers, "location"),
    )
    advice = should_retry_header(response.headers)
    if advice is not None and not error.stops_run:
        error.retryable = advice
    raise error
