"""Hears of what happens in a run: counts it, and keeps the last few answers, failures and notices."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from vqa_async.events import Event, Notice, RecordFinished, RunStarted, RunStopping
from vqa_async.models import AttemptFailed, Failure, Success
from vqa_async.report.figures import Answered, Figures

_ANSWERS, _FAILURES, _NOTICES = 6, 8, 5


@dataclass(frozen=True, slots=True)
class Numbered:
    """An answer with its number, by which the page asks for its image."""

    number: int
    success: Success


class Watcher:
    """An Observer. It holds the last answers as they are, images in memory included: six of them at most.

    Attributes:
        figures: counts of the current stage of the run.
        answers, failures, notices: the last of each, the newest first.
        output: what the stage writes.
        finished_before: records that earlier runs answered.
        stopping: why the run ends early, "" while it does not.
    """

    def __init__(self) -> None:
        self.notices: deque[str] = deque(maxlen=_NOTICES)
        self._number = 0
        self._begin("", 0)

    def _begin(self, output: str, finished_before: int) -> None:
        self.figures = Figures()
        self.answers: deque[Numbered] = deque(maxlen=_ANSWERS)
        self.failures: deque[Failure] = deque(maxlen=_FAILURES)
        self.output = output
        self.finished_before = finished_before
        self.stopping = ""

    def on_event(self, event: Event) -> None:
        """Take note of ``event``."""
        match event:
            case RecordFinished(result=Success() as success):
                self._answered(success)
            case RecordFinished(result=Failure() as failure):
                self._failed(failure)
            case AttemptFailed():
                self.figures.repeated += 1
            case RunStarted(output=output, finished_before=before):
                self._begin(output, before)
            case RunStopping(reason=reason):
                self.stopping = reason
            case Notice(message=message):
                self.notices.appendleft(message)

    def _answered(self, success: Success) -> None:
        self._number += 1
        self.answers.appendleft(Numbered(self._number, success))
        completion, asked = success.completion, success.record.asked
        self.figures.count_answer(
            Answered(
                model=completion.model,
                endpoint=success.endpoint,
                style=asked.style if asked is not None else "",
                finish_reason=completion.finish_reason,
                latency_s=success.latency_s,
                finished_at=success.finished_at,
                prompt_tokens=completion.usage.prompt_tokens,
                completion_tokens=completion.usage.completion_tokens,
            )
        )
        pairs = [(pair.answer, pair.flags) for pair in success.pairs]
        self.figures.count_row(pairs, completion.text, len(success.record.images))

    def _failed(self, failure: Failure) -> None:
        self.failures.appendleft(failure)
        # Attempts are counted when they fail; here they would be counted twice.
        self.figures.count_failure(failure.error.code, 0, retryable=failure.error.retryable)
