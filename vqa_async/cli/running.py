"""`vqa-async run`: an engine, a display, signals, and one summary at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

import orjson
from rich.console import Console

from vqa_async.api import open_engine, run_sync
from vqa_async.cli.console import emit, open_console, say
from vqa_async.cli.exits import EXIT_STOPPED
from vqa_async.cli.live_page import Watching, beside
from vqa_async.cli.logging import logged
from vqa_async.cli.reviewing import review_line
from vqa_async.cli.signals import Interrupts, interrupts
from vqa_async.cli.startup import raise_descriptor_limit
from vqa_async.cli.texts import as_json, ending, exit_code, in_short
from vqa_async.config import Config
from vqa_async.engine import Engine, RunSummary
from vqa_async.errors import ConfigError
from vqa_async.sources import InputFormat
from vqa_async.stages import Stages, has_stages
from vqa_async.watch.display import Display, Form
from vqa_async.watch.saying import say_as_it_is
from vqa_async.watchers import watched


class Stoppable(Protocol):
    """What runs and can be told to end."""

    @property
    def is_running(self) -> bool: ...

    def stop(self, reason: str) -> None: ...

    def abort(self) -> None: ...


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
    events: Form = "text",
    again: str = "",
) -> int:
    """Run the job; returns the exit code. ``again`` is the command that was typed, see ``finish``."""
    raise_descriptor_limit()
    console = open_console()
    display = Display(console, quiet=quiet, form=events)

    async def main(config: Config) -> tuple[RunSummary | None, Interrupts]:
        if config.distribution.engine == "ray":
            from vqa_async.distributed import DistributedRun

            if dashboard is not None:
                raise ConfigError("--dashboard does not go with --engine ray: look at what Ray serves.")
            distributed = DistributedRun(config, observer=display, watch=display.watching)
            job = distributed.run(input, str(output), limit=limit, format=format)
            return await interruptible(distributed, display, job)
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
        if events == "json":
            return _finish_json(display, summary, seen, json=json)
    return finish(console, summary, seen, json=json, quiet=quiet, again=again)


def _finish_json(display: Display, summary: RunSummary | None, seen: Interrupts, *, json: bool) -> int:
    """``finish`` for programs: the last event."""
    if summary is None:
        code = seen.exit_code or 130
        display.emit("finished", {"state": "interrupted", "exit_code": code, "succeeded": 0, "failed": 0})
        return code
    code = _code(summary, seen)
    display.emit("finished", as_json(summary, code))
    _hand_over(summary, code, json=json)
    return code


def finish(
    console: Console,
    summary: RunSummary | None,
    seen: Interrupts,
    *,
    json: bool,
    quiet: bool,
    again: str = "",
) -> int:
    """Say how it ended and hand the results over; returns the exit code.

    Args:
        again: the command that was typed, to be shown with ``--retry-failed``.
    """
    if summary is None:  # a signal came before anything was sent
        say(
            console, "Interrupted before the first request. Next: run the same command again to go on.", "red"
        )
        return seen.exit_code or 130
    code = _code(summary, seen)
    if not quiet or code:
        _tell(console, summary, code, again)
    _hand_over(summary, code, json=json)
    return code


def _code(summary: RunSummary, seen: Interrupts) -> int:
    code = exit_code(summary)
    return seen.exit_code if code == EXIT_STOPPED and seen.exit_code else code


async def interruptible(
    engine: Stoppable, display: Display, job: Coroutine[Any, Any, RunSummary]
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


def _tell(console: Console, summary: RunSummary, code: int, again: str) -> None:
    """How it ended, for people."""
    style = {0: "green", 1: "yellow"}.get(code, "red")
    first, *rest = ending(summary, again=again, more=_stage_lines(summary))
    say(console, first, style)
    for line in rest:
        say_as_it_is(console, line)


def _stage_lines(summary: RunSummary) -> list[str]:
    verification, review = summary.verification, summary.review
    lines = [f"Verification: {line}" for line in in_short(verification)] if verification else []
    return lines + ([review_line(review)] if review else [])


def _hand_over(summary: RunSummary, code: int, *, json: bool) -> None:
    """The results: where they are, or the summary for programs."""
    if json:
        emit(orjson.dumps(as_json(summary, code), option=orjson.OPT_INDENT_2).decode())
        return
    emit(summary.paths.successes)
    if summary.statistics.failed or summary.statistics.skipped_failed:
        emit(summary.paths.failures)
