"""One record: images -> body -> permit -> transport -> reply -> pairs. Retry happens here, nowhere else.

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
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import PurePath
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from vqa_async.chat import Body, RequestForm, read_completion, read_error, read_usage
from vqa_async.config import Budget, Limits, RetryPolicy, Timeouts
from vqa_async.endpoints import EndpointPool, EndpointState, Permit
from vqa_async.errors import (
    AuthError,
    BudgetReached,
    JournalError,
    RateLimited,
    RequestError,
    ResponseError,
    StatusError,
    TransportError,
    VQAError,
)
from vqa_async.images import ImageLoader
from vqa_async.limits import Hedging, standings
from vqa_async.models import (
    AttemptFailed,
    Completion,
    Failure,
    PreparedImage,
    QAPair,
    Record,
    Result,
    Success,
    Usage,
)
from vqa_async.qa import parse_pairs
from vqa_async.retry import header, next_wait, retry_after_s, should_retry_header
from vqa_async.spending import Spending
from vqa_async.tokens import Estimate, TokenEstimator, estimate_text
from vqa_async.transport import Phase, Response, Transport

Save = Callable[[Result], Awaitable[None]]
"""Keeps a result; when it returns, the result is safe."""


IMAGES = "their images"
TURN = "their turn"
BUDGET = "what requests in flight leave of the budget"
RETRY = "another try"
JOURNAL = "the journal"
"""What records wait for that are not on the wire; what those wait for, ``Phase`` names."""


class Wait(NamedTuple):
    """What some records wait for.

    Attributes:
        what: in words.
        records: how many.
        longest_s: for how long the one that has waited longest, in seconds.
    """

    what: str
    records: int
    longest_s: float


class _Course:
    """One record on its way: what is asked, who is to be told, and what happened so far."""

    __slots__ = (
        "body",
        "count",
        "counted",
        "counts",
        "endpoint",
        "first_at",
        "first_error",
        "images",
        "may_retry",
        "notify",
        "once",
        "phase",
        "record",
        "save",
        "spending",
        "spent_s",
    )

    body: Body
    once: str

    def __init__(
        self,
        record: Record,
        save: Save | None,
        may_retry: Callable[[], bool],
        notify: Callable[[AttemptFailed], None],
        spending: Spending,
    ) -> None:
        self.record = record
        self.spending = spending
        self.save = save
        self.may_retry = may_retry
        self.notify = notify
        self.count = 0
        self.counted = 0  # of them, those that say something of the record
        self.counts = True  # whether the last of them was one
        self.spent_s = 0.0  # seconds on the wire and backing off, but not waiting for a permit
        self.images: Sequence[PreparedImage] = ()
        self.phase = Phase(IMAGES, 0.0)
        self.first_at = 0.0
        self.endpoint: EndpointState | None = None
        self.first_error: RequestError | None = None

    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each image."""
        return [(image.width, image.height) for image in self.images]

    def elapsed_s(self, now: float) -> float:
        """Seconds since the first attempt began."""
        return now - self.first_at if self.count else 0.0


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
        secrets: Sequence[str] = (),
        checks: Callable[[tuple[QAPair, ...]], tuple[QAPair, ...]] = lambda pairs: pairs,
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
        self.spending = spending or Spending(Budget(), "")
        self._tokens = tokens or TokenEstimator("")
        self._hedging = Hedging(limits.hedge_share()) if limits.hedge else None
        self._secrets = _Secrets(secrets)
        self._checks = checks
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
        self._courses: set[_Course] = set()
        self._next_settlement: asyncio.Future[None] | None = None
        self._on_wire: set[asyncio.Task[object]] = set()

    def waits(self) -> list[Wait]:
        """What the records wait for that are being answered, the most common first."""
        now = self._pool.now()
        found: dict[str, list[float]] = {}
        for course in self._courses:
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
        course = _Course(record, save, may_retry, notify, spending or self.spending)
        course.phase.since = self._pool.now()
        self._courses.add(course)
        try:
            async with self._images.prepare(record.images, record.folder) as images:
                course.body = self._form.body(record.messages, images)
                course.once = _idempotency_key(record, course.body)
                course.images = images
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

    async def _until_answered(self, course: _Course) -> Success:
        # Most records are answered at once and need no machinery; what fails goes through it from the start.
        try:
            return await self._attempt(course)
        except RequestError as error:
            course.first_error = error
        return await self._retrying(self._again, course)

    async def _again(self, course: _Course) -> Success:
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
        course.notify(AttemptFailed(course.record.id, _detached(error), course.count, state.upcoming_sleep))

    async def _attempt(self, course: _Course) -> Success:
        estimate = self._estimate(course)
        tokens = estimate.total if estimate is not None else 0.0
        key = course.images[0].digest if course.images else ""
        permit = self._pool.permit(avoid=course.endpoint, tokens=tokens, key=key)
        course.phase.become(TURN, self._pool.now())
        async with permit as endpoint:
            started = permit.entered_at
            while not course.spending.reserve(estimate):
                course.phase.become(BUDGET, self._pool.now())
                await self._settlement()
                started = self._pool.now()
            task = asyncio.current_task(self._pool.loop)
            assert task is not None
            self._on_wire.add(task)
            try:
                course.first_at = course.first_at or started
                course.endpoint = endpoint
                course.count += 1
                if self._hedging is None:
                    completion = await self._exchange(endpoint, course, estimate, started)
                else:
                    endpoint, completion = await self._hedged(endpoint, course, estimate, started)
                result = self._success(completion, course, endpoint, self._pool.now() - started)
                if course.save is not None:
                    course.phase.become(JOURNAL, self._pool.now())
                    await course.save(result)
                return result
            finally:
                self._on_wire.discard(task)

    def _estimate(self, course: _Course) -> Estimate | None:
        """Tokens that the request will take, where anybody wants to know."""
        if not (course.spending.bounds_tokens or self._pool.counts_tokens):
            return None
        return self._tokens.estimate(course.body.text_bytes, course.sizes())

    async def _exchange(
        self, endpoint: EndpointState, course: _Course, estimate: Estimate | None, sent_at: float
    ) -> Completion:
        usage: Usage | None = None
        response: Response | None = None
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
            self.redact(error)  # before anybody is told
            if isinstance(error, AuthError) and endpoint.key_hint:
                error.message = f"{error.message.rstrip('. ')}. {endpoint.key_hint}"
            is_for_all = isinstance(error, RateLimited) and endpoint.refuses_others(course.record.id)
            self._pool.failed(endpoint, error, sent_at=sent_at)
            is_for_all = is_for_all or endpoint.is_refusing(self._pool.now())
            course.counts = not (is_for_all and course.counted)  # who may try once, does so once
            if course.counts:
                course.counted += 1
                course.spent_s += self._pool.now() - sent_at
            self.redact(error)
            raise
        except asyncio.CancelledError:
            self._pool.abandoned(endpoint, sent_at=sent_at)
            raise
        finally:
            self._settle(course.spending, estimate, usage)
        self._pool.succeeded(endpoint, sent_at=sent_at)
        if estimate is not None:
            self._pool.settled(endpoint, usage.prompt_tokens + usage.completion_tokens - estimate.total)
            self._tokens.correct(course.body.text_bytes, course.sizes(), completion.usage)
        return completion

    def _settle(self, spending: Spending, estimate: Estimate | None, usage: Usage | None) -> None:
        spending.settle(estimate, usage)
        if self._next_settlement is not None and not self._next_settlement.done():
            self._next_settlement.set_result(None)

    async def _settlement(self) -> None:
        """Until a request in flight has been settled, and so perhaps left something of the budget."""
        if self._next_settlement is None or self._next_settlement.done():
            self._next_settlement = self._pool.loop.create_future()
        await asyncio.shield(self._next_settlement)

    def _listen(self, endpoint: EndpointState, response: Response) -> None:
        if found := standings(response.headers, now=time.time()):
            endpoint.heard(self._pool.now(), found)

    # --- hedging: the same request again where it takes too long ------------------------------------------

    async def _hedged(
        self, endpoint: EndpointState, course: _Course, estimate: Estimate | None, started: float
    ) -> tuple[EndpointState, Completion]:
        """The endpoint that answered first, with its answer."""
        assert self._hedging is not None
        first = self._pool.loop.create_task(self._exchange(endpoint, course, estimate, started))
        try:
            answer = await self._hedge(first, endpoint, course, estimate)
        finally:
            await _ended(first)
        self._hedging.answered(self._pool.now() - started)
        return answer

    async def _hedge(
        self,
        first: asyncio.Task[Completion],
        endpoint: EndpointState,
        course: _Course,
        estimate: Estimate | None,
    ) -> tuple[EndpointState, Completion]:
        assert self._hedging is not None
        delay_s = self._hedging.delay_s()
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
        course: _Course,
        estimate: Estimate | None,
    ) -> tuple[EndpointState, Completion]:
        assert self._hedging is not None
        async with spare as other:
            self._hedging.sent()
            sent_at = spare.entered_at
            second = self._pool.loop.create_task(self._exchange(other, course, estimate, sent_at))
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

    def _success(
        self, completion: Completion, course: _Course, endpoint: EndpointState, latency_s: float
    ) -> Success:
        text = self._secrets.removed(completion.text)  # once more: JSON escapes may have hidden one
        if text is not completion.text:
            completion = replace(completion, text=text)
        return Success(
            record=course.record,
            completion=completion,
            pairs=self._checks(parse_pairs(text)),
            endpoint=endpoint.url,
            attempts=course.count,
            latency_s=latency_s,
            finished_at=time.time(),
            request_digest=course.body.digest,
        )

    def _settled(self, error: VQAError, course: _Course) -> VQAError:
        """``error`` with its facts complete, no secret in any of them, and nothing hanging on it."""
        self.redact(error)
        if isinstance(error, RequestError):
            error.attempts = course.count
            error.elapsed_s = course.elapsed_s(self._pool.now())
        return _detached(error)

    def read(self, response: Response) -> Completion:
        """The completion in ``response``.

        Raises:
            RequestError: what it stands for instead; no secret is in it.
        """
        return _read(self._secrets.removed_from(response))

    def redact(self, error: VQAError) -> None:
        """Take the secrets out of ``error``, and what is too long."""
        error.message = self._secrets.removed(error.message)[:500]
        error.args = (error.message,)
        if isinstance(error, StatusError | ResponseError):
            error.excerpt = self._secrets.removed(error.excerpt)


class _Secrets:
    """Strings that must not appear in anything that is kept.

    Not all that is given can be one: local servers take EMPTY or none for a key, gateways want headers such
    as ``X-Team: blue``, and to blot these out would spoil answers. A secret is long, or more than a word.
    """

    def __init__(self, given: Iterable[str]) -> None:
        words = {word for secret in given for word in (secret, *secret.split())}
        self._texts = tuple(sorted(filter(_is_secret, words), key=len, reverse=True))
        self._bytes = tuple(text.encode() for text in self._texts)

    def removed(self, text: str) -> str:
        """``text`` without them; the same object where it holds none."""
        for secret in self._texts:
            if secret in text:
                text = text.replace(secret, "[removed]")
        return text

    def removed_from(self, response: Response) -> Response:
        """``response`` without them: before parts are cut out of it, or a cut might leave half of one."""
        body = response.body
        for secret in self._bytes:
            if secret in body:
                body = body.replace(secret, b"[removed]")
        location = header(response.headers, "location") if 300 <= response.status < 400 else ""
        clean = self.removed(location)
        if body is response.body and clean is location:
            return response
        return Response(response.status, {"Location": clean} if clean else response.headers, body)


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


def _has_left(spending: Spending, estimate: Estimate | None) -> bool:
    """Reserve a request that need not be sent; whether there is anything left for it."""
    try:
        return spending.reserve(estimate)
    except BudgetReached:
        return False


def _is_secret(word: str) -> bool:
    is_word = word.isalpha() or not any(map(str.isalpha, word))
    return len(word) >= 20 or (len(word) >= 6 and not is_word)


def _require_cancelled() -> None:
    """Make an error of a cancellation that nobody has asked for.

    Libraries raise one where something of theirs was cancelled, and it would end a worker without a word.
    """
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        raise TransportError("The transport gave the request up by a cancellation of its own.") from None


def _idempotency_key(record: Record, body: Body) -> str:
    """The same for every attempt at ``record``, in this run and in later ones that ask the same.

    Repeats of a question are records of their own, and so have keys of their own; the body counts too,
    because a server that knows the key but not the body refuses the request.
    """
    return blake2b(f"{record.id}\n{body.digest}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _course_of(state: RetryCallState) -> tuple[_Course, RequestError]:
    assert state.outcome is not None
    course, error = state.args[0], state.outcome.exception()
    assert isinstance(error, RequestError)
    return course, error


def _unexpected(error: Exception) -> VQAError:
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    where = f"{PurePath(frame.f_code.co_filename).name}:{line}"
    return VQAError(f"Unexpected {type(error).__name__} at {where}: {error}", code="internal")


async def _ended(task: asyncio.Task[Completion]) -> None:
    """Cancel ``task`` unless it is over, and wait for its end; what it ended with is not asked for."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


_E = TypeVar("_E", bound=VQAError)


def _detached(error: _E) -> _E:
    """``error`` without traceback and context: through their frames it would keep the images in memory."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


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
