"""What `check` finds in an input: every record and image is looked at, tokens are estimated."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rich.console import Console

from vqa_async.cli.console import say
from vqa_async.config import Config, ImageOptions
from vqa_async.errors import ImageError
from vqa_async.images import check_image
from vqa_async.models import Failure, Record
from vqa_async.prompts import Asking
from vqa_async.sources import Source
from vqa_async.tokens import TokenEstimator, estimate_text, image_rule

SHOWN_PROBLEMS = 20
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Look:
    """What one good record holds.

    Attributes:
        record: which one.
        images: its images that were looked at.
        urls: its images that are handed to the endpoint as URLs, and not looked at.
        text_tokens, image_tokens: estimates for its conversation.
        system_tokens: the same for the system prompt that is sent with it, 0 where it has its own.
    """

    record: Record
    images: int
    urls: int
    text_tokens: int
    image_tokens: int
    system_tokens: int

    @property
    def prompt_tokens(self) -> int:
        """All that is sent for it, as estimated."""
        return self.text_tokens + self.image_tokens + self.system_tokens


@dataclass(slots=True)
class Findings:
    """What a check has found.

    Attributes:
        rule: how images count, in words.
        records: records looked at.
        images, urls, text_tokens, image_tokens, system_tokens: sums over the good records, see ``Look``.
        problems: bad records by error code.
        first: the first good record, None where there is none.
    """

    rule: str
    records: int = 0
    images: int = 0
    urls: int = 0
    text_tokens: int = 0
    image_tokens: int = 0
    system_tokens: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    first: Look | None = None

    def add(self, look: Look) -> None:
        """Count a good record; they come in the order of the input."""
        self.first = self.first or look
        self.images += look.images
        self.urls += look.urls
        self.text_tokens += look.text_tokens
        self.image_tokens += look.image_tokens
        self.system_tokens += look.system_tokens

    @property
    def bad(self) -> int:
        """Records that cannot be asked about."""
        return self.problems.total()

    @property
    def good(self) -> int:
        """Records that can."""
        return self.records - self.bad

    @property
    def prompt_tokens(self) -> int:
        """All that is sent for the good records, as estimated."""
        return self.text_tokens + self.image_tokens + self.system_tokens


class _Measure:
    """By what records are measured. Used from several threads: nothing in it changes."""

    def __init__(self, config: Config, model: str, system: str) -> None:
        self._options: ImageOptions = config.images
        self._tokens = TokenEstimator(model, detail=config.images.detail)
        self._system_tokens = estimate_text(system)

    def look(self, record: Record) -> Look | ImageError:
        """What ``record`` holds, or why one of its images cannot be sent. Blocks."""
        try:
            sizes = self._sizes(record)
        except ImageError as error:
            return error
        urls = sizes.count(_UNSEEN)
        return Look(
            record=record,
            images=len(sizes) - urls,
            urls=urls,
            text_tokens=_text_tokens(record),
            image_tokens=round(self._tokens.estimate(0, sizes).prompt) if sizes else 0,
            system_tokens=self._system(record),
        )

    def _system(self, record: Record) -> int:
        if any(message.role == "system" for message in record.messages):
            return 0
        own = record.asked.system if record.asked is not None else None
        return self._system_tokens if own is None else estimate_text(own)

    def _sizes(self, record: Record) -> list[tuple[int, int]]:
        sizes = []
        for ref in record.images:
            if ref.kind == "url":
                sizes.append(_UNSEEN)
                continue
            image = check_image(ref, record.folder, self._options)
            sizes.append((image.width, image.height))
        return sizes


_UNSEEN = (0, 0)
"""Size of an image that is not looked at."""


def _text_tokens(record: Record) -> int:
    texts = (part for m in record.messages for part in m.parts if isinstance(part, str))
    return sum(map(estimate_text, texts))


async def look_at(source: Source, config: Config, asking: Asking, console: Console) -> Findings:
    """Look at every record of ``source``; the first problems are said on ``console``.

    Raises:
        InputError: the input as a whole cannot be read.
    """
    model = config.all_endpoints()[0].model
    findings = Findings(image_rule(model)[0])
    measure = _Measure(config, model, asking.system)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        async with source:
            batch: list[Record] = []
            async for item in source:
                findings.records += 1
                if isinstance(item, Failure):
                    _problem(findings, console, item.error.code, item.error.message)
                else:
                    batch.append(item)
                if len(batch) >= _BATCH:
                    await _look_at_all(batch, measure, findings, console, threads)
                    batch.clear()
            await _look_at_all(batch, measure, findings, console, threads)
    return findings


async def _look_at_all(
    records: list[Record],
    measure: _Measure,
    findings: Findings,
    console: Console,
    threads: ThreadPoolExecutor,
) -> None:
    loop = asyncio.get_running_loop()
    looks = [loop.run_in_executor(threads, measure.look, record) for record in records]
    for look in looks:
        outcome = await look
        if isinstance(outcome, Look):
            findings.add(outcome)
        else:
            _problem(findings, console, outcome.code, outcome.message)


def _problem(findings: Findings, console: Console, code: str, message: str) -> None:
    findings.problems[code] += 1
    if findings.bad <= SHOWN_PROBLEMS:
        say(console, message, "red")
    elif findings.bad == SHOWN_PROBLEMS + 1:
        say(console, "More problems are only counted.")


def findings_lines(f: Findings) -> list[str]:
    """What was found, for people."""
    kinds = ", ".join(f"{count:,} {code}" for code, count in f.problems.most_common())
    lines = [
        f"Records    {f.records:,}",
        f"Good       {f.good:,}",
        f"Bad        {f.bad:,}{f' ({kinds})' if kinds else ''}",
        f"Images     {f.images:,}{f' and {f.urls:,} by URL, not looked at' if f.urls else ''}",
        f"Tokens     about {f.prompt_tokens:,} in: {f.text_tokens:,} of text, "
        f"{f.image_tokens:,} of images, {f.system_tokens:,} of the system prompt",
    ]
    if f.images or f.urls:
        unseen = ", those by URL as 1024 x 1024" if f.urls else ""
        lines.append(f"           Images count by {f.rule}{unseen}.")
    return lines


def findings_json(f: Findings) -> dict[str, object]:
    """The same for programs."""
    return {
        "records": f.records,
        "good": f.good,
        "bad": f.bad,
        "problems": dict(f.problems),
        "images": f.images,
        "image_urls": f.urls,
        "image_rule": f.rule,
        "estimated_text_tokens": f.text_tokens,
        "estimated_image_tokens": f.image_tokens,
        "estimated_system_tokens": f.system_tokens,
    }
