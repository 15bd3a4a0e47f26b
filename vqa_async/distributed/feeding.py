"""The one place that speaks Ray Data: a source of chunks, a pool of workers, results as they come."""

from __future__ import annotations

import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from vqa_async.distributed.reading import Reading, packed_chunks
from vqa_async.distributed.work import COLUMN, ChunkDone, Job, Worker
from vqa_async.errors import ClusterError

_AT_ONCE = 4
"""Chunks that a worker has in hand: while the last records of one are waited for, others are under way."""
_QUEUED = 8
"""And those with what waits at its door."""

_READER_CPUS = 0.1

_PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Feed:
    """What is to be done by whom.

    Attributes:
        job: for each worker.
        reading: the input.
        cpus: logical CPUs of a worker.
    """

    job: Job
    reading: Reading
    cpus: float


def results_of(feed: Feed, is_over: Callable[[], bool]) -> Iterator[ChunkDone]:
    """Chunks as they are done, until all are, or ``is_over`` says so. Blocks.

    Raises:
        ClusterError: Ray has given up.
    """
    import ray

    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.target_max_block_size
    # A block for each chunk: what a worker is given, and what is done again if that is killed.
    context.enable_progress_bars, context.target_max_block_size = False, 1
    try:
        # A few records are one chunk, and one worker has it: that is no reason to warn anybody.
        warnings.filterwarnings("ignore", "The minimum number of concurrent actors", UserWarning)
        for batch in _dataset(feed).iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            yield from (pickle.loads(packed) for packed in batch[COLUMN])  # noqa: S301 - our own workers'
            if is_over():
                return
    except ray.exceptions.RayError as error:
        if is_over():
            return
        raise ClusterError(_explained(error)) from None
    finally:
        _see_executor_off()
        context.enable_progress_bars, context.target_max_block_size = before


def _see_executor_off() -> None:
    """Wait for Ray Data's own thread: Ray may not be shut down under it, or this process is ended at once."""
    for thread in threading.enumerate():
        if thread.name.startswith("StreamingExecutor"):
            thread.join(_PATIENCE_S)


def _dataset(feed: Feed) -> Any:
    import ray

    read = ray.data.read_datasource(
        _source(ray.put(feed.reading), feed.job.desk), override_num_blocks=1, num_cpus=_READER_CPUS
    )
    return read.map_batches(
        Worker,
        fn_constructor_kwargs={"job": feed.job},
        batch_size=None,
        batch_format="numpy",
        num_cpus=feed.cpus,
        compute=ray.data.ActorPoolStrategy(
            size=feed.job.workers,
            max_concurrent_calls_per_actor=_AT_ONCE,
            max_tasks_in_flight_per_actor=_QUEUED,
        ),
    )


def _source(reading: Any, desk: Any) -> Any:
    """A source of Ray Data with one task: it reads what the reference ``reading`` stands for, and ends where
    ``desk`` says so, and then all that follows it ends by itself too."""
    import pyarrow
    import ray
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    def blocks() -> Iterator[Any]:
        wanted: Reading = ray.get(reading)
        for packed in packed_chunks(wanted):
            yield pyarrow.table({COLUMN: pyarrow.array([packed], pyarrow.large_binary())})
            if ray.get(desk.is_stopping.remote()):
                return

    class Chunks(Datasource):
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:
            return [ReadTask(blocks, BlockMetadata(None, None, None, None))]

    return Chunks()  # type: ignore[no-untyped-call]


def _explained(error: Exception) -> str:
    last = str(error).strip().rpartition("\n")[2][:300]
    return f"Ray has given up: {last or type(error).__name__}. Run the same command again to go on."
