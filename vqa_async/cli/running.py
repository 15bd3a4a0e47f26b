"""`vqa-async run`: an engine, a display, signals, and one summary at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import orjson
from rich.console import Console

from vqa_async.api import open_engine, run_sync
from vqa_async.cli.console import emit, open_console, say
from vqa_async.cli.exits import EXIT_STOPPED
from vqa_async.cli.live_page import Watching, beside
from vqa_async.cli.logging import logged
from vqa_async.cli.progress import Display
from vqa_async.cli.reviewing import review_line
from vqa_async.cli.signals import Interrupts, interrupts
from vqa_async.cli.startup import raise_descriptor_limit
from vqa_async.cli.texts import as_json, ending, exit_code
from vqa_async.config import Config
from vqa_async.engine import Engine, RunSummary
from vqa_async.sources import InputFormat
from vqa_async.stages import Stages, has_stages
from vqa_async.watchers import watched


def run_job(
    config: Config,
    input: str,
    output: object,
    *,
    limit: int | None,
    format: InputFormat,
    json: bool,
    quiet: bool,
    dashboard: int | None = None,
) -> int:
    """Run the job; returns the exit code."""
    raise_descriptor_limit()
    console = open_console()
    display = Display(console, quiet=quiet)

    async def main(config: Config) -> tuple[RunSummary | None, Interrupts]:
        async with (
            beside(display, console, dashboard) as (watchers, watching),
            watched(config, watchers) as (config, observer),
        ):
            if has_stages(config):
                stages = Stages(config, open_engine, observer=observer, watch=watching)
                job = stages.run(input, str(output), limit=limit, format=format, preflight=True)
                return await interruptible(stages, display, job)
            async with open_engine(config, observer=observer) as engine:
                return await interruptible(
                    engine, display, _watched(engine, watching, input, str(output), limit, format)
                )

    with logged(config, console) as config:
        summary, seen = run_sync(lambda: main(config))
    return finish(console, summary, seen, json=json, quiet=quiet)


def finish(console: Console, summary: RunSummary | None, seen: Interrupts, *, json: bool, quiet: bool) -> int:
    """Say how it ended and hand the results over; returns the exit code."""
    if summary is None:  # a signal came before anything was sent
        say(
            console, "Interrupted before the first request. Next: run the same command again to go on.", "red"
        )
        return seen.exit_code or 130
    code = exit_code(summary)
    if code == EXIT_STOPPED and seen.exit_code:
        code = seen.exit_code
    if not quiet or code:
        _tell(console, summary, code)
    _hand_over(summary, code, json=json)
    return code


async def interruptible(
    engine: Engine | Stages, display: Display, job: Coroutine[Any, Any, RunSummary]
) -> tuple[RunSummary | None, Interrupts]:
    """The job of ``engine``, with the first signal draining it and the second ending it."""
    task = asyncio.create_task(job)

    def drain(signal: str) -> None:
        if not engine.is_running:
            task.cancel()
        elif display.is_stopping:  # for another reason, and somebody has waited long enough
            engine.abort()
        else:
            engine.stop(f"Interrupted by {signal}")

    with interrupts(drain, engine.abort) as seen:
        try:
            return await task, seen
        except asyncio.CancelledError:
            if seen.first is None:
                raise
            return None, seen


async def _watched(
    engine: Engine, watching: Watching, input: str, output: str, limit: int | None, format: InputFormat
) -> RunSummary:
    async with watching(engine):
        return await engine.run(input, output, limit=limit, format=format, preflight=True)


def _tell(console: Console, summary: RunSummary, code: int) -> None:
    """How it ended, for people."""
    style = {0: "green", 1: "yellow"}.get(code, "red")
    first, *rest = ending(summary)
    say(console, first, style)
    for line in (*rest, *_stage_lines(summary)):
        say(console, line)


def _stage_lines(summary: RunSummary) -> list[str]:
    verification, review = summary.verification, summary.review
    lines = [f"Verification: {line}" for line in ending(verification)] if verification else []
    return lines + ([review_line(review)] if review else [])


def _hand_over(summary: RunSummary, code: int, *, json: bool) -> None:
    """The results: where they are, or the summary for programs."""
    if json:
        emit(orjson.dumps(as_json(summary, code), option=orjson.OPT_INDENT_2).decode())
        return
    emit(summary.paths.successes)
    if summary.statistics.failed or summary.statistics.skipped_failed:
        emit(summary.paths.failures)
