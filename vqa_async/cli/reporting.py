"""`vqa-async report`: one page to look through an output."""

from __future__ import annotations

from pathlib import Path

from vqa_async.cli.console import emit, open_console, say
from vqa_async.report import ReportOptions, ReportSummary, write_report
from vqa_async.watch.words import count

_UNWIELDY = 400_000_000
"""Bytes of a page with what is beside it; some 150,000 records."""


def make_report(source: Path, output: Path, options: ReportOptions) -> int:
    """Write the page; returns the exit code."""
    summary = write_report(source, output, options)
    console = open_console()
    for sentence in sentences(summary):
        say(console, sentence)
    emit(output)
    return 0


def sentences(summary: ReportSummary) -> list[str]:
    """What is in the page, a sentence each."""
    sampled = f", a sample of {count(summary.of, 'record')}" if summary.records < summary.of else ""
    size = f"{summary.bytes / 1e6:,.1f} MB"
    lines = [f"{count(summary.records, 'record')}{sampled}, {count(summary.images, 'image')}, {size}."]
    if summary.missing:
        lines.append(f"{count(summary.missing, 'image')} could not be shown; the page says why.")
    if len(summary.files) > 1:
        lines.append(f"The images are in {summary.files[1].name}, which belongs beside the page.")
    if summary.bytes > _UNWIELDY:
        lines.append("Browsers take their time with such a page: --sample 10000 makes a smaller one.")
    return lines
