"""`vqa-async verify`: only the second stage of an output, with what is kept of it afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from vqa_async.api import open_engine, run_sync
from vqa_async.cli.console import open_console
from vqa_async.cli.logging import logged
from vqa_async.cli.progress import Display
from vqa_async.cli.running import finish, interruptible
from vqa_async.cli.signals import Interrupts
from vqa_async.cli.startup import raise_descriptor_limit
from vqa_async.config import Config
from vqa_async.engine import RunSummary
from vqa_async.review import review
from vqa_async.stages import Stages
from vqa_async.watchers import watched


def verify_output(config: Config, output: Path, *, json: bool, quiet: bool) -> int:
    """Verify the pairs of ``output``; returns the exit code."""
    raise_descriptor_limit()
    console = open_console()
    display = Display(console, quiet=quiet)

    async def main(config: Config) -> tuple[RunSummary | None, Interrupts]:
        async with watched(config, display) as (config, observer):
            stages = Stages(config, open_engine, observer=observer, watch=display.watching)
            return await interruptible(stages, display, job(stages))

    async def job(stages: Stages) -> RunSummary:
        summary = await stages.verify(str(output), preflight=True)
        found = await asyncio.to_thread(review, output, config.quality, config.verification)
        return replace(summary, review=found)

    with logged(config, console) as config:
        summary, seen = run_sync(lambda: main(config))
    return finish(console, summary, seen, json=json, quiet=quiet)
