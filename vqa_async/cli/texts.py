"""What is said at the end of a run, for people and as JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vqa_async.cli.exits import EXIT_OK, EXIT_SOME_FAILED, EXIT_STOPPED
from vqa_async.engine import RunSummary
from vqa_async.errors import BudgetReached, RateLimited, ServerError, VQAError
from vqa_async.events import RunStatistics
from vqa_async.quality import Review


def exit_code(summary: RunSummary) -> int:
    """0 all answered, 1 some failed, 3 stopped early; the worse of a run and its verification."""
    if summary.verification is not None:
        return max(exit_code(replace(summary, verification=None)), exit_code(summary.verification))
    if summary.state != "finished":
        return EXIT_STOPPED
    return EXIT_OK if summary.ok else EXIT_SOME_FAILED


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: int, noun: str) -> str:
    """``number`` of a thing: 1 request, 2 requests."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def ending(summary: RunSummary) -> list[str]:
    """The lines that close a run: one fact each, what to do next at the end."""
    s = summary.statistics
    if summary.state == "finished" and summary.reason and not s.seen:
        return [f"Done: {summary.reason}, from earlier runs."]
    earlier = f", {s.skipped - s.skipped_failed:,} answered before" if s.skipped > s.skipped_failed else ""
    lines = [
        f"{_headline(summary)}: {s.succeeded:,} answered{earlier}, {_failed(s)} in {duration(s.elapsed_s)}."
    ]
    if s.prompt_tokens or s.completion_tokens:
        lines.append(f"Tokens: {s.prompt_tokens:,} in, {s.completion_tokens:,} out.{_cost(s)}")
    if s.truncated:
        lines.append(f"Cut off: {count(s.truncated, 'answer')} at max_tokens, marked 'truncated' in _meta.")
    if s.failed or s.skipped_failed:
        lines.append(f"Failures: {summary.paths.failures}")
    if summary.state == "finished" and summary.reason:
        lines.append(f"Ended because {summary.reason}.")
    if summary.state == "stopped":
        lines.append(f"Cause: {summary.reason}")
    if next_step := _next_step(summary):
        lines.append(f"Next: {next_step}")
    return lines


def _cost(s: RunStatistics) -> str:
    return "" if s.cost is None else f" Cost: {money(s.cost)}, with {count(s.requests, 'request')}."


def money(dollars: float) -> str:
    """US dollars, with cents at least, and more places for less."""
    places = 2 if dollars >= 1 else 4
    return f"${dollars:,.{places}f}"


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
