"""What the endpoint has seen, counted in one place. Snapshots are frozen values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """Chat requests so far. ``received`` is always ``completed + dropped + in_flight``.

    Attributes:
        received: requests that arrived.
        completed: requests that got a whole reply, of any status.
        dropped: requests that got none: hung up on, cut off, or given up by the client.
        answered: whole and proper completions sent.
        by_status: whole replies by HTTP status.
        in_flight: requests at the endpoint now, queued ones included.
        max_in_flight: the most there ever were.
        images: different images decoded.
    """

    received: int
    completed: int
    dropped: int
    answered: int
    by_status: Mapping[int, int]
    in_flight: int
    max_in_flight: int
    images: int


@dataclass(slots=True)
class Visit:
    """How one request ended: set by who sends the reply, counted when the request leaves."""

    status: int | None = None
    answered: bool = False


class Statistics:
    """The counters of one server."""

    def __init__(self) -> None:
        self._in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Begin anew; requests in flight count as just arrived."""
        self._received = self._max_in_flight = self._in_flight
        self._dropped = self._answered = 0
        self._by_status: Counter[int] = Counter()

    @contextmanager
    def visit(self) -> Iterator[Visit]:
        """A request from its arrival to its end."""
        self._received += 1
        self._in_flight += 1
        self._max_in_flight = max(self._max_in_flight, self._in_flight)
        visit = Visit()
        try:
            yield visit
        finally:
            self._leave(visit)

    def snapshot(self, images: int) -> ServerStatistics:
        """The counters as they are now."""
        return ServerStatistics(
            received=self._received,
            completed=self._by_status.total(),
            dropped=self._dropped,
            answered=self._answered,
            by_status=dict(sorted(self._by_status.items())),
            in_flight=self._in_flight,
            max_in_flight=self._max_in_flight,
            images=images,
        )

    def _leave(self, visit: Visit) -> None:
        self._in_flight -= 1
        self._answered += visit.answered
        if visit.status is None:
            self._dropped += 1
        else:
            self._by_status[visit.status] += 1
