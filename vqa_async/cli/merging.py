"""`vqa-async merge`: one output out of those of the shards; and the names of their outputs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import orjson

from vqa_async.cli.console import emit, open_console, say
from vqa_async.cli.startup import raise_descriptor_limit
from vqa_async.config import Selection
from vqa_async.merging import merge


def merge_outputs(parts: list[Path], output: Path, *, allow_gaps: bool, json: bool) -> int:
    """Merge and say what was made; returns the exit code."""
    raise_descriptor_limit()  # the lock of each part is held
    summary = merge(parts, output, allow_gaps=allow_gaps)
    console = open_console()
    say(
        console,
        f"{summary.succeeded:,} answers and {summary.failed:,} failures, "
        f"of {summary.parts:,} of {summary.shards:,} shards.",
    )
    if summary.checked:
        say(console, f"{summary.checked:,} verified pairs.")
    for notice in summary.notices:
        say(console, f"Note: {notice}", "yellow")
    emit(orjson.dumps(asdict(summary), default=str, option=2).decode() if json else summary.output)
    return 0


def shard_named(output: Path, selection: Selection) -> Path:
    """``output`` with the numbers of the shard for {k} and {n}; as it is without a shard."""
    part = selection.part
    if part is None:
        return output
    return Path(str(output).replace("{k}", str(part[0] + 1)).replace("{n}", str(part[1])))
