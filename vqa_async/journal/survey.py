"""What an output holds, for people who ask while nobody or somebody else writes it. Reads only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqa_async.errors import InputError
from vqa_async.journal import runfile
from vqa_async.journal.batch_log import BatchLog
from vqa_async.journal.codec import LineMeta, decode_line, meta_fields
from vqa_async.journal.lock import is_locked
from vqa_async.journal.paths import JournalPaths
from vqa_async.journal.replay import Replayed
from vqa_async.journal.scanning import Accept, Line, scan


@dataclass(slots=True)
class Survey:
    """The state of an output.

    Attributes:
        run: content of OUT.run.json, {} where it is missing.
        is_running: whether a run holds the output now.
        replayed: the newest state of each record.
        failures_by_type: failed records by error code; of each record only the newest failure counts.
        retryable: how many of them the next run tries again.
        prompt_tokens, completion_tokens: over all answers in the output.
        in_batches: records that wait in batches.
        unreadable: damaged lines; an unfinished end is none, for the next run mends it by itself.
        answered_in_run: answers since the last run began.
    """

    run: dict[str, Any]
    is_running: bool
    replayed: Replayed = field(default_factory=Replayed)
    failures_by_type: Counter[str] = field(default_factory=Counter)
    retryable: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    in_batches: int = 0
    unreadable: int = 0
    answered_in_run: int = 0

    @property
    def failed(self) -> int:
        """Records whose newest result is a failure."""
        return self.failures_by_type.total()


def survey(paths: JournalPaths) -> Survey:
    """Look through an output.

    Raises:
        InputError: there is none, or it cannot be read.
        JournalDamaged: the run file is not as it was written.
    """
    if not paths.successes.exists() and not paths.run.exists():
        raise InputError(
            f"There is no output {paths.successes}. Check the name, or start with: vqa-async run."
        )
    try:
        result = Survey(runfile.load(paths.run) or {}, is_locked(paths.lock))
        _read_successes(paths.successes, result)
        _read_failures(paths.failures, result)
        result.in_batches = sum(part.requests for part in BatchLog(paths.batches).pending)
    except OSError as error:
        raise InputError(f"The output {paths.successes} cannot be read: {error.strerror}.") from None
    return result


def _read_successes(path: Path, result: Survey) -> None:
    started_at = result.run.get("started_at")
    began = started_at if isinstance(started_at, int | float) else float("inf")

    def accept(meta: LineMeta, line: Line) -> str:
        complaint = result.replayed.add_success(meta, line)
        if not complaint:
            fields = meta_fields(line.data.rstrip(b"\n"))
            usage, finished_at = _field(fields, "usage"), _field(fields, "finished_at")
            result.answered_in_run += isinstance(finished_at, int | float) and finished_at >= began
            result.prompt_tokens += _count(_field(usage, "prompt_tokens"))
            result.completion_tokens += _count(_field(usage, "completion_tokens"))
        return complaint

    _read(path, accept, result)


# A right checksum says that a line was not changed, not that this version of ours wrote it.
def _field(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _read_failures(path: Path, result: Survey) -> None:
    newest: dict[str, tuple[str, bool]] = {}

    def accept(meta: LineMeta, line: Line) -> str:
        complaint = result.replayed.add_failure(meta, line)
        if not complaint and not result.replayed.has_answer(meta.id):
            newest[meta.id] = (decode_line(line.data)["error"]["code"], bool(meta.retryable))
        return complaint

    _read(path, accept, result)
    result.failures_by_type.update(code for code, _ in newest.values())
    result.retryable = sum(retryable for _, retryable in newest.values())


def _read(path: Path, accept: Accept, result: Survey) -> None:
    if path.exists():
        findings = scan(path, accept, known=bool(result.run), to_the_end=True)
        result.unreadable += len(findings.damage)
