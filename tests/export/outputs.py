"""Outputs of runs to export, made with the journal itself."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vqa_async.config import Config
from vqa_async.errors import ImageError, VQAError
from vqa_async.journal import Journal
from vqa_async.journal.codec import _line  # the only way to lines that other versions will write
from vqa_async.models import Completion, Failure, QAPair, Record, Result, Success, Usage
from vqa_async.qa import format_pairs

ASK = [{"from": "human", "value": "Ask about it."}]


def picture(path: Path, colour: tuple[int, int, int] = (255, 0, 0), format: str = "PNG") -> bytes:
    """A small image file of one colour; its bytes."""
    made = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(made, format)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.getvalue())
    return made.getvalue()


def answered(
    n: int, row: dict[str, Any], pairs: Sequence[tuple[str, str]] = (), text: str | None = None
) -> Success:
    """The answer to a row: these pairs, or a text without any."""
    found = tuple(QAPair(question, answer) for question, answer in pairs)
    return Success(
        Record(str(row.get("id", f"r{n}")), n, row, ()),
        Completion(format_pairs(found) if text is None else text, "qwen-vl", "stop", Usage(1, 2)),
        found,
        endpoint="http://models.example:8000/v1",
        attempts=1,
        latency_s=0.5,
        finished_at=1_700_000_000.0 + n,
        request_digest="00",
    )


def failed(n: int, row: dict[str, Any], error: VQAError | None = None) -> Failure:
    """The failure of a row."""
    error = error or ImageError("Image 'x.png' was not found.", code="file_not_found")
    return Failure(Record(str(row.get("id", f"r{n}")), n, row, ()), error, 0, 1_700_000_000.0)


def keep(output: Path, results: Iterable[Result], *, source: str = "", **options: Any) -> Path:
    """The output of a run that gave these results."""

    async def main() -> None:
        config = Config.of(**{"model": "qwen-vl", "fsync": "never", **options})
        async with Journal(output, config, source=source or str(output.with_name("in.jsonl"))) as journal:
            for result in results:
                await journal.append(result)
            await journal.close("finished", "", {})

    asyncio.run(main())
    return output


def add_line(path: Path, row: dict[str, Any], result: dict[str, Any], meta: dict[str, Any]) -> None:
    """A line with fields that this version does not write by itself."""
    with path.open("ab") as file:
        first = {"attempts": 0, "retryable": False} if "retryable" in meta else {"model": "qwen-vl"}
        file.write(_line(row, result, {"id": "x", "index": 0} | first | meta))


def json_lines(path: Path) -> list[Any]:
    """The values in a JSONL file, split at line feeds only."""
    return [json.loads(line) for line in path.read_bytes().decode("utf-8", "strict").split("\n")[:-1]]


PAIRS = {
    "one": [("What is it?", "A red square.")],
    "several": [
        ("Was ist größer, 🦊 or 猫?", 'The "fox", «said» he.\nOn two lines.'),
        ("Why?", "Because, of it."),
    ],
    "url": [("Where?", "On the web.")],
    "text": [("سؤال؟", "جواب"), ("Q\u2028Q", "a\tb"), ("Third?", "Yes")],
}
ALL_PAIRS = [pair for pairs in PAIRS.values() for pair in pairs]
