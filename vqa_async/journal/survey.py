"""What an output holds, for people who ask while nobody or somebody else writes it. Reads only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from filelock import FileLock, Timeout

from vqa_async.errors import InputError
from vqa_async.journal import runfile
from vqa_async.journal.codec import decode_line
from vqa_async.journal.journal import JournalPaths
from vqa_async.journal.replay import Replayed, read_lines


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
        unreadable: lines that are not as they were written.
    """

    run: dict[str, Any]
    is_running: bool
    replayed: Replayed = field(default_factory=Replayed)
    failures_by_type: Counter[str] = field(default_factory=Counter)
    retryable: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unreadable: int = 0

    @property
    def failed(self) -> int:
        """Records whose newest result is a failure."""
        return self.failures_by_type.total()


def survey(paths: JournalPaths) -> Survey:
    """Look through an output.

    Raises:
        InputError: there is none.
    """
    if not paths.successes.exists() and not paths.run.exists():
        raise InputError(
            f"There is no output {paths.successes}. Check the name, or start with: vqa-async run."
        )
    result = Survey(runfile.load(paths.run) or {}, _is_held(paths))
    _read_successes(paths, result)
    _read_failures(paths, result)
    return result


def _is_held(paths: JournalPaths) -> bool:
    if not paths.lock.exists():
        return False
    try:
        with FileLock(paths.lock, timeout=0):
            return False
    except Timeout:
        return True


def _read_successes(paths: JournalPaths, result: Survey) -> None:
    if not paths.successes.exists():
        return
    with paths.successes.open("rb", buffering=1 << 20) as file:
        for line in read_lines(file):
            if line.meta is None:
                result.unreadable += 1
            elif result.replayed.add_success(line.meta):
                usage = decode_line(line.data)["_meta"]["usage"]
                result.prompt_tokens += usage["prompt_tokens"]
                result.completion_tokens += usage["completion_tokens"]


def _read_failures(paths: JournalPaths, result: Survey) -> None:
    if not paths.failures.exists():
        return
    newest: dict[str, tuple[str, bool]] = {}
    with paths.failures.open("rb", buffering=1 << 20) as file:
        for line in read_lines(file):
            if line.meta is None:
                result.unreadable += 1
            elif result.replayed.add_failure(line.meta) and not result.replayed.has_answer(line.meta.id):
                newest[line.meta.id] = (decode_line(line.data)["error"]["code"], line.meta.retryable)
    result.failures_by_type.update(code for code, _ in newest.values())
    result.retryable = sum(retryable for _, retryable in newest.values())
