"""Parts of an output: what several processes have written at the same time, each an output of its own.

    OUT.parts/part-<writer>-<number>.jsonl     with its failures, settings and lock beside it

A part becomes one with OUT.jsonl when its writer is gone: line by line, each record's answer once, whatever
the parts repeat. Files of a part are removed only after its lines are on the disk, so a stop in between only
means that the next time all its lines are repeats.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqa_async.journal.codec import meta_fields
from vqa_async.journal.lock import locked
from vqa_async.journal.paths import JournalPaths
from vqa_async.journal.replay import FAILED, SUCCEEDED, Replayed, replay
from vqa_async.journal.scanning import BUFFER_BYTES, Line, read_lines
from vqa_async.journal.writer import AppendFile
from vqa_async.keytable import RecordTable

_PATIENCE_S = 30.0
"""A writer whose run was killed may still be on its way out: for so long it is waited for."""


@dataclass(slots=True)
class TakenIn:
    """What became of the parts of an output.

    Attributes:
        succeeded, failed: lines that are now in the output.
        repeated: answers that it had already, from another part or an earlier run.
        notices: what was mended, in sentences.
    """

    succeeded: int = 0
    failed: int = 0
    repeated: int = 0
    notices: list[str] = field(default_factory=list)


def part_paths(parts: Path, writer: str = "") -> list[JournalPaths]:
    """The parts in a folder, those of one writer or all, in an order that is always the same."""
    found = sorted(parts.glob(f"part-{writer}*.jsonl"))
    return [JournalPaths.of(path) for path in found if _is_part(path)]


def _is_part(path: Path) -> bool:
    return not path.name.endswith((".failures.jsonl", ".damaged.jsonl"))


def new_part(parts: Path, writer: str) -> Path:
    """Where a writer that starts, perhaps not for the first time, keeps its results."""
    parts.mkdir(exist_ok=True)
    return parts / f"part-{writer}-{len(part_paths(parts, writer)):04}.jsonl"


@dataclass(slots=True)
class Done:
    """What a writer that is gone has done.

    Attributes:
        states: of records, by their ids.
        requests, prompt_tokens, answer_tokens: what that took.
    """

    states: RecordTable = field(default_factory=RecordTable)
    requests: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0

    def _count(self, line: Line) -> None:
        fields = meta_fields(line.data.rstrip(b"\n")) or {}
        usage: dict[str, Any] = fields.get("usage") or {}
        self.requests += fields.get("attempts", 0)
        self.prompt_tokens += usage.get("prompt_tokens", 0)
        self.answer_tokens += usage.get("completion_tokens", 0)


def done_in(parts: list[JournalPaths]) -> Done:
    """What stands in some parts. Changes nothing."""
    done = Done()
    for name, state in (("successes", SUCCEEDED), ("failures", FAILED)):
        for part in parts:
            for line in _good_lines(getattr(part, name)):
                assert line.meta is not None
                done.states.setdefault(line.meta.id, state)
                done._count(line)
    return done


def _good_lines(path: Path) -> Iterator[Line]:
    """Lines that are as they were written; a torn end is none, and left for who takes the part in."""
    if path.exists():
        with path.open("rb", buffering=BUFFER_BYTES) as file:
            yield from (line for line in read_lines(file) if line.meta is not None)


def take_in(
    paths: JournalPaths,
    files: tuple[AppendFile, ...],
    replayed: Replayed,
    *,
    check: Callable[[Path], None],
    repair: bool,
    force: bool,
) -> TakenIn:
    """Make the parts of an output one with it, and remove them. Blocks.

    Args:
        paths: of the output.
        files: its successes and failures, open.
        replayed: what the output holds; what comes to it is noted there.
        check: looks at the run file of a part, and raises where its settings are others.
        repair: take damaged lines out instead of refusing.
        force: force the lines to the disk before the parts are removed.

    Raises:
        JournalDamaged: a line of a part is not as it was written; nothing was taken in.
        JournalLocked: a part is being written.
        SettingsChanged: see ``check``.
        OSError: the disk is full or failing; the parts are still there.
    """
    result = TakenIn()
    with contextlib.ExitStack() as held:
        parts = part_paths(paths.parts)
        for part in parts:
            held.enter_context(locked(part.lock, part.successes, _PATIENCE_S))
            check(part.run)
        for part in parts:
            found = replay(part.successes, part.failures, paths.damaged, repair=repair, known=True)
            result.notices += found.notices
        for part in parts:
            _copy(part.successes, files[0], lambda line: _admits_success(replayed, line, result))
        for part in parts:
            _copy(part.failures, files[1], lambda line: _admits_failure(replayed, line, result))
        for file in files:
            file.sync(force=force)
    for part in parts:
        _remove(part)
    with contextlib.suppress(OSError):  # it holds what was cut off, or what is not ours
        paths.parts.rmdir()
    return result


def _admits_success(replayed: Replayed, line: Line, result: TakenIn) -> bool:
    assert line.meta is not None
    before = replayed.state.get(line.meta.id)
    if before == SUCCEEDED:
        result.repeated += 1
        return False
    replayed.superseded += before is not None
    replayed.state.set(line.meta.id, SUCCEEDED)
    replayed.succeeded += 1
    result.succeeded += 1
    return True


def _admits_failure(replayed: Replayed, line: Line, result: TakenIn) -> bool:
    assert line.meta is not None
    if replayed.has_answer(line.meta.id):
        return False
    replayed.add_failure(line.meta, line)
    result.failed += 1
    return True


def _copy(path: Path, into: AppendFile, admits: Callable[[Line], bool]) -> None:
    """Append the lines of ``path`` that are wanted, a block at a time."""
    block, size = list[bytes](), 0
    for line in _good_lines(path):
        if admits(line):
            block.append(line.data)
            size += len(line.data)
        if size >= BUFFER_BYTES:
            into.append(b"".join(block))
            block, size = [], 0
    if block:
        into.append(b"".join(block))


def _remove(part: JournalPaths) -> None:
    # The lines are read from the successes: as long as they are there, nothing else may be missing.
    for path in (part.failures, part.successes, part.run, part.lock):
        path.unlink(missing_ok=True)
