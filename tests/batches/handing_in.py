"""Calls of a batch API, and what comes of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from vqa_async.api import open_batches
from vqa_async.batches import Batches
from vqa_async.config import Config
from vqa_async.server import RunningServer


def question(number: int) -> dict[str, Any]:
    """A row that only has a question."""
    return {"id": f"r{number}", "conversation": f"What comes after {number}?"}


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> str:
    """An input of these rows."""
    path = folder / "in.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def options(server: RunningServer, **changes: Any) -> Config:
    """The options of a submission in batches of twelve."""
    return Config.of(
        **{
            "base_url": server.base_url,
            "model": "looks-1",
            "batch_requests": 12,
            "batch_poll": 0.01,
            "backoff_base": 0.001,
            **changes,
        }
    )


@asynccontextmanager
async def opened(
    server: RunningServer, said: list[str] | None = None, **changes: Any
) -> AsyncIterator[Batches]:
    """Batches at ``server``."""
    notify = said.append if said is not None else lambda _: None
    async with open_batches(options(server, **changes), notify=notify) as batches:
        yield batches


def lines(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
