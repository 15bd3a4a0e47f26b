"""`vqa-async demo`: the whole way, from sample images to a data set and a page, on this machine alone."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console

from vqa_async.api import open_engine, run_sync
from vqa_async.cli.console import emit, open_console, say
from vqa_async.cli.progress import Display
from vqa_async.cli.texts import ending, exit_code
from vqa_async.engine import RunSummary
from vqa_async.errors import ConfigError
from vqa_async.export import export
from vqa_async.report import write_report
from vqa_async.server import running_server
from vqa_async.workspace import create_workspace

SAMPLE = Path("data") / "image_vqa" / "sample_data.json"


def run_demo(folder: Path) -> int:
    """Make the workspace, answer the sample data, export it, write the report; returns the exit code."""
    console = open_console()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The folder {folder} cannot be made: {error.strerror}. Choose another.") from None
    create_workspace(folder)
    output, exported, page = (folder / name for name in ("out.jsonl", "out.json", "report.html"))
    summary = run_sync(lambda: _answer(folder / SAMPLE, output, console))
    export(output, exported)
    write_report(output, page)
    for line in ending(summary):
        say(console, line)
    say(console, "The embedded endpoint measures pixels; it is no model. For answers of a model:")
    sample = shlex.quote(str(folder / SAMPLE))
    say(console, f"vqa-async run {sample} -o answers.jsonl --base-url http://HOST/v1 --model NAME")
    emit(output)
    emit(exported)
    emit(page)
    return exit_code(summary)


async def _answer(sample: Path, output: Path, console: Console) -> RunSummary:
    async with running_server() as server:
        say(console, f"Embedded endpoint: {server.base_url}")
        display = Display(console, quiet=False)
        # The base URL has another port each time; what must be the same to resume is the model.
        async with (
            open_engine(
                base_url=server.base_url, model="looks-1", api_key_env="", observer=display
            ) as engine,
            display.watching(engine),
        ):
            return await engine.run(str(sample), str(output))
