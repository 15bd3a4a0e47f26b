"""`vqa-async run`: an engine, a display, signals, and one summary at the end."""

from __future__ import annotations

import asyncio

import orjson
from rich.console import Console

from vqa_async.api import open_engine, run_sync
from vqa_async.cli.console import emit, open_console, say
from vqa_async.cli.progress import Display
from vqa_async.cli.signals import Interrupts, interrupts
from vqa_async.cli.startup import raise_descriptor_limit
from vqa_async.cli.texts import as_json, ending, exit_code
from vqa_async.config import Config
from vqa_async.engine import Engine, RunSummary
from vqa_async.sources import InputFormat


def run_job(
    config: Config,
    input: str,
    output: object,
    *,
    limit: int | None,
    format: InputFormat,
    json: bool,
    quiet: bool,
) -> int:
    """Run the job; returns the exit code."""
    raise_descriptor_limit()
    console = open_console()
    display = Display(console, quiet=quiet)

    async def main() -> tuple[RunSummary | None, Interrupts]:
        async with open_engine(config, observer=display) as engine:
            return await _interruptible(engine, display, input, str(output), limit, format)

    summary, seen = run_sync(main)
    if summary is None:  # a signal came before anything was sent
        say(
            console, "Interrupted before the first request. Next: run the same command again to go on.", "red"
        )
        return seen.exit_code or 130
    code = exit_code(summary)
    if summary.state != "finished" and seen.exit_code:
        code = seen.exit_code
    if not quiet or code:
        _tell(console, summary, code)
    _hand_over(summary, code, json=json)
    return code


async def _interruptible(
    engine: Engine, display: Display, input: str, output: str, limit: int | None, format: InputFormat
) -> tuple[RunSummary | None, Interrupts]:
    """The run, with the first signal draining it and the second ending it."""
    task = asyncio.create_task(_watched(engine, display, input, output, limit, format))

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
    engine: Engine, display: Display, input: str, output: str, limit: int | None, format: InputFormat
) -> RunSummary:
    async with display.watching(engine):
        return await engine.run(input, output, limit=limit, format=format, preflight=True)


def _tell(console: Console, summary: RunSummary, code: int) -> None:
    """How it ended, for people."""
    style = {0: "green", 1: "yellow"}.get(code, "red")
    first, *rest = ending(summary)
    say(console, first, style)
    for line in rest:
        say(console, line)


def _hand_over(summary: RunSummary, code: int, *, json: bool) -> None:
    """The results: where they are, or the summary for programs."""
    if json:
        emit(orjson.dumps(as_json(summary, code), option=orjson.OPT_INDENT_2).decode())
        return
    emit(summary.paths.successes)
    if summary.statistics.failed or summary.statistics.skipped_failed:
        emit(summary.paths.failures)
