"""Timeouts of many requests with one timer, which spare whom the loop has held up."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from typing import Any

from vqa_async.transport.request import Phase

log = logging.getLogger("vqa_async")


_STOOD_STILL_S = 0.1
"""A timer that comes later than this was held up by the loop, not by its own rounding."""


_SPARED_S = 0.5
"""Enough for a loop to read what has piled up at its sockets."""


monotonic_now = time.monotonic
"""The clock of event loops. Not asked of the loop: whoever copies a request, as some mocks do, would copy it
too."""


class _Deadline:
    """The moment at which the request of one task has taken too long, or made no progress for too long."""

    __slots__ = ("at", "is_missed", "is_spared", "phase", "task")

    def __init__(self, task: asyncio.Task[Any], at: float, phase: Phase | None) -> None:
        self.task = task
        self.at = at
        self.phase = phase
        self.is_missed = False
        self.is_spared = False


class Deadlines:
    """Timeouts of one length, for any number of requests, with one timer for all of them.

    A timer for each request would cost as much as all else that is added here. As all are of one length,
    they are missed in the order in which they began.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, length_s: float) -> None:
        self.loop = loop
        self._length_s = length_s
        self._open: dict[_Deadline, None] = {}  # in the order of beginning
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[Any], phase: Phase | None = None) -> _Deadline:
        """Cancel ``task`` after the length, unless ``end`` comes before.

        With a ``phase`` only where that has made no progress meanwhile, and is one in which some is to be
        expected.
        """
        deadline = _Deadline(task, self.loop.time() + self._length_s, phase)
        self._open[deadline] = None
        if self._timer is None:
            self._timer = self.loop.call_at(deadline.at, self._look)
        return deadline

    def end(self, deadline: _Deadline) -> None:
        """The request is over, in time or not."""
        self._open.pop(deadline, None)

    def _look(self) -> None:
        self._timer = None
        now = self.loop.time()
        self._spare(now)
        for deadline in list(itertools.takewhile(lambda d: d.at <= now, self._open)):
            del self._open[deadline]
            if deadline.phase is not None and not self._is_stalled(deadline.phase):
                deadline.at = now + self._length_s
                self._open[deadline] = None
                continue
            deadline.is_missed = True
            deadline.task.cancel()
        if (first := next(iter(self._open), None)) is not None:
            self._timer = self.loop.call_at(first.at, self._look)

    def _spare(self, now: float) -> None:
        """Once, where the loop stood still: what came meanwhile is read before anybody is called late."""
        late_s = now - next(iter(self._open)).at if self._open else 0.0
        if late_s < _STOOD_STILL_S:
            return
        log.warning(
            "The event loop stood still for at least %.1f s: something in this program blocks it, or the "
            "process was stopped.",
            late_s,
        )
        for deadline in itertools.takewhile(lambda d: d.at <= now, self._open):
            if not deadline.is_spared:
                deadline.is_spared = True
                deadline.at = now + _SPARED_S
        self._open = dict.fromkeys(sorted(self._open, key=lambda d: d.at))

    def _is_stalled(self, phase: Phase) -> bool:
        return (
            phase.name in (Phase.SENDING, Phase.READING) and monotonic_now() - phase.since >= self._length_s
        )

    def close(self) -> None:
        """Drop the timer."""
        if self._timer is not None:
            self._timer.cancel()
