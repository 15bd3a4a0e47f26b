"""`vqa-async check`: every record and image is looked at, tokens are estimated, nothing is sent."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import orjson
from rich.console import Console

from vqa_async.api import run_sync
from vqa_async.cli.console import emit, open_console, say
from vqa_async.cli.exits import EXIT_OK, EXIT_SOME_FAILED
from vqa_async.config import Columns, ImageOptions
from vqa_async.errors import ConfigError, ImageError
from vqa_async.images import check_image
from vqa_async.models import Failure, Record
from vqa_async.sources import InputFormat, Source, open_source

SHOWN_PROBLEMS = 20
_BATCH = 256


@dataclass(slots=True)
class Findings:
    """What a check has found.

    Attributes:
        records: records looked at.
        images: images of good records.
        urls: images that are handed to the endpoint as URLs, and not looked at.
        problems: bad records by error code.
        text_tokens, image_tokens: estimates, see ``estimate_text`` and ``estimate_image``.
    """

    records: int = 0
    images: int = 0
    urls: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    text_tokens: int = 0
    image_tokens: int = 0


def estimate_text(text: str) -> int:
    """Tokens of a text, at four UTF-8 bytes a token: the rule of thumb for English, too many for none."""
    return -(-len(text.encode("utf-8", "replace")) // 4)


def estimate_image(width: int, height: int) -> int:
    """Tokens of an image by the published tile rule of OpenAI's GPT-4o family.

    Fitted into 2048 x 2048, then the shorter side to 768, then 170 for each tile of 512 x 512 and 85 more.
    Other models count otherwise; the usage that a run reports is what was really spent.
    """
    scale = min(1.0, 2048 / max(width, height))
    scale = min(scale, 768 / min(width, height) if min(width, height) else 1.0, 1.0)
    across, down = (-(-round(side * scale) // 512) for side in (width, height))
    return 85 + 170 * across * down


def check_input(
    input: str,
    columns: Columns,
    images: ImageOptions,
    *,
    prompt: str,
    limit: int | None,
    format: InputFormat,
    json: bool,
) -> int:
    """Check everything, print the findings; returns the exit code."""
    if limit is not None and limit < 1:
        raise ConfigError("limit must be at least 1.")
    console = open_console()
    source = open_source(input, columns, prompt=prompt, format=format)
    findings = run_sync(lambda: _look(source, images, limit, console))
    bad = findings.problems.total()
    if json:
        emit(orjson.dumps(_as_json(findings), option=orjson.OPT_INDENT_2).decode())
    else:
        emit("\n".join(_lines(findings)))
    return EXIT_SOME_FAILED if bad else EXIT_OK


async def _look(source: Source, options: ImageOptions, limit: int | None, console: Console) -> Findings:
    findings = Findings()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        async with source:
            batch: list[Record] = []
            async for item in source:
                findings.records += 1
                if isinstance(item, Failure):
                    _problem(findings, console, item.error.code, item.error.message)
                else:
                    batch.append(item)
                if len(batch) >= _BATCH or findings.records == limit:
                    await _look_at(batch, options, findings, console, loop, threads)
                    batch.clear()
                if findings.records == limit:
                    break
            await _look_at(batch, options, findings, console, loop, threads)
    return findings


async def _look_at(
    records: list[Record],
    options: ImageOptions,
    findings: Findings,
    console: Console,
    loop: asyncio.AbstractEventLoop,
    threads: ThreadPoolExecutor,
) -> None:
    looks = [loop.run_in_executor(threads, _look_at_one, record, options) for record in records]
    for look in looks:
        outcome = await look
        if isinstance(outcome, ImageError):
            _problem(findings, console, outcome.code, outcome.message)
            continue
        findings.images += outcome.images
        findings.urls += outcome.urls
        findings.text_tokens += outcome.text_tokens
        findings.image_tokens += outcome.image_tokens


def _look_at_one(record: Record, options: ImageOptions) -> Findings | ImageError:
    found = Findings(records=1)
    found.text_tokens = sum(
        estimate_text(part) for m in record.messages for part in m.parts if isinstance(part, str)
    )
    for ref in record.images:
        if ref.kind == "url":
            found.urls += 1
            continue
        try:
            image = check_image(ref, record.folder, options)
        except ImageError as error:
            return error
        found.images += 1
        found.image_tokens += estimate_image(image.width, image.height)
    return found


def _problem(findings: Findings, console: Console, code: str, message: str) -> None:
    findings.problems[code] += 1
    shown = findings.problems.total()
    if shown <= SHOWN_PROBLEMS:
        say(console, message, "red")
    elif shown == SHOWN_PROBLEMS + 1:
        say(console, "More problems are only counted.")


def _lines(f: Findings) -> list[str]:
    bad = f.problems.total()
    kinds = ", ".join(f"{count:,} {code}" for code, count in f.problems.most_common())
    return [
        f"Records    {f.records:,}",
        f"Good       {f.records - bad:,}",
        f"Bad        {bad:,}{f' ({kinds})' if kinds else ''}",
        f"Images     {f.images:,}{f' and {f.urls:,} by URL, not looked at' if f.urls else ''}",
        f"Tokens     about {f.text_tokens + f.image_tokens:,} in: {f.text_tokens:,} of text, "
        f"{f.image_tokens:,} of images",
        "           The system prompt is not counted. Images count by the tile rule of one model family.",
    ]


def _as_json(f: Findings) -> dict[str, object]:
    return {
        "records": f.records,
        "good": f.records - f.problems.total(),
        "bad": f.problems.total(),
        "problems": dict(f.problems),
        "images": f.images,
        "image_urls": f.urls,
        "estimated_text_tokens": f.text_tokens,
        "estimated_image_tokens": f.image_tokens,
    }
