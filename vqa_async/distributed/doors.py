"""The doors of a distributed run for Python callers."""

from __future__ import annotations

from typing import Any

from vqa_async.api import run_sync
from vqa_async.config import Config, InputFormat
from vqa_async.distributed.run import DistributedRun
from vqa_async.engine import RunSummary
from vqa_async.errors import ConfigError
from vqa_async.events import Observer


async def arun(
    input: str,
    output: str,
    *,
    limit: int | None = None,
    format: InputFormat = "auto",
    observer: Observer | None = None,
    **options: Any,
) -> RunSummary:
    """Answer every record of ``input`` into ``output`` on Ray; see ``vqa_async.arun``.

    Example:
        >>> summary = await arun("in.jsonl", "out.jsonl", model="qwen-vl", ray_address="auto")
    """
    given = options.pop("config", None)
    if given is not None and options:
        raise ConfigError("Give a config or options by name, not both.")
    config = given or Config.of(**{"engine": "ray"} | options)
    return await DistributedRun(config, observer=observer).run(input, output, limit=limit, format=format)


def run(input: str, output: str, **options: Any) -> RunSummary:
    """``arun`` for synchronous callers."""
    return run_sync(lambda: arun(input, output, **options))
