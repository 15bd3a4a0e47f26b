"""`vqa-async export`: the answers of an output as a data set, in the order that the input has now."""

from __future__ import annotations

from pathlib import Path

from vqa_async.api import run_sync
from vqa_async.cli.console import emit, open_console, say
from vqa_async.cli.last_input import last_places
from vqa_async.config import RUN_CHECKS, Quality, Verification
from vqa_async.export import ExportOptions, export_dataset, format_for
from vqa_async.export.selection import FlagsOf
from vqa_async.journal import JournalPaths
from vqa_async.journal.runfile import load
from vqa_async.review import open_checks

_BEHIND = 1 << 48
"""Added to the index of answers that are not in the last input: they come after all that are."""


def export_answers(source: Path, output: Path, options: ExportOptions) -> int:
    """Write the export; returns the exit code."""
    format_for(output, options.format)  # a mistake is said before the input is read
    run = load(JournalPaths.of(source).run) or {}
    places = run_sync(lambda: last_places(run))
    earlier = 0

    def place(id: str, index: int) -> int:
        nonlocal earlier
        at = places.get(id) if places else None
        if at is not None:
            return int.from_bytes(at, "big")
        earlier += places is not None
        return index + (_BEHIND if places else 0)

    checks = _later_flags(source, options)
    summary = export_dataset(source, output, options, place=place, later_flags=checks)
    console = open_console()
    noun = "failed records" if options.failures is True else "records" if options.failures else "answers"
    say(console, f"{summary.records:,} {noun}, in input order.")
    if earlier:
        say(console, f"The last {earlier:,} of them are not in the last input; they come from earlier ones.")
    for sentence in summary.sentences():
        say(console, sentence)
    for path in summary.files if options.split else [output]:
        emit(path)
    return 0


def _later_flags(source: Path, options: ExportOptions) -> FlagsOf | None:
    """What is known of pairs beside the flags that they bear, where those matter."""
    if not options.drop_flagged:
        return None
    named = options.drop_flagged if isinstance(options.drop_flagged, tuple) else ()
    across = ",".join(name for name in named if name in RUN_CHECKS) or "none"
    verification = Verification(verify_threshold=options.verify_threshold)
    return open_checks(source, Quality(checks=across), verification).flags
