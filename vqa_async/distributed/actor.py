"""The engine as a callable class for pipelines of your own on Ray Data."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from vqa_async.api import open_engine
from vqa_async.config import Config
from vqa_async.distributed.sharing import share_of
from vqa_async.engine import Engine
from vqa_async.errors import ConfigError, VQAError
from vqa_async.models import Result


class VQAActor:
    """One open engine in one process of Ray; each batch gets the answers to its rows.

    A row is what it is everywhere: an image (path, address, bytes), a conversation or whatever the options
    name. Added are the columns ``vqa`` (text), ``qa_pairs`` (structs of question and answer), ``record_id``
    and ``error`` (struct of type, code, message and retryable). A row that fails has its error and nulls for
    the rest; nothing is raised. Nothing is written: what you do with the rows, and whether a batch that Ray
    does again is paid again, is up to the pipeline. ``vqa-async run --engine ray`` keeps a journal.

    Args:
        actors: among how many limits and budgets are divided: ``concurrency``, or the upper end of it.
        config: all options as one value; or give them by name instead.
        **options: any option of ``config.py`` by its name.

    Raises:
        ConfigError: an option is unknown or cannot work; then the pipeline ends.

    Example:
        >>> rows = ray.data.read_parquet("photos/").map_batches(
        ...     VQAActor,
        ...     fn_constructor_kwargs={"base_url": "http://host:8000/v1", "model": "qwen-vl", "actors": 8},
        ...     concurrency=(2, 8), batch_size=256, num_cpus=0.25,
        ... )
        >>> rows.write_parquet("answers/")
    """

    def __init__(self, *, actors: int = 1, config: Config | None = None, **options: Any) -> None:
        if config is not None and options:
            raise ConfigError("Give a config or options by name, not both.")
        if actors < 1:
            raise ConfigError("actors must be at least 1.")
        config = Config.of(**options) if config is None else config
        if not all(one.model for one in config.all_endpoints()):
            raise ConfigError("No model is named: give model=NAME, as the endpoint knows it.")
        # Nobody numbers the actors of a pipeline, so each has the smallest share.
        self._config = share_of(config, actors - 1, actors)
        self._output_key = config.columns.output_key
        self._opening: asyncio.Task[Engine] | None = None
        self._held = contextlib.AsyncExitStack()

    async def __call__(self, batch: Any) -> AsyncIterator[Any]:
        """A batch (arrays by name, or an Arrow table) with its answers, as an Arrow table."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="vqa-actor")
        engine = await self._opening
        table = _as_table(batch)
        results = await asyncio.gather(*(engine.generate(_given(row)) for row in table.to_pylist()))
        yield _with_answers(table, results, self._output_key)

    async def _open(self) -> Engine:
        """Opened in the loop that Ray calls us in, and held until this process ends."""
        return await self._held.enter_async_context(open_engine(self._config))

    async def aclose(self) -> None:
        """Close the engine; Ray just ends the process."""
        await self._held.aclose()


def _as_table(batch: Any) -> Any:
    from ray.data.block import BlockAccessor

    return BlockAccessor.for_block(BlockAccessor.batch_to_block(batch)).to_arrow()


def _given(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what it has not: nulls of a table are absent fields."""
    return {name: value for name, value in row.items() if value is not None}


def _with_answers(table: Any, results: list[Result], output_key: str) -> Any:
    """``table`` with our columns, of the same types whatever the answers are."""
    import pyarrow as pa

    text = pa.string()
    pair = pa.struct([("question", text), ("answer", text)])
    error = pa.struct([("type", text), ("code", text), ("message", text), ("retryable", pa.bool_())])
    columns = {
        output_key: pa.array([result.text if result.ok else None for result in results], text),
        "qa_pairs": pa.array([_pairs(result) for result in results], pa.list_(pair)),
        "record_id": pa.array([result.id for result in results], text),
        "error": pa.array([None if result.ok else _told(result.error) for result in results], error),
    }
    kept = table.select([name for name in table.column_names if name not in columns])
    for name, column in columns.items():
        kept = kept.append_column(name, column)
    return kept


def _pairs(result: Result) -> list[dict[str, str]] | None:
    if not result.ok:
        return None
    return [{"question": pair.question, "answer": pair.answer} for pair in result.pairs]


def _told(error: VQAError) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
    }
