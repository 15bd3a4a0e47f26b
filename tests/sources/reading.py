"""Reading an input to its end, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vqa_async.errors import InputError
from vqa_async.models import Failure, Record
from vqa_async.sources import open_source


async def read(path: Path | str, **options: Any) -> list[Record | Failure]:
    """All that it gives."""
    async with open_source(path, **options) as source:
        return [result async for result in source]


async def read_until_broken(path: Path | str, **options: Any) -> tuple[list[Record | Failure], str]:
    """What comes before an InputError, and what that says."""
    results: list[Record | Failure] = []
    try:
        async with open_source(path, **options) as source:
            async for result in source:
                results.append(result)  # noqa: PERF401 - what came before the error is what is asked for
    except InputError as error:
        return results, error.message
    raise AssertionError("the input was read to its end")
