"""What Ray Data does with a chunk: has its records answered and kept, and says how many.

Answers never travel: they are on the disk by then. What comes back of a chunk are counters.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vqa_async.config import Config
from vqa_async.distributed.desk import Stop
from vqa_async.distributed.part import Answered, Counters, Part
from vqa_async.distributed.reading import Chunk
from vqa_async.distributed.sharing import has_budget, share_of
from vqa_async.errors import VQAError
from vqa_async.events import Tally
from vqa_async.journal.replay import SUCCEEDED
from vqa_async.models import Failure

COLUMN = "chunk"
"""Of the blocks that go to workers and come back."""

_PATIENCE_S = 20.0
"""For workers that do not come, before those that are there begin with their shares of a budget."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker of a run is given.

    Attributes:
        config: all options, of the whole run.
        workers: how many share its limits.
        parts: OUT.parts, as all machines see it.
        folder: the working directory of the driver.
        environ: variables of the driver's environment that hold keys.
        desk: the actor that workers report to.
    """

    config: Config
    workers: int
    parts: str
    folder: str
    environ: Mapping[str, str] = field(repr=False)
    desk: Any


def keys_of(config: Config) -> dict[str, str]:
    """Variables with keys that workers on other machines will look for."""
    names = {"DF_API_KEY", "OPENAI_API_KEY", *(one.api_key_env for one in config.all_endpoints())}
    return {name: os.environ[name] for name in names if name in os.environ}


@dataclass(slots=True)
class ChunkDone:
    """What became of a chunk.

    Attributes:
        number, skipped, skipped_failed, fraction, is_last, error: those of the chunk.
        worker: who did it.
        tally: its records, counted; those found answered on the disk too.
        found: those that were.
        left: records that are still open, since the run of the worker has ended.
        stop: why it has.
        failures: the first of each kind, without their rows.
        counters: what the worker has counted beside.
    """

    number: int
    skipped: int
    skipped_failed: int
    fraction: float | None
    is_last: bool
    error: VQAError | None
    worker: str = ""
    tally: Tally = field(default_factory=Tally)
    found: int = 0
    left: int = 0
    stop: VQAError | str | None = None
    failures: dict[str, tuple[str, VQAError]] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)

    def count(self, id: str, answered: Answered) -> None:
        """Count a record."""
        if answered is None:
            self.left += 1
        elif isinstance(answered, bytes):
            self.found += 1
            self.tally.succeeded += answered == SUCCEEDED
            self.tally.failed += answered != SUCCEEDED
        else:
            self.tally.count(answered)
            if isinstance(answered, Failure):
                self.failures.setdefault(answered.error.code, (id, answered.error))


class Worker:
    """A callable class for ``map_batches``: one process, one engine, one part.

    Args:
        job: what it is given.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._opening: asyncio.Task[Part] | None = None
        self._name = ""

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Chunks in, counters out; never raises for their sake."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="vqa-worker")
        part = await self._opening
        for packed in batch[COLUMN]:
            done = await self._work(part, pickle.loads(packed))  # noqa: S301 - our own reader's
            yield {COLUMN: [pickle.dumps(done, protocol=5)]}

    async def _work(self, part: Part, chunk: Chunk) -> ChunkDone:
        done = ChunkDone(
            chunk.number, chunk.skipped, chunk.skipped_failed, chunk.fraction, chunk.is_last, chunk.error
        )
        answered = await asyncio.gather(*(part.answer(item) for item in chunk.items))
        for item, answer in zip(chunk.items, answered, strict=True):
            done.count(item.id, answer)
        done.worker, done.stop, done.counters = self._name, part.ended, part.counters()
        return done

    async def _open(self) -> Part:
        import ray

        job, desk = self._job, self._job.desk
        os.environ.update(job.environ)
        with contextlib.suppress(OSError):
            os.chdir(job.folder)  # images are looked for there too
        self._name = str(ray.get_runtime_context().get_actor_id())[:24]
        number = await _told(desk.join.remote(self._name))
        part = Part(share_of(job.config, number, job.workers), job.parts, self._name)
        if has_budget(job.config):  # or who begins first has used up a share before others have begun
            await asyncio.wait({asyncio.ensure_future(_told(desk.all_there.remote()))}, timeout=_PATIENCE_S)
        await part.open()

        async def stopped(heard: Stop | None) -> Stop:
            stop: Stop = await _told(desk.stopped.remote(heard))
            return stop

        part.watch(stopped, lambda: desk.leave.remote(self._name))
        return part


async def _told(reference: Any) -> Any:
    """What an actor of Ray answers, in whatever event loop we are."""
    return await asyncio.wrap_future(reference.future())
