"""What a run tells to programs while it goes on: one JSON object a line (``--events json``).

Every object has ``event``, ``time`` (UTC, ISO 8601) and ``run_id`` (new with each run). Names and types
of the fields stay; more may come. Nothing in it is a key, a header or an image.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from vqa_async.errors import VQAError
from vqa_async.events import Event, Notice, RecordFinished, RunStarted, RunStopping
from vqa_async.models import AttemptFailed, Failure
from vqa_async.watch.snapshot import Snapshot


def event_line(name: str, facts: dict[str, Any], *, run: str, time: float) -> str:
    """One line."""
    at = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    content = {"event": name, "time": at, "run_id": run, **facts}
    return json.dumps(content)  # in ASCII, whatever the encoding of the stream


def event_facts(event: Event) -> tuple[str, dict[str, Any]] | None:
    """Name and fields of what the engine reports; None for a record that is answered: no news."""
    match event:
        case RunStarted(output=output, finished_before=before):
            return "run_started", {"output": output, "answered_before": before}
        case AttemptFailed(record_id=record, error=error, attempt=attempt, wait_s=wait_s):
            facts = {"record": _text(record), "attempt": attempt, "wait_s": round(wait_s, 3)}
            return "attempt_failed", facts | _error(error)
        case RecordFinished(result=Failure() as failure):
            facts = {"record": _text(failure.id), "attempts": failure.attempts}
            return "record_failed", facts | _error(failure.error)
        case RunStopping(reason=reason, in_flight=in_flight):
            return "stopping", {"reason": _text(reason), "in_flight": in_flight}
        case Notice(message=message):
            return "notice", {"message": _text(message)}
        case _:
            return None


def _error(error: VQAError) -> dict[str, Any]:
    return {"code": error.code, "retryable": error.retryable, "message": _text(error.message)}


def _text(value: str) -> str:
    """Text that JSON can hold: an id may be made of a file name that is no text."""
    return value.encode("utf-8", "backslashreplace").decode()


def progress_facts(s: Snapshot) -> dict[str, Any]:
    """The fields of ``progress``. Rates are per second; what is not known is null."""
    left = s.time_left
    return {
        "elapsed_s": round(s.elapsed_s, 3),
        "done": s.done,
        "failed": s.failed,
        "left": s.left,
        "left_is_exact": s.is_exact,
        "rate": round(s.speed.now, 3),
        "overall_rate": round(s.speed.overall, 3),
        "prompt_tokens": s.prompt_tokens,
        "completion_tokens": s.completion_tokens,
        "prompt_token_rate": round(s.speed.tokens_in, 1),
        "completion_token_rate": round(s.speed.tokens_out, 1),
        "cost": None if s.cost is None else round(s.cost, 6),
        "in_flight": s.in_flight,
        "width": s.width,
        "retries": s.retried,
        "rpm": round(s.rpm, 1),
        "waits_for": s.waits_for or None,
        "is_held_up": s.is_held_up,
        # JSON has no infinity: a run of unknown end has a least time and no most
        "time_left_s": None if left is None else [_seconds(left.low_s), _seconds(left.high_s)],
        "endpoints": [asdict(one) for one in s.endpoints],
        "errors": [asdict(one) for one in s.errors],
    }


def _seconds(value: float) -> float | None:
    return None if value == float("inf") else round(value, 1)
