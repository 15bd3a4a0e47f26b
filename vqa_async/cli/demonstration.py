"""`vqa-async demo`: the whole way, from sample images to a data set and a page, on this machine alone."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console

from vqa_async.api import open_engine, run_sync
from vqa_async.cli.console import emit, open_console, say
from vqa_async.cli.serving import announce_loading
from vqa_async.cli.texts import ending, exit_code
from vqa_async.engine import RunSummary
from vqa_async.errors import ConfigError
from vqa_async.export import export
from vqa_async.report import write_report
from vqa_async.server import running_server
from vqa_async.watch.display import Display
from vqa_async.watch.saying import say_as_it_is
from vqa_async.workspace import create_workspace

DATA = Path("data") / "image_vqa"
SAMPLE = DATA / "sample_data.json"
_NO_MODEL = "The embedded endpoint measures pixels; it is no model. For answers of a model:"
_NO_VISION_MODEL = (
    "It measures pixels and reads text; it is a stand-in and no vision model. For answers of a model:"
)


def run_demo(folder: Path, *, ocr: bool = False) -> int:
    """Make the workspace, answer the sample data, export it, write the report; returns the exit code.

    With ``ocr`` the text on the images is read too, and the pictures with much text are asked about. That has
    an output of its own: what was answered without it is not answered again.
    """
    console = open_console()
    if ocr:
        announce_loading()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The folder {folder} cannot be made: {error.strerror}. Choose another.") from None
    create_workspace(folder)
    name = "ocr" if ocr else "out"
    output, exported = folder / f"{name}.jsonl", folder / f"{name}.json"
    page = folder / ("ocr.html" if ocr else "report.html")
    source = folder / DATA / "*.json" if ocr else folder / SAMPLE
    summary = run_sync(lambda: _answer(source, output, console, ocr=ocr))
    export(output, exported)
    write_report(output, page)
    for line in ending(summary):
        say_as_it_is(console, line)
    say(console, _NO_VISION_MODEL if ocr else _NO_MODEL)
    sample = shlex.quote(str(folder / SAMPLE))
    say(console, f"vqa-async run {sample} -o answers.jsonl --base-url http://HOST/v1 --model NAME")
    emit(output)
    emit(exported)
    emit(page)
    return exit_code(summary)


async def _answer(source: Path, output: Path, console: Console, *, ocr: bool) -> RunSummary:
    async with running_server(ocr=ocr) as server:
        say(console, f"Embedded endpoint: {server.base_url}")
        display = Display(console, quiet=False)
        # The base URL has another port each time; what must be the same to resume is the model.
        async with (
            open_engine(
                base_url=server.base_url, model="looks-1", api_key_env="", observer=display
            ) as engine,
            display.watching(engine),
        ):
            return await engine.run(str(source), str(output))
