"""Outputs to report on, made with the journal itself, and reports read back from their pages."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vqa_async.api import run_sync
from vqa_async.config import Config
from vqa_async.errors import ImageError, VQAError
from vqa_async.journal import Journal
from vqa_async.models import (
    Asked,
    Completion,
    Failure,
    Group,
    QAPair,
    Record,
    Result,
    Success,
    Usage,
)

ASK = [{"from": "human", "value": "Ask about it."}]
BEGAN = 1_700_000_000.0


def picture(path: Path, colour: tuple[int, int, int] = (255, 0, 0), size: tuple[int, int] = (64, 48)) -> str:
    """A small PNG of one colour; its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path.name


def lying(path: Path) -> str:
    """A JPEG whose EXIF says that it lies on its side: 60 x 30 as stored, upright 30 x 60."""
    exif = Image.Exif()
    exif[0x0112] = 6
    made = io.BytesIO()
    Image.new("RGB", (60, 30), (0, 128, 0)).save(made, "JPEG", exif=exif)
    path.write_bytes(made.getvalue())
    return path.name


def answered(
    n: int,
    row: dict[str, Any],
    pairs: Sequence[tuple[str, str] | tuple[str, str, tuple[str, ...]]] = (),
    text: str = "",
    **changes: Any,
) -> Success:
    """The answer to a row; ``style`` and ``group`` are what was asked, all else is of the answer."""
    found = tuple(QAPair(*pair) for pair in pairs)
    group, style = changes.pop("group", None), changes.pop("style", "")
    asked = Asked(style=style, group=group, question="Q?" if group else "") if style or group else None
    id = str(changes.pop("id", row.get("id", f"r{n}")))
    completion = Completion(
        text or "- Q: as in the pairs", changes.pop("model", "qwen-vl"), changes.pop("finish_reason", "stop"),
        Usage(100, 10),
    )  # fmt: skip
    values = {
        "endpoint": "http://models.example:8000/v1",
        "attempts": 1,
        "latency_s": 0.5 + n / 100,
        "finished_at": BEGAN + n,
        "request_digest": "00",
    } | changes
    return Success(Record(id, n, row, (), "", asked), completion, found, **values)


def failed(n: int, row: dict[str, Any], error: VQAError | None = None) -> Failure:
    """The failure of a row."""
    error = error or ImageError("Image 'x.png' was not found.", code="file_not_found")
    return Failure(Record(str(row.get("id", f"r{n}")), n, row, ()), error, 1, BEGAN)


def group(id: str, number: int, of: int) -> Group:
    """Which question of a row it is."""
    return Group(id, number, of)


def keep(
    output: Path, results: Iterable[Result], *, counts: dict[str, Any] | None = None, **options: Any
) -> Path:
    """The output of a run that gave these results."""

    async def main() -> None:
        config = Config.of(**{"model": "qwen-vl", "fsync": "never", **options})
        async with Journal(output, config, source=str(output.with_name("in.jsonl"))) as journal:
            for result in results:
                await journal.append(result)
            await journal.close("finished", "", counts or {})

    run_sync(main)  # also from a test that has a loop
    return output


def entries(page: Path) -> list[dict[str, Any]]:
    """The records that stand in a page."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(
        r'<script type="application/json" class="record-data">(.*?)</script>', text, re.DOTALL
    )
    return [entry for block in blocks for entry in json.loads(block)]


def copies(page: Path) -> list[str]:
    """The small images that stand in a page, as base64."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r'<script type="text/plain" class="image-data">(.*?)</script>', text, re.DOTALL)
    return [line for block in blocks for line in block.split("\n")]


def tiles(page: Path) -> dict[str, tuple[str, str]]:
    """The main figures of a page with their notes, by name."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r'<dt>(.*?)</dt><dd><b>(.*?)</b><span title=".*?">(.*?)</span>', text)
    return {name: (value, note) for name, value, note in found}
