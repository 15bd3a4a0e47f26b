"""`vqa-async status`: how an output stands, from its files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from vqa_async.api import run_sync
from vqa_async.chat import printable
from vqa_async.cli.console import emit
from vqa_async.cli.last_input import last_input
from vqa_async.errors import InputError
from vqa_async.journal import JournalPaths, Survey, survey
from vqa_async.journal.runfile import MERGING


def show_status(output: Path, *, json: bool) -> int:
    """Print how ``output`` stands."""
    found = survey(JournalPaths.of(output))
    left = run_sync(lambda: _left(found))
    facts = _facts(found, left)
    if json:
        emit(orjson.dumps(facts, option=orjson.OPT_INDENT_2).decode())
    else:
        emit("\n".join(_lines(found, left)))
    return 0


async def _left(found: Survey) -> int | None:
    """Records of the input that have neither answer nor failure; None where the input cannot be read."""
    source = last_input(found.run, selected=True)
    if source is None:
        return None
    left = 0
    try:
        async with source:
            async for item in source:
                left += found.replayed.state.get(item.id) is None
    except InputError:
        return None
    return left


def _state(found: Survey) -> str:
    if found.is_running:
        return f"running (process {found.run.get('pid', 'unknown')})"
    state = str(found.run.get("state", "unknown"))
    if state == MERGING:
        return "merging: that was interrupted, run the same merge again"
    return "killed: run the same command again to go on" if state == "running" else state


def _shown_left(found: Survey, left: int | None) -> str:
    if left is None:
        return "unknown: the input cannot be read from here"
    limit = found.run.get("limit")
    return f"{left:,} (the last run took only the first {limit:,})" if left and limit else f"{left:,}"


def _lines(found: Survey, left: int | None) -> list[str]:
    kinds = ", ".join(f"{count:,} {code}" for code, count in found.failures_by_type.most_common())
    reason = found.run.get("reason")
    lines = [
        f"State      {printable(_state(found))}",
        f"Done       {found.replayed.succeeded:,}",
        f"Failed     {found.failed:,}{f' ({printable(kinds)})' if kinds else ''}",
        f"Left       {_shown_left(found, left)}",
        f"Tokens     {found.prompt_tokens:,} in, {found.completion_tokens:,} out",
    ]
    if found.in_batches:
        lines.append(f"Batches    {found.in_batches:,} records wait in batches; see 'vqa-async batch status'")
    if found.failed:
        lines.append(f"Next run   tries {found.retryable:,} of the failed again; --retry-failed tries all")
    if reason:
        lines.append(f"Stopped    {printable(reason)}")
    if found.unreadable:
        lines.append(f"Damage     {found.unreadable:,} lines are not as they were written")
    return lines


def _facts(found: Survey, left: int | None) -> dict[str, Any]:
    return {
        "state": _state(found).split(" ")[0].rstrip(":"),
        "reason": found.run.get("reason") or None,
        "done": found.replayed.succeeded,
        "failed": found.failed,
        "failures_by_type": dict(found.failures_by_type),
        "retryable": found.retryable,
        "in_batches": found.in_batches,
        "left": left,
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.completion_tokens,
        "unreadable_lines": found.unreadable,
        "settings": found.run.get("settings", {}),
        "input": found.run.get("input"),
    }
