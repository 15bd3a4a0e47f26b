"""`vqa-async status`: how an output stands, from its files alone; `--watch` follows it from another terminal.

A run with a display writes every second beside its lock how it fares, so that its panel can be shown
elsewhere. Of a run without one (in another program), rates come from the times of the latest answers.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from vqa_async.api import run_sync
from vqa_async.cli.console import emit, open_console, say
from vqa_async.cli.facts import Row, failure_rows, table
from vqa_async.cli.last_input import left_of
from vqa_async.journal import JournalPaths, Survey, survey
from vqa_async.journal.lock import is_locked, published
from vqa_async.journal.runfile import MERGING
from vqa_async.watch.events import progress_facts
from vqa_async.watch.frame import Frame, can_redraw
from vqa_async.watch.observed import observed
from vqa_async.watch.panel import panel
from vqa_async.watch.plain import plain_line
from vqa_async.watch.published import snapshot_from
from vqa_async.watch.snapshot import Snapshot, host_of
from vqa_async.watch.words import duration, money, rate

WATCH_EVERY_S = 0.5
PLAIN_EVERY_S = 10.0

SURVEY_EVERY_S = 5.0
"""Where the files must be read through for each look: no oftener than this, nor than a tenth of the time."""


def show_status(output: Path, *, json: bool) -> int:
    """Print how ``output`` stands."""
    paths = JournalPaths.of(output)
    found = survey(paths)
    left = run_sync(lambda: left_of(found))
    live = _live(paths, found, left)
    if json:
        emit(orjson.dumps(_facts(found, left, live), option=orjson.OPT_INDENT_2).decode())
    else:
        emit("\n".join(table(_rows(paths, found, left, live))))
    return 0


def watch_status(output: Path, *, json: bool) -> int:
    """Follow ``output`` until nobody writes it any more, then print how it stands."""
    paths, console = JournalPaths.of(output), open_console()
    if not is_locked(paths.lock):
        return show_status(output, json=json)
    if can_redraw(console):
        _follow(paths, console)
    else:
        _tell_now_and_then(paths, console)
    return show_status(output, json=json)


def _follow(paths: JournalPaths, console: Console) -> None:
    looks, unicode = _Looks(paths), console.encoding.startswith("utf")
    with Frame(console) as frame:
        while is_locked(paths.lock):
            size, snapshot = console.size, looks.look()
            if snapshot is not None:
                frame.draw(panel(snapshot, size.width - 1, size.height - 1, unicode=unicode))
            time.sleep(WATCH_EVERY_S)  # nothing tells another process of a change in a file, portably


def _tell_now_and_then(paths: JournalPaths, console: Console) -> None:
    looks, told_at = _Looks(paths), time.monotonic() - PLAIN_EVERY_S
    while is_locked(paths.lock):
        if time.monotonic() - told_at >= PLAIN_EVERY_S and (snapshot := looks.look()) is not None:
            told_at = time.monotonic()
            say(console, plain_line(snapshot))
        time.sleep(WATCH_EVERY_S)


class _Looks:
    """Looks at an output that is being written: what is published of it, else its files, not too often."""

    def __init__(self, paths: JournalPaths) -> None:
        self._paths = paths
        self._last: Snapshot | None = None
        self._next_at = 0.0
        self._left: int | None = None

    def look(self) -> Snapshot | None:
        snapshot = _published(self._paths)
        if snapshot is not None or time.monotonic() < self._next_at:
            return snapshot or self._last
        began = time.monotonic()
        found = survey(self._paths)
        left = run_sync(lambda: left_of(found))
        self._last = observed(found, left, now=time.time(), title=self._paths.successes.name)
        now = time.monotonic()
        self._next_at = now + max(SURVEY_EVERY_S, 10 * (now - began))
        return self._last


def _published(paths: JournalPaths) -> Snapshot | None:
    facts = published(paths.lock)
    return snapshot_from(facts, title=paths.successes.name) if facts else None


def _live(paths: JournalPaths, found: Survey, left: int | None) -> Snapshot | None:
    """How it goes on, where it does."""
    if not found.is_running:
        return None
    return _published(paths) or observed(found, left, now=time.time(), title=paths.successes.name)


def _state(found: Survey) -> str:
    if found.is_running:
        return f"running (process {found.run.get('pid', 'unknown')})"
    state = str(found.run.get("state", "unknown"))
    if state == MERGING:
        return "merging: that was interrupted, run the same merge again"
    return "killed: run the same command again to go on" if state == "running" else state


def _since(found: Survey) -> str:
    """When the last run began, and how long it took or has taken."""
    began, ended = found.run.get("started_at"), found.run.get("ended_at")
    if not isinstance(began, float | int):
        return ""
    said = datetime.fromtimestamp(began).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if found.is_running:
        return f"{said}, {duration(max(0.0, time.time() - began))} ago"
    return f"{said}, for {duration(max(0.0, ended - began))}" if isinstance(ended, float | int) else said


def _shown_left(found: Survey, left: int | None) -> str:
    if left is None:
        return "unknown: the input cannot be read from here"
    limit = found.run.get("limit")
    return f"{left:,} (the last run took only the first {limit:,})" if left and limit else f"{left:,}"


def _rows(paths: JournalPaths, found: Survey, left: int | None, live: Snapshot | None) -> list[Row]:
    kinds = ", ".join(f"{count:,} {code}" for code, count in found.failures_by_type.most_common())
    rows = [
        ("State", _state(found)),
        ("Started", _since(found)),
        ("Done", f"{found.replayed.succeeded:,}"),
        ("Failed", f"{found.failed:,}{f' ({kinds})' if kinds else ''}"),
        *(("", said) for _, said in failure_rows(found.failures_by_type)),
        ("Left", _shown_left(found, left)),
        *(_live_rows(live) if live else _last_rows(found)),
        ("Tokens", f"{found.prompt_tokens:,} in, {found.completion_tokens:,} out"),
        *_endpoint_rows(found),
    ]
    if found.in_batches:
        rows.append(
            ("Batches", f"{found.in_batches:,} records wait in batches; see 'vqa-async batch status'")
        )
    if found.failed:
        rows.append(("Next run", f"tries {found.retryable:,} of the failed again; --retry-failed tries all"))
    if (reason := found.run.get("reason")) and not live:
        rows.append(("Stopped", str(reason)))
    if found.unreadable:
        rows.append(("Damage", f"{found.unreadable:,} lines are not as they were written"))
    rows.append(("Files", str(paths.successes)))
    rows += [("", str(path)) for path in (paths.failures, paths.damaged, paths.run) if path.exists()]
    return [row for row in rows if row[1]]


def _live_rows(live: Snapshot) -> list[Row]:
    errors = ", ".join(f"{e.failed + e.retried:,} {e.code}" for e in live.errors)
    held = "" if live.in_flight is None else f"{live.in_flight:,} of {live.width:,}"
    return [
        ("Rate", f"{rate(live.speed.now)} now, {rate(live.speed.overall)} overall"),
        ("Time left", "" if live.time_left is None else str(live.time_left)),
        ("In flight", held),
        ("Waits for", live.waits_for),
        ("Retried", f"{live.retried:,}" if live.retried else ""),
        ("Errors", errors),
        ("Cost", "" if live.cost is None else f"{money(live.cost)} in this run"),
    ]


def _last_rows(found: Survey) -> list[Row]:
    """Counters that the last run left behind."""
    counts = found.run.get("counts")
    if not isinstance(counts, dict) or not counts.get("elapsed_s"):
        return []
    cost, finished = counts.get("cost"), counts.get("succeeded", 0) + counts.get("failed", 0)
    return [
        ("Rate", f"{rate(finished / counts['elapsed_s'])} in the last run" if finished else ""),
        ("Retried", f"{counts['retries']:,} in the last run" if counts.get("retries") else ""),
        ("Cost", "" if cost is None else f"{money(cost)} in the last run"),
    ]


def _endpoint_rows(found: Survey) -> list[Row]:
    said = [
        f"{host_of(url)}: {answers:,} answered, {duration(seconds / answers)} each"
        for url, (answers, seconds) in sorted(found.endpoints.items(), key=lambda item: -item[1][0])
    ]
    return [("Endpoints" if at == 0 else "", line) for at, line in enumerate(said[:8])]


def _facts(found: Survey, left: int | None, live: Snapshot | None) -> dict[str, Any]:
    return {
        "state": _state(found).split(" ")[0].rstrip(":"),
        "reason": found.run.get("reason") or None,
        "started_at": found.run.get("started_at"),
        "ended_at": found.run.get("ended_at"),
        "done": found.replayed.succeeded,
        "failed": found.failed,
        "failures_by_type": dict(found.failures_by_type),
        "retryable": found.retryable,
        "in_batches": found.in_batches,
        "left": left,
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.completion_tokens,
        "cost": live.cost if live else (found.run.get("counts") or {}).get("cost"),
        "endpoints": {url: answers for url, (answers, _) in found.endpoints.items()},
        "progress": progress_facts(live) if live else None,
        "unreadable_lines": found.unreadable,
        "settings": found.run.get("settings", {}),
        "input": found.run.get("input"),
    }
