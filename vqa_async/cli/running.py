"""`vqa-async run`: an engine, a display, signals, and one summary at the end."""

from __future__ import annotations

import asyncio

import orjson
from rich.console import Console
from rich.text import Text

from vqa_async.api import open_engine, run_sync
from vqa_async.chat import printable
from vqa_async.cli.progress import Display
from vqa_async.cli.signals import Interrupts, interrupts
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
    _raise_descriptor_limit()
    console = Console(stderr=True, highlight=False)
    display = Display(console, quiet=quiet)

    async def main() -> tuple[RunSummary | None, Interrupts]:
        async with open_engine(config, observer=display) as engine:
            return await _interruptible(engine, display, input, str(output), limit, format)

    summary, seen = run_sync(main)
    if summary is None:  # a signal came before anything was sent
        console.print("vqa-async: interrupted before the first request; run the same command again to go on.")
        return seen.exit_code or 130
    code = seen.exit_code or exit_code(summary)
    _report(console, summary, code, json=json)
    return code


async def _interruptible(
    engine: Engine, display: Display, input: str, output: str, limit: int | None, format: InputFormat
) -> tuple[RunSummary | None, Interrupts]:
    """The run, with the first signal draining it and the second ending it."""
    task = asyncio.create_task(_watched(engine, display, input, output, limit, format))

    def drain(signal: str) -> None:
        if engine.is_running:
            engine.stop(f"Interrupted by {signal}")
        else:
            task.cancel()

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
        return await engine.run(input, output, limit=limit, format=format)


def _report(console: Console, summary: RunSummary, code: int, *, json: bool) -> None:
    style = {0: "green", 1: "yellow"}.get(code, "red")
    first, *rest = ending(summary)
    console.print(Text(printable(first), style=style), soft_wrap=True)
    for line in rest:
        console.print(Text(printable(line)), soft_wrap=True)
    if json:
        print(orjson.dumps(as_json(summary, code), option=orjson.OPT_INDENT_2).decode())
        return
    print(summary.paths.successes)
    if summary.statistics.failed or summary.statistics.skipped_failed:
        print(summary.paths.failures)


def _raise_descriptor_limit() -> None:
    """As many open files as the system lets this process have: each request in flight is one."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        return  # then max_workers is fitted to what there is, and that is said
