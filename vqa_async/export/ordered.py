"""The lines of an output, in the order of the input.

One pass notes where each line stands (some 40 bytes a line, twice that while they are sorted), then the
lines are read in the order of their ``index``; answers to several questions about one row, which share an
index, in the order of the questions. Nothing of the lines themselves is held in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeAlias

from vqa_async.errors import JournalDamaged
from vqa_async.journal import JournalPaths
from vqa_async.journal.codec import LineMeta, decode_line, meta_fields
from vqa_async.journal.paths import unreadable
from vqa_async.journal.replay import Replayed
from vqa_async.journal.scanning import Accept, Line, scan
from vqa_async.keytable import KeyTable

Place: TypeAlias = Callable[[str, int], int | None]

_GROUP = b'"group":'
_NOT_COUNTED = -(1 << 62)


def _as_asked(_: str, index: int) -> int:
    return index


class OrderedLines:
    """Where the lines stand; iterated over, as often as wanted, it gives them in order.

    Args:
        paths: the output's files; an unfinished end is passed over.
        known: whether a run file says that they are ours, so that even an only line may be unfinished.
        place: a record's id and its index when it was asked -> where it goes, or None to leave it out. By
            default its index, which is right as long as the input is as it was then.
        answers: whether the answered records are among them.
        failures: whether those are that have failed, each with its newest failure.

    Raises:
        InputError: there is no such output.
        JournalDamaged: a line is not as it was written.
    """

    def __init__(
        self,
        paths: JournalPaths,
        *,
        known: bool = False,
        place: Place | None = None,
        answers: bool = True,
        failures: bool = False,
    ) -> None:
        self._files = (paths.successes, paths.failures)
        self._place = place or _as_asked
        self._indexes, self._starts, self._numbers = array("q"), array("q"), array("L")
        self._failures = KeyTable(key_bytes=12, value_bytes=6)
        seen = Replayed()
        try:
            self._scan(0, lambda m, line: self._answered(seen, m, line, wanted=answers), known)
            if failures and paths.failures.exists():
                self._scan(1, lambda m, line: self._failed(seen, m, line), known)
        except OSError as error:
            raise unreadable(paths.successes, error) from None
        self._order = self._sorted()

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            with ExitStack() as stack:
                opened = [stack.enter_context(path.open("rb")) for path in self._files if path.exists()]
                for at in self._order:
                    start = self._starts[at]
                    file = opened[start & 1]
                    file.seek(start >> 1)
                    yield decode_line(file.readline())
        except OSError as error:
            raise unreadable(self._files[0], error) from None

    def _scan(self, number: int, accept: Accept, known: bool) -> None:
        findings = scan(self._files[number], accept, known=known, to_the_end=False)
        if findings.damage:
            line, what = min(findings.damage.items())
            raise JournalDamaged(
                f"{self._files[number]}, line {line}, {what}. "
                "If it is the output of a run, run that command again with --repair first."
            )

    def _answered(self, seen: Replayed, meta: LineMeta, line: Line, *, wanted: bool) -> str:
        complaint = seen.add_success(meta, line)
        if wanted and not complaint:
            self._note(meta, line, 0)
        return complaint

    def _failed(self, seen: Replayed, meta: LineMeta, line: Line) -> str:
        complaint = seen.add_failure(meta, line)
        if not complaint and not seen.has_answer(meta.id):
            before = self._failures.get(meta.id)
            if before is not None:
                self._indexes[int.from_bytes(before, "big")] = _NOT_COUNTED
            at = len(self._starts)
            if self._note(meta, line, 1):
                self._failures.set(meta.id, at.to_bytes(6, "big"))
        return complaint

    def _note(self, meta: LineMeta, line: Line, file: int) -> bool:
        at = self._place(meta.id, meta.position)
        if at is not None:
            self._indexes.append(at)
            self._starts.append(line.start << 1 | file)
            self._numbers.append(_number(line.data))
        return at is not None

    def _sorted(self) -> array[int]:
        order = [at for at in range(len(self._indexes)) if self._indexes[at] != _NOT_COUNTED]
        if any(self._numbers):
            order.sort(key=self._numbers.__getitem__)
        order.sort(key=self._indexes.__getitem__)
        return array("q", order)


def _number(line: bytes) -> int:
    """Which question of its row a line answers; 0 where the row has only one."""
    if _GROUP not in line[line.rfind(b',"_meta":') :]:
        return 0
    group = (meta_fields(line.rstrip(b"\n")) or {}).get("group")
    number = group.get("number") if isinstance(group, dict) else None
    return number if isinstance(number, int) and 0 <= number < 1 << 32 else 0
