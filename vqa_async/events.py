"""What a run tells while it goes on: event values, the one-method Observer, and the counters.

The engine owns a Tally and reports events; progress bars, colours and log lines live with whoever observes.
An observer is called after the result is saved, from the event loop, and must return quickly.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from vqa_async.endpoints import EndpointStatistics
from vqa_async.models import AttemptFailed, Result, Success

if TYPE_CHECKING:  # who only wants to observe need not load the HTTP client
    from vqa_async.client import Wait
    from vqa_async.config import Config
    from vqa_async.images import ImageStatistics
    from vqa_async.transport import Transport


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins. ``finished_before`` records need no request any more."""

    output: str
    finished_before: int


@dataclass(frozen=True, slots=True)
class RecordFinished:
    """A record ended, and its result is saved."""

    result: Result


@dataclass(frozen=True, slots=True)
class RunStopping:
    """The run ends early: nothing new is sent, what is in flight is finished."""

    reason: str
    in_flight: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know, in one sentence (a torn line was cut, a limit was lowered)."""

    message: str


Event: TypeAlias = RunStarted | RecordFinished | AttemptFailed | RunStopping | Notice


class Observer(Protocol):
    """Whoever wants to know."""

    def on_event(self, event: Event) -> None:
        """Take note of ``event``. An exception raised here is logged and ends nothing."""
        ...


class Watched(Protocol):
    """What an engine can be asked at any time, from any thread."""

    config: Config

    def statistics(self) -> RunStatistics:
        """The counters since it was opened."""
        ...

    def waits(self) -> list[Wait]:
        """What records wait for."""
        ...

    def image_statistics(self) -> ImageStatistics:
        """What the image loader did and holds."""
        ...


@runtime_checkable
class Instrument(Protocol):
    """An observer that also wants to see each request, or to ask the engine how it stands."""

    def on_event(self, event: Event) -> None:
        """As of an Observer."""
        ...

    def wrapped(self, transport: Transport, config: Config) -> Transport:
        """What carries the requests instead of ``transport``, and mostly hands them on to it."""
        ...

    def attached(self, engine: Watched) -> AbstractContextManager[None]:
        """Entered when the engine is open, left before it is closed."""
        ...


@dataclass(frozen=True, slots=True)
class RunStatistics:
    """Counters of one run, at one moment.

    Attributes:
        succeeded: records answered in this run.
        failed: records that ended as a Failure in this run.
        skipped: records found finished by an earlier run, and skipped.
        skipped_failed: those of them that had failed for good.
        retries: attempts that failed and were repeated.
        in_flight: requests on the wire.
        width: requests on the wire at most, now.
        prompt_tokens: as counted by the endpoints.
        completion_tokens: as counted by the endpoints.
        elapsed_s: seconds since the run began.
        expected: records that the input holds, 0 where that cannot be told yet.
        expected_is_exact: whether the input was read to its end, so that ``expected`` is no estimate.
        failed_retryable: those of ``failed`` that the next run tries again.
        failures_by_type: records failed in this run, by error code.
        endpoints: how each endpoint fares.
        requests: requests sent, retries included.
        cost: US dollars spent on them; None where no prices were given.
        truncated: those of ``succeeded`` whose answer was cut off at max_tokens, and is kept so.
    """

    succeeded: int = 0
    failed: int = 0
    failed_retryable: int = 0
    skipped: int = 0
    skipped_failed: int = 0
    retries: int = 0
    in_flight: int = 0
    width: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    elapsed_s: float = 0.0
    expected: int = 0
    expected_is_exact: bool = False
    failures_by_type: dict[str, int] = field(default_factory=dict)
    endpoints: tuple[EndpointStatistics, ...] = ()
    requests: int = 0
    cost: float | None = None
    truncated: int = 0

    @property
    def seen(self) -> int:
        """Records of the input that are accounted for so far."""
        return self.succeeded + self.failed + self.skipped


class Tally:
    """The counters of one run, owned by its engine."""

    def __init__(self) -> None:
        self.succeeded = 0
        self.failed = 0
        self.failed_retryable = 0
        self.skipped = 0
        self.skipped_failed = 0
        self.retries = 0
        self.truncated = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.failures_by_type: Counter[str] = Counter()

    def count(self, result: Result) -> None:
        """Count a record that ended."""
        if isinstance(result, Success):
            self.succeeded += 1
            self.truncated += result.completion.finish_reason == "length"
            self.prompt_tokens += result.completion.usage.prompt_tokens
            self.completion_tokens += result.completion.usage.completion_tokens
        else:
            self.failed += 1
            self.failed_retryable += result.error.retryable
            self.failures_by_type[result.error.code] += 1

    def add(self, other: Tally) -> None:
        """Add what another tally has counted."""
        self.succeeded += other.succeeded
        self.truncated += other.truncated
        self.failed += other.failed
        self.failed_retryable += other.failed_retryable
        self.skipped += other.skipped
        self.skipped_failed += other.skipped_failed
        self.retries += other.retries
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.failures_by_type += other.failures_by_type

    def snapshot(
        self,
        *,
        in_flight: int,
        width: int,
        elapsed_s: float,
        expected: int,
        expected_is_exact: bool,
        endpoints: tuple[EndpointStatistics, ...],
        requests: int,
        cost: float | None,
    ) -> RunStatistics:
        """A frozen copy, with what others own added."""
        return RunStatistics(
            succeeded=self.succeeded,
            failed=self.failed,
            failed_retryable=self.failed_retryable,
            skipped=self.skipped,
            skipped_failed=self.skipped_failed,
            retries=self.retries,
            in_flight=in_flight,
            width=width,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            elapsed_s=elapsed_s,
            expected=expected,
            expected_is_exact=expected_is_exact,
            failures_by_type=dict(self.failures_by_type),
            endpoints=endpoints,
            requests=requests,
            cost=cost,
            truncated=self.truncated,
        )
