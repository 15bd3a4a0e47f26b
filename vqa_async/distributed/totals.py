"""What all workers together have counted. Plain arithmetic."""

from __future__ import annotations

from vqa_async.distributed.work import ChunkDone
from vqa_async.errors import ClusterError, VQAError
from vqa_async.events import RunStatistics, Tally


class Totals:
    """The sum of the chunks that are done.

    Attributes:
        input_error: why the input could not be read to its end.
    """

    def __init__(self) -> None:
        self._tally = Tally()
        self._requests = 0
        self._cost: float | None = None
        self._fraction = 0.0
        self._numbers: set[int] = set()
        self._chunks: int | None = None  # how many there are, once the last one is done
        self._left = 0
        self._in_flight: dict[str, tuple[int, int]] = {}
        self._heard: set[str] = set()
        self.input_error: VQAError | None = None

    def add(self, done: ChunkDone) -> list[str]:
        """Count a chunk; the notices in it that are new."""
        if done.number in self._numbers:
            return []
        self._numbers.add(done.number)
        self._tally.add(done.tally)
        self._tally.skipped += done.skipped
        self._tally.skipped_failed += done.skipped_failed
        self._left += done.left
        self._fraction = max(self._fraction, done.fraction or 0.0)
        self.input_error = self.input_error or done.error
        if done.is_last:
            self._chunks = done.number + 1
        return self._add_counters(done)

    def _add_counters(self, done: ChunkDone) -> list[str]:
        counters = done.counters
        self._tally.retries += counters.retries
        self._requests += counters.requests
        if counters.cost is not None:
            self._cost = (self._cost or 0.0) + counters.cost
        self._in_flight[done.worker] = (counters.in_flight, counters.width)
        new = [notice for notice in dict.fromkeys(counters.notices) if notice not in self._heard]
        self._heard.update(new)
        return new

    def gap(self) -> ClusterError | None:
        """An error where not every record was accounted for, though nobody has said why."""
        if self._chunks is not None and len(self._numbers) == self._chunks and not self._left:
            return None
        return ClusterError(
            "Ray ended before every record was answered: run the same command again to go on."
        )

    def statistics(self, elapsed_s: float) -> RunStatistics:
        """All of it at this moment."""
        seen = self._tally.succeeded + self._tally.failed + self._tally.skipped
        is_exact = self._chunks is not None
        return self._tally.snapshot(
            in_flight=sum(in_flight for in_flight, _ in self._in_flight.values()),
            width=sum(width for _, width in self._in_flight.values()),
            elapsed_s=elapsed_s,
            expected=seen + self._left if is_exact else round(seen / self._fraction) if self._fraction else 0,
            expected_is_exact=is_exact,
            endpoints=(),
            requests=self._requests,
            cost=self._cost,
        )
