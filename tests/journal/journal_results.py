"""Results to keep, and short ways to keep and read them, for the tests of the journal."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqa_async.config import Config
from vqa_async.errors import ImageError, ServerError, VQAError
from vqa_async.journal import Journal, JournalPaths
from vqa_async.models import Completion, Failure, QAPair, Record, Success, Usage

RETRYABLE = ServerError("The endpoint answered 503.", status=503, endpoint="http://localhost:8000/v1")
PERMANENT = ImageError("a.png: it is not an image.", code="not_an_image")


def record(n: int, row: Mapping[str, Any] | None = None, id: str | None = None) -> Record:
    return Record(f"r{n}" if id is None else id, n, {"image": [f"{n}.png"]} if row is None else row, ())


def success(
    n: int = 0,
    row: Mapping[str, Any] | None = None,
    *,
    id: str | None = None,
    text: str = "- Q: What?\n  A: This.",
    finish_reason: str = "stop",
) -> Success:
    return Success(
        record=record(n, row, id),
        completion=Completion(text, "qwen", finish_reason, Usage(10, 5)),
        pairs=(QAPair("What?", "This."),),
        endpoint="http://localhost:8000/v1",
        attempts=2,
        latency_s=0.123456,
        finished_at=1_700_000_000.12345,
        request_digest="00ff" * 8,
    )


def failure(
    n: int = 0, error: VQAError = RETRYABLE, row: Mapping[str, Any] | None = None, *, id: str | None = None
) -> Failure:
    return Failure(record(n, row, id), error, attempts=3, finished_at=1_700_000_000.12345)


def config(**options: Any) -> Config:
    return Config.of(**{"model": "qwen", "fsync": "never", **options})


def journal(output: str | os.PathLike[str], **options: Any) -> Journal:
    return Journal(output, config(**options), source="in.jsonl")


def finished(opened: Journal, id: str) -> bytes | None:
    """The state of a record that needs no request, None for one that does."""
    state = opened.known.get(id)
    return state if state is not None and opened.is_finished(state) else None


async def keep(output: Path, *results: Success | Failure, **options: Any) -> JournalPaths:
    """One whole run that ends with these results."""
    async with journal(output, **options) as opened:
        for result in results:
            await opened.append(result)
        await opened.close("finished", "", {})
    return opened.paths


def objects(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, each read on its own; none if there is no file."""
    if not path.exists():
        return []
    return [json.loads(line.decode("utf-8", "strict")) for line in path.read_bytes().split(b"\n")[:-1]]


def ids(path: Path) -> list[str]:
    return [line["_meta"]["id"] for line in objects(path)]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the lock, which says who asked last."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix != ".lock"}
