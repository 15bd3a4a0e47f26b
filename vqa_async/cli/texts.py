"""What is said at the end of a run, for people and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vqa_async.chat import printable
from vqa_async.cli.exits import EXIT_OK, EXIT_SOME_FAILED, EXIT_STOPPED
from vqa_async.cli.facts import Row, failure_rows, table
from vqa_async.engine import RunSummary
from vqa_async.errors import BudgetReached, RateLimited, ServerError, VQAError
from vqa_async.events import RunStatistics
from vqa_async.journal import JournalPaths
from vqa_async.quality import Review
from vqa_async.watch.words import count, duration, money, rate


def exit_code(summary: RunSummary) -> int:
    """0 all answered, 1 some failed, 3 stopped early; the worse of a run and its verification."""
    if summary.verification is not None:
        return max(exit_code(replace(summary, verification=None)), exit_code(summary.verification))
    if summary.state != "finished":
        return EXIT_STOPPED
    return EXIT_OK if summary.ok else EXIT_SOME_FAILED


def ending(summary: RunSummary, *, again: str = "", more: Sequence[str] = ()) -> list[str]:
    """The lines that close a run: how it ended, a table of facts, what to do next at the end.

    Args:
        again: the command that was given, without ``--retry-failed``; "" where there was none.
        more: lines about what came after the run.
    """
    s = summary.statistics
    if summary.state == "finished" and summary.reason and not s.seen:
        return [printable(line) for line in (f"Done: {summary.reason}, from earlier runs.", *more)]
    return [
        headline(summary),
        *table(closing_rows(summary)),
        *(printable(line) for line in (*_why(summary), *more)),
        *_below("Next: ", [printable(step) for step in next_steps(summary, again)]),
    ]


def _below(first: str, lines: Sequence[str]) -> list[str]:
    """The lines, the first of them after a word."""
    return [f"{first if at == 0 else ' ' * len(first)}{line}" for at, line in enumerate(lines)]


def in_short(summary: RunSummary) -> list[str]:
    """The same without the table, for a stage that followed another."""
    s = summary.statistics
    tokens = f"{_tokens(s)}, {count(s.requests, 'request')}." if s.requests else ""
    steps = [f"Next: {step}" for step in [_next_step(summary)] if step]
    return [line for line in (headline(summary), tokens, *_why(summary), *steps) if line]


def _why(summary: RunSummary) -> list[str]:
    if summary.state == "finished" and summary.reason:
        return [f"Ended because {summary.reason}."]
    return [f"Cause: {summary.reason}"] if summary.state == "stopped" else []


def headline(summary: RunSummary) -> str:
    """How it ended, in a line."""
    s = summary.statistics
    earlier = f", {s.skipped - s.skipped_failed:,} answered before" if s.skipped > s.skipped_failed else ""
    return (
        f"{_headline(summary)}: {s.succeeded:,} answered{earlier}, {_failed(s)} in {duration(s.elapsed_s)}."
    )


def closing_rows(summary: RunSummary) -> list[Row]:
    """The facts of a run that is over."""
    s = summary.statistics
    rows = [
        ("Answered", f"{s.succeeded:,}{_pace(s)}"),
        ("Before", f"{s.skipped - s.skipped_failed:,}" if s.skipped > s.skipped_failed else ""),
        *failure_rows(s.failures_by_type),
        ("", f"{s.skipped_failed:,} before: --retry-failed tries them again" if s.skipped_failed else ""),
        ("Retried", count(s.retries, "attempt") if s.retries else ""),
        ("Cut off", f"{_cut_off(s)} at max_tokens, marked 'truncated' in _meta" if s.truncated else ""),
        ("Requests", f"{s.requests:,}" if s.requests else ""),
        ("Tokens", _tokens(s) if s.prompt_tokens or s.completion_tokens else ""),
        ("Cost", _cost(s)),
        ("Time", duration(s.elapsed_s)),
        *file_rows(summary.paths, has_failures=bool(s.failed or s.skipped_failed)),
    ]
    if s.skipped_failed and not s.failed:
        rows = [("Failed" if said.endswith("again") and not name else name, said) for name, said in rows]
    return [row for row in rows if row[1]]


def _pace(s: RunStatistics) -> str:
    return f", {rate(s.succeeded / s.elapsed_s)}" if s.succeeded and s.elapsed_s > 0 else ""


def _cut_off(s: RunStatistics) -> str:
    return count(s.truncated, "answer")


def _tokens(s: RunStatistics) -> str:
    return f"{s.prompt_tokens:,} in, {s.completion_tokens:,} out"


def _cost(s: RunStatistics) -> str:
    return "" if s.cost is None else money(s.cost)


def file_rows(paths: JournalPaths, *, has_failures: bool) -> list[Row]:
    """The files of an output that are there."""
    rows = [("Files", f"{_near(paths.successes)} (answers)")]
    if has_failures:
        rows.append(("", f"{_near(paths.failures)} (failures)"))
    if paths.damaged.exists():
        rows.append(("", f"{_near(paths.damaged)} (damaged lines)"))
    return [*rows, ("", f"{_near(paths.run)} (settings, state)")]


def next_steps(summary: RunSummary, again: str) -> list[str]:
    """What to do next: a sentence where something is left, commands where there are answers."""
    s, out = summary.statistics, shlex.quote(_near(summary.paths.successes))
    steps = [_next_step(summary)] if _next_step(summary) else []
    if summary.state == "finished" and again:
        if s.failed or s.skipped_failed:
            steps.append(f"{again} --retry-failed")
        if s.succeeded or s.skipped > s.skipped_failed:
            stem = shlex.quote(_near(summary.paths.successes).removesuffix(".jsonl"))
            steps.append(f"vqa-async report {out} -o {stem}.html")
            steps.append(f"vqa-async export {out} -o {stem}.json")
    return steps


def _near(path: Path) -> str:
    """A path as it is typed here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _next_step(summary: RunSummary) -> str:
    s = summary.statistics
    if summary.state == "finished":
        if not s.failed + s.skipped_failed:
            return ""
        if s.failed_retryable:
            return (
                "the same command tries those failures again that may pass, and --retry-failed all of them."
            )
        return "--retry-failed tries the failures again, which are for good unless the input is mended."
    if isinstance(summary.error, BudgetReached) and s.succeeded + s.skipped:
        return (
            "run the same command again to go on with as much again; every answer so far is in "
            f"{summary.paths.successes}."
        )
    if s.succeeded + s.skipped:
        return f"run the same command again to go on; every answer so far is in {summary.paths.successes}."
    passes = isinstance(summary.error, BudgetReached | RateLimited | ServerError)
    mended = "mend that and " if summary.state == "stopped" and not passes else ""
    return f"{mended}run the same command again; nothing is answered yet."


def _headline(summary: RunSummary) -> str:
    named = {"finished": "Done", "stopped": "Stopped early"}
    return named.get(summary.state) or summary.reason.rstrip(".") or "Interrupted"


def _failed(s: RunStatistics) -> str:
    kinds = ", ".join(f"{count:,} {code}" for code, count in sorted(s.failures_by_type.items()))
    before = f", {s.skipped_failed:,} failed before" if s.skipped_failed else ""
    return f"{s.failed:,} failed" + (f" ({kinds})" if kinds else "") + before


def as_json(summary: RunSummary, code: int) -> dict[str, Any]:
    """The summary of a run for programs."""
    s = summary.statistics
    return {
        "state": summary.state,
        "exit_code": code,
        "reason": summary.reason or None,
        "error": error_json(summary.error),
        "succeeded": s.succeeded,
        "failed": s.failed,
        "failures_by_type": s.failures_by_type,
        "skipped": s.skipped,
        "skipped_failed": s.skipped_failed,
        "retries": s.retries,
        "truncated": s.truncated,
        "prompt_tokens": s.prompt_tokens,
        "completion_tokens": s.completion_tokens,
        "requests": s.requests,
        "cost": None if s.cost is None else round(s.cost, 6),
        "elapsed_s": round(s.elapsed_s, 3),
        "output": str(summary.paths.successes),
        "failures": str(summary.paths.failures),
        "run": str(summary.paths.run),
        "run_id": summary.run_id,
    } | _stages_json(summary)


def _stages_json(summary: RunSummary) -> dict[str, Any]:
    stages: dict[str, Any] = {}
    if summary.verification is not None:
        stages["verification"] = as_json(summary.verification, exit_code(summary.verification))
    if summary.review is not None:
        stages["quality"] = review_json(summary.review)
    return stages


def review_json(review: Review) -> dict[str, Any]:
    """Kept and dropped, for programs."""
    return {
        "records": review.records,
        "accepted": review.accepted,
        "without_pairs": review.without_pairs,
        "pairs": review.pairs,
        "kept": review.kept,
        "dropped": review.dropped,
        "verified": review.verified,
        "reasons": dict(review.reasons.most_common()),
    }


def error_json(error: VQAError | None) -> dict[str, Any] | None:
    """An error for programs."""
    return (
        None
        if error is None
        else {"type": type(error).__name__, "code": error.code, "message": error.message}
    )
