"""What an output holds, for people who ask while nobody or somebody else writes it. Reads only."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqa_async.journal import runfile
from vqa_async.journal.batch_log import BatchLog
from vqa_async.journal.codec import LineMeta, decode_line, meta_fields
from vqa_async.journal.lock import is_locked
from vqa_async.journal.parts import part_paths
from vqa_async.journal.paths import JournalPaths, require_output, unreadable
from vqa_async.journal.replay import Replayed
from vqa_async.journal.scanning import Accept, Line, scan

_LATEST = 10_000
"""Answers whose time is remembered; by these the rate of now is told."""

_MOST_ENDPOINTS = 100


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
        endpoints: answers by the address that gave them, with the seconds that they took together.
        finished_at: when the latest answers came, in the order of the file.
        since_start: answers that the last run added.
        unreadable: damaged lines; an unfinished end is none, for the next run mends it by itself.
    """

    run: dict[str, Any]
    is_running: bool
    replayed: Replayed = field(default_factory=Replayed)
    failures_by_type: Counter[str] = field(default_factory=Counter)
    retryable: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    in_batches: int = 0
    endpoints: dict[str, tuple[int, float]] = field(default_factory=dict)
    finished_at: deque[float] = field(default_factory=lambda: deque(maxlen=_LATEST))
    since_start: int = 0
    unreadable: int = 0

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
    require_output(paths)
    try:
        result = Survey(runfile.load(paths.run) or {}, is_locked(paths.lock))
        parts = part_paths(paths.parts)  # of a distributed run that goes on, or was killed
        for path in (paths.successes, *(part.successes for part in parts)):
            _read_successes(path, result, is_part=path != paths.successes)
        _read_failures([paths.failures, *(part.failures for part in parts)], result)
        result.in_batches = sum(part.requests for part in BatchLog(paths.batches).pending)
    except OSError as error:
        raise unreadable(paths.successes, error) from None
    return result


def _read_successes(path: Path, result: Survey, *, is_part: bool) -> None:
    def accept(meta: LineMeta, line: Line) -> str:
        if is_part and result.replayed.has_answer(meta.id):
            return ""  # answered twice, because a worker was killed: it will count once
        complaint = result.replayed.add_success(meta, line)
        if not complaint:
            fields = meta_fields(line.data.rstrip(b"\n"))
            _note_course(fields, result)
            usage = _field(fields, "usage")
            result.prompt_tokens += _count(_field(usage, "prompt_tokens"))
            result.completion_tokens += _count(_field(usage, "completion_tokens"))
        return complaint

    _read(path, accept, result)


def _note_course(fields: object, result: Survey) -> None:
    """When an answer came, from where, and how long it took."""
    at, took_s, url = _field(fields, "finished_at"), _field(fields, "latency_s"), _field(fields, "endpoint")
    if isinstance(at, float | int):
        result.finished_at.append(at)
        started_at = result.run.get("started_at")
        result.since_start += isinstance(started_at, float | int) and at >= started_at
    if isinstance(url, str) and (url in result.endpoints or len(result.endpoints) < _MOST_ENDPOINTS):
        answers, seconds = result.endpoints.get(url, (0, 0.0))
        result.endpoints[url] = answers + 1, seconds + (took_s if isinstance(took_s, float | int) else 0.0)


# A right checksum says that a line was not changed, not that this version of ours wrote it.
def _field(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _read_failures(paths: Iterable[Path], result: Survey) -> None:
    newest: dict[str, tuple[str, bool]] = {}

    def accept(meta: LineMeta, line: Line) -> str:
        complaint = result.replayed.add_failure(meta, line)
        if not complaint and not result.replayed.has_answer(meta.id):
            newest[meta.id] = (decode_line(line.data)["error"]["code"], bool(meta.retryable))
        return complaint

    for path in paths:
        _read(path, accept, result)
    result.failures_by_type.update(code for code, _ in newest.values())
    result.retryable = sum(retryable for _, retryable in newest.values())


def _read(path: Path, accept: Accept, result: Survey) -> None:
    if path.exists():
        findings = scan(path, accept, known=bool(result.run), to_the_end=True)
        result.unreadable += len(findings.damage)
