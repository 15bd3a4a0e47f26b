"""The merged output, put in its place in one step: all of it, or nothing.

Everything is written under temporary names beside the output first. Then, in this order, the run file says
that a merge is going on, failures and answers take their names, and the run file says how the parts stand.
Whatever a kill leaves of that is known by its run file as a merge of these parts, and the same command
replaces it. An output that is anything else is never replaced.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vqa_async.errors import ConfigError, InputError
from vqa_async.journal import JournalPaths, runfile
from vqa_async.journal.lock import claimed, locked, read_only
from vqa_async.journal.paths import require_output
from vqa_async.journal.replacing import replaced
from vqa_async.merging.lines import Lines
from vqa_async.merging.parts import Part, gaps, named_parts, opened, require_together
from vqa_async.review.scores import checks_output

_MARK = "merging-"
_FROM = "merged_from"


@dataclass(frozen=True, slots=True)
class MergeSummary:
    """What a merge has made.

    Attributes:
        output: the merged OUT.jsonl.
        parts: how many outputs it was made of.
        shards: how many there are of the whole input.
        succeeded, failed: records in it.
        copies: answers that stood in two parts with the same bytes, and were taken once.
        checked: pairs in OUT.checks.jsonl, where parts had been verified.
        notices: what is missing or was left out, in sentences.
    """

    output: Path
    parts: int
    shards: int
    succeeded: int
    failed: int
    copies: int = 0
    checked: int = 0
    notices: tuple[str, ...] = ()


def merge(
    parts: Iterable[str | Path],
    output: str | Path,
    *,
    allow_gaps: bool = False,
) -> MergeSummary:
    """Make one output of those of the shards of an input; they are left as they are.

    Args:
        parts: OUT.jsonl of each shard, or patterns; in any order.
        output: the output to make, with its failures, run file and checks beside it.
        allow_gaps: merge what is there, though a shard is missing or not finished.

    Raises:
        ConfigError: parts do not belong together, one is missing, or ``output`` is there already.
        InputError: a part is no output of a shard, or two parts answer a record differently.
        JournalLocked: a run is writing a part, or another merge the output.
        JournalDamaged: a line of a part is not as it was written.
        DiskError: the disk is full or failing; ``output`` is as it was.

    Example:
        >>> merge(["out.1.jsonl", "out.2.jsonl"], "all.jsonl").succeeded
    """
    target, outputs = JournalPaths.of(output), _outputs(parts, output)
    with _quiet(outputs), target.usable():
        found = opened(outputs)
        require_together(found)
        missing = gaps(found)
        if missing and not allow_gaps:
            raise ConfigError(
                f"Not all is there: {'; '.join(missing)}. Run or copy what is missing, or merge what is "
                "there with --allow-gaps."
            )
        with locked(target.lock, target.successes), claimed(target.successes):
            checks = _Checks(found, target)
            summary = _merged(found, target, allow_gaps=allow_gaps, first=checks.merge)
    notices = (*(f"Merged with a gap: {gap}." for gap in missing), *summary.notices, *checks.notices)
    return replace(summary, checked=checks.checked, notices=notices)


def _outputs(parts: Iterable[str | Path], output: str | Path) -> list[JournalPaths]:
    """The parts; a pattern may have caught the output of an earlier merge too."""
    if isinstance(parts, str | Path):
        parts = [parts]
    target = JournalPaths.of(output).successes
    found = [paths for paths in named_parts(parts) if paths.successes != target]
    if not found:
        raise InputError(f"{target} cannot be a part of itself. Name the outputs of the shards.")
    return found


@contextmanager
def _quiet(outputs: list[JournalPaths]) -> Iterator[None]:
    """No run writes a part while it is read."""
    with ExitStack() as stack:
        for paths in outputs:
            require_output(paths)
            stack.enter_context(read_only(paths.lock, paths.successes))
        yield


def _merged(
    parts: list[Part], target: JournalPaths, *, allow_gaps: bool, first: Callable[[], None] | None = None
) -> MergeSummary:
    """Make one output; ``first`` is done when all of it is written and nothing has its name yet."""
    names = [str(part.paths.successes) for part in parts]
    _require_ours(target, names)
    lines = Lines()
    run = _run_of(parts, names)
    with ExitStack() as stack:
        answers = stack.enter_context(replaced(target.successes, mark=_MARK))
        failures = stack.enter_context(
            replaced(target.failures, mark=_MARK)
        )  # takes its name before the answers
        counted = lines.copy_answers([part.paths.successes for part in parts], answers)
        lines.copy_failures([part.paths.failures for part in parts], failures)
        notices = _short(parts, counted, lines, allow_gaps=allow_gaps)
        answers.flush()
        failures.flush()
        if first is not None:
            first()
        runfile.store(target.run, run | {"state": runfile.MERGING})
    if not lines.failed:
        target.failures.unlink(missing_ok=True)
    runfile.store(target.run, run)
    if lines.copies:
        notices.append(
            f"{lines.copies:,} answers stood in two parts with the same bytes; each was taken once."
        )
    return MergeSummary(
        target.successes,
        len(parts),
        parts[0].of,
        lines.succeeded,
        lines.failed,
        lines.copies,
        notices=tuple(notices),
    )


def _short(parts: list[Part], counted: list[int], lines: Lines, *, allow_gaps: bool) -> list[str]:
    """What the files hold less than they should, such as after a copy that was cut short, in sentences.

    Raises:
        ConfigError: something is, and that is not allowed.
    """
    found = [f"{path} ends in the middle of a line, which is left out" for path in lines.torn]
    for part, there in zip(parts, counted, strict=True):
        expected = part.answers_counted
        if part.is_finished and expected is not None and there < expected:
            found.append(f"{part.paths.successes} holds {there:,} answers and its run counted {expected:,}")
    if found and not allow_gaps:
        raise ConfigError(
            f"Not all is there: {'; '.join(found)}. Copy it once more or run its shard again, or merge what "
            "is there with --allow-gaps."
        )
    return [f"{text}; a run over the whole input asks for it again." for text in found]


def _require_ours(target: JournalPaths, names: list[str]) -> None:
    """See that nothing is replaced but an earlier merge of these parts, or of some of them."""
    run = runfile.load(target.run)
    if run is None:
        there = [path for path in (target.successes, target.failures) if path.exists()]
    else:
        before = run.get(_FROM)
        if isinstance(before, list) and before and set(map(str, before)) <= set(names):
            return
        there = [target.successes if target.successes.exists() else target.run]
    if there:
        raise ConfigError(
            f"{there[0]} exists and is not a merge of these parts alone. It is left as it is: choose another "
            "-o, or move it away."
        )


def _run_of(parts: list[Part], names: list[str]) -> dict[str, Any]:
    """The run file of the whole: that of one part, without what is its own."""
    first = parts[0].run
    shared = ("schema_version", "fingerprint", "settings", "input", "limit", "format")
    kept: dict[str, Any] = {name: first[name] for name in shared if name in first}
    selection = {name: value for name, value in (first.get("selection") or {}).items() if name != "shard"}
    if any(value not in ((), [], None) for value in selection.values()):
        kept["selection"] = selection
    missing = gaps(parts)
    return kept | {
        "state": "stopped" if missing else "finished",
        "reason": f"merged with gaps: {'; '.join(missing)}" if missing else "",
        "counts": _sum([part.run.get("counts") for part in parts]),
        "ended_at": round(time.time(), 3),
        _FROM: names,
    }


def _sum(counts: list[Any]) -> dict[str, Any]:
    """Numbers of the same name together."""
    total: dict[str, Any] = {}
    for one in counts:
        for name, value in one.items() if isinstance(one, dict) else ():
            if isinstance(value, int | float) and not isinstance(value, bool):
                total[name] = total.get(name, 0) + value
    return total


class _Checks:
    """OUT.checks.jsonl, where parts have it.

    Attributes:
        checked: how many pairs were merged.
        notices: what is to be said about it.
    """

    def __init__(self, parts: list[Part], target: JournalPaths) -> None:
        self._parts, self._target = parts, target
        self.checked = 0
        self.notices: list[str] = []

    def merge(self) -> None:
        """Make the one of the merged output.

        Raises:
            ConfigError: a verification of the merged output is there already.
        """
        verified = [part for part in self._parts if checks_output(part.paths.successes).exists()]
        if not verified:
            return
        checks = [_checks_of(part) for part in verified]
        require_together(checks)
        into = JournalPaths.of(checks_output(self._target.successes))
        with _quiet([part.paths for part in checks]), locked(into.lock, into.successes):
            summary = _merged(checks, into, allow_gaps=True)
        _own_input(into, self._target)
        missing = len(self._parts) - len(verified)
        if missing:
            where = f"{missing} of {len(self._parts)} parts"
            self.notices.append(f"{where} have no {into.successes.name}: vqa-async verify goes on.")
        self.checked = summary.succeeded
        self.notices += summary.notices


def _checks_of(part: Part) -> Part:
    paths = JournalPaths.of(checks_output(part.paths.successes))
    run = runfile.load(paths.run) or {}
    # Each verification has its part's output for input; merged, they all have the merged one.
    return Part(part.number, part.of, paths, {"settings": {}} | run | {"input": "-"})


def _own_input(into: JournalPaths, target: JournalPaths) -> None:
    run = runfile.load(into.run) or {}
    runfile.store(into.run, run | {"input": str(target.successes)})
