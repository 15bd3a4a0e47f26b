"""`vqa-async serve`: the embedded endpoint in the foreground, until a signal."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Annotated

from cyclopts import Parameter

from vqa_async.api import run_sync
from vqa_async.cli.console import emit, open_console, say
from vqa_async.cli.signals import interrupts
from vqa_async.server import ServerOptions, serve_forever

PORT = 8000
"""One that people can type; tests and the demo take a free one."""


def announce_loading() -> None:
    """Say that the OCR model is being loaded; ConfigError where there is none."""
    from vqa_async.server.reader import require_ocr

    require_ocr()
    say(open_console(), "Loading the OCR model, which takes a few seconds ...")


def serve(*, options: Annotated[ServerOptions, Parameter(name="*")] = ServerOptions()) -> int:
    """Run the embedded OpenAI-compatible endpoint: it measures pixels and is no model. Ends with Ctrl-C.

    For the demo, tests and benchmarks. It answers from what the pixels say (size, colours, brightness; with
    --ocr also the text), and misbehaves to order.
    """
    # A signal is how it is meant to end: exit code 0.
    if options.port is None:
        options = dataclasses.replace(options, port=PORT)

    if options.ocr:
        announce_loading()

    def ready(base_url: str) -> None:
        emit(base_url)
        does = "reads text besides, and is no vision model" if options.ocr else "is no model"
        say(
            open_console(),
            f"Serving {', '.join(options.model)}. It measures pixels and {does}. Ctrl-C ends it.",
        )

    async def main() -> None:
        task = asyncio.create_task(serve_forever(options, ready))
        with interrupts(lambda _: _cancel(task), lambda: _cancel(task)) as seen:
            try:
                await task
            except asyncio.CancelledError:
                if seen.first is None:
                    raise

    run_sync(main)
    return 0


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
