"""Reading the output files back after a stop of any kind: what is finished, what is torn, what is damaged.

A kill can only tear the end of a file, since lines are only ever appended: an unfinished end is cut off,
kept beside the file, and its records run again. Anything else that is not as it was written is damage:
refused with file and line, and taken out only when the user says so. Both files are read (scanning.py)
before either is touched (mending.py).

Synchronous: it runs in a thread, before the first request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vqa_async.errors import JournalDamaged
from vqa_async.journal.codec import LineMeta
from vqa_async.journal.kinds import Kinds
from vqa_async.journal.mending import mend
from vqa_async.journal.scanning import Findings, Line, nobody_left, scan
from vqa_async.keytable import RecordTable

SUCCEEDED = b"s"
FAILED = b"f"
TO_RETRY = b"r"


@dataclass(slots=True)
class Replayed:
    """What the output files say.

    Attributes:
        state: the newest state of each record's id: SUCCEEDED, FAILED (for good) or TO_RETRY.
        succeeded: success lines.
        superseded: failure lines that a later line has made void.
        notices: what was mended, in sentences.
        kinds: the kinds of failures that are to be tried again; None: those that may pass.
    """

    state: RecordTable = field(default_factory=RecordTable)
    succeeded: int = 0
    superseded: int = 0
    notices: list[str] = field(default_factory=list)
    kinds: Kinds | None = None

    def add_success(self, meta: LineMeta, _: Line) -> str:
        """Note a success, all of them before any failure; what is wrong with it, "" where nothing is."""
        if meta.retryable is not None:
            return "is a failure among answers"
        if self.state.setdefault(meta.id, SUCCEEDED) is not None:
            return f"answers record {meta.id[:200]!r} a second time"
        self.succeeded += 1
        return ""

    def add_failure(self, meta: LineMeta, line: Line) -> str:
        """Note a failure; a success of the same record stands, whatever the order."""
        if meta.retryable is None:
            return "is an answer among failures"
        before = self.state.get(meta.id)
        self.superseded += before is not None
        if before != SUCCEEDED:
            again = meta.retryable if self.kinds is None else self.kinds.has(line.data)
            self.state.set(meta.id, TO_RETRY if again else FAILED)
        return ""

    def has_answer(self, id: str) -> bool:
        """Whether the record has a success."""
        return self.state.get(id) == SUCCEEDED


def replay(
    successes: Path,
    failures: Path,
    damaged: Path,
    *,
    repair: bool,
    known: bool,
    abandoned: Callable[[], bool] = nobody_left,
    into: RecordTable | None = None,
    kinds: Kinds | None = None,
) -> Replayed:
    """Read both files, cut torn ends, and say what is finished.

    Args:
        successes, failures: the two files; either may be missing.
        damaged: where ``repair`` moves lines that are not as they were written.
        repair: take damaged lines out instead of refusing.
        known: whether a run file says that the output is ours, so that even its only line may be torn.
        abandoned: asked while reading; once it says True, reading ends with ``Abandoned``.
        into: the table for the states; a new one by default.
        kinds: which failures are to be tried again; by default those that may pass.

    Raises:
        ConfigError: ``kinds`` has a name that no failure can have; nothing was changed.
        JournalDamaged: a line is not as it was written, or a record has two answers; nothing was changed.
    """
    result = Replayed(RecordTable() if into is None else into, kinds=kinds)
    found: list[tuple[Path, Findings]] = []
    for path, accept in ((successes, result.add_success), (failures, result.add_failure)):
        if path.exists():
            findings = scan(path, accept, known=known, to_the_end=repair, abandoned=abandoned)
            if findings.is_foreign or (findings.damage and not repair):
                raise _refusal(path, findings)
            found.append((path, findings))
    if kinds is not None:
        kinds.require_known()
    for path, findings in found:
        result.notices += mend(path, damaged, findings)
    return result


def _refusal(path: Path, findings: Findings) -> JournalDamaged:
    number, what = min(findings.damage.items())
    if findings.is_foreign:
        return JournalDamaged(
            f"{path} exists and was not written by vqa-async (line {number}). "
            "Choose another output with -o, or move that file away.",
            code="foreign",
        )
    return JournalDamaged(
        f"{path}, line {number}, {what}. Nothing was sent. Put the file back as it was, or add --repair "
        "to move such lines to a side file and run their records again."
    )
