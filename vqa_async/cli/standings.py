"""`vqa-async status` of several outputs, such as those of shards: a row each, and their sum."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from vqa_async.api import run_sync
from vqa_async.chat import printable
from vqa_async.cli.console import emit
from vqa_async.cli.last_input import left_of
from vqa_async.journal import JournalPaths, Survey, survey
from vqa_async.merging import named_parts

_COLUMNS = ("Output", "Shard", "State", "Done", "Failed", "Left", "Rate")
_MERGED = "merged"


@dataclass(frozen=True, slots=True)
class Standing:
    """How one of the outputs stands.

    Attributes:
        output: its path.
        shard: as its run was told, "" where it takes all; "merged" where it was merged.
        state: running, killed, finished, stopped, interrupted, merging or unknown.
        reason: what stopped it, "" where nothing did.
        done, failed: records by their newest result.
        left: records of its part of the input without either; None where the input cannot be read.
        rate_s: answers a second, over its last run; None where it is not known.
    """

    output: str
    shard: str
    state: str
    reason: str
    done: int
    failed: int
    left: int | None
    rate_s: float | None


def several(names: list[Path]) -> list[JournalPaths]:
    """The outputs, where they are more than one; else none."""
    if len(names) == 1 and (names[0].exists() or not any(mark in str(names[0]) for mark in "*?[")):
        return []
    return named_parts(names)


def show_standings(outputs: list[JournalPaths], *, json: bool) -> int:
    """Print how ``outputs`` stand."""
    standings = [_standing(paths) for paths in outputs]
    standings.sort(
        key=lambda one: [int(number) for number in one.shard.split("/") if number.isdecimal()][::-1]
    )
    # Beside its own parts a merged output would be counted twice.
    total = _total([one for one in standings if one.shard != _MERGED] or standings)
    if json:
        facts = {"outputs": [asdict(one) for one in standings], "total": total}
        emit(orjson.dumps(facts, option=orjson.OPT_INDENT_2).decode())
    else:
        emit("\n".join(_lines(standings, total)))
    return 0


def _standing(paths: JournalPaths) -> Standing:
    found = survey(paths)
    run = found.run
    state = str(run.get("state", "unknown"))
    if found.is_running or state == "running":
        state = "running" if found.is_running else "killed"
    return Standing(
        output=str(paths.successes),
        shard=_shard(run),
        state=state,
        reason="" if state in ("running", "killed") else str(run.get("reason") or ""),
        done=found.replayed.succeeded,
        failed=found.failed,
        left=run_sync(lambda: left_of(found)),
        rate_s=_rate(found),
    )


def _shard(run: dict[str, Any]) -> str:
    selection = run.get("selection")
    if "merged_from" in run:
        return _MERGED
    return str(selection.get("shard", "")) if isinstance(selection, dict) else ""


def _rate(found: Survey) -> float | None:
    """From the run file, which tells no more than the beginning of a run that goes on: then since that."""
    counts, started_at = found.run.get("counts"), found.run.get("started_at")
    if isinstance(counts, dict):
        answered, seconds = counts.get("succeeded", 0), counts.get("elapsed_s", 0)
    elif found.is_running and isinstance(started_at, int | float):
        answered, seconds = found.since_start, time.time() - started_at
    else:
        return None
    return round(answered / seconds, 2) if seconds > 0 else None


def _total(standings: list[Standing]) -> dict[str, Any]:
    lefts = [one.left for one in standings]
    running = [one.rate_s for one in standings if one.state == "running" and one.rate_s is not None]
    return {
        "outputs": len(standings),
        "states": {s: sum(one.state == s for one in standings) for s in {one.state: 0 for one in standings}},
        "done": sum(one.done for one in standings),
        "failed": sum(one.failed for one in standings),
        "left": None if None in lefts else sum(left or 0 for left in lefts),
        "rate_s": round(sum(running), 2) if running else None,
    }


def _lines(standings: list[Standing], total: dict[str, Any]) -> list[str]:
    rows = [_COLUMNS, *(_row(one) for one in standings)]
    states = ", ".join(f"{count} {state}" for state, count in total["states"].items())
    sums = (f"{total['done']:,}", f"{total['failed']:,}", _shown(total["left"]), _per_s(total["rate_s"]))
    rows.append(("Sum", f"{total['outputs']:,}", states, *sums))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if at < 3 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    stopped = [f"{printable(one.output)}: {printable(one.reason)}" for one in standings if one.reason]
    killed = [
        f"{printable(one.output)}: killed; run its command again"
        for one in standings
        if one.state == "killed"
    ]
    return [*lines, *stopped, *killed]


def _row(one: Standing) -> tuple[str, ...]:
    return (
        printable(Path(one.output).name),
        one.shard or "-",
        printable(one.state),
        f"{one.done:,}",
        f"{one.failed:,}",
        _shown(one.left),
        _per_s(one.rate_s),
    )


def _shown(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


def _per_s(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.1f}/s"
