"""Timeouts of many requests with one timer, which spare whom the loop has held up."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from typing import Any, Literal

from vqa_async.transport.request import Phase

log = logging.getLogger("vqa_async")


_STOOD_STILL_S = 0.1
"""A timer that comes later than this was held up by the loop, not by its own rounding."""


_SPARED_S = 0.5
"""Enough for a loop to read what has piled up at its sockets."""


monotonic_now = time.monotonic
"""The clock of event loops. Not asked of the loop: whoever copies a request, as some mocks do, would copy it
too."""


class Deadline:
    """The moment at which the request of one task has taken too long.

    Attributes:
        missed: why the task was cancelled: for its ``time``, or for a ``stall``; "" where it was not.
    """

    __slots__ = ("at", "is_spared", "missed", "phase", "task")

    def __init__(self, task: asyncio.Task[Any], at: float, phase: Phase) -> None:
        self.task = task
        self.at = at
        self.phase = phase
        self.missed: Literal["", "time", "stall"] = ""
        self.is_spared = False


class Deadlines:
    """Timeouts of one length, for any number of requests, with one timer for all of them.

    A timer for each request would cost as much as all else that is added here. As all are of one length,
    they are missed in the order in which they began. Whether anything stalls is looked at all together, as
    often as something may stall: so it is found between once and twice that time after it last moved.

    Args:
        length_s: seconds for a whole request.
        stall_s: seconds in which it must make progress, in a phase in which some is to be expected.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, length_s: float, stall_s: float) -> None:
        self.loop = loop
        self._length_s = length_s
        self._stall_s = stall_s
        self._open: dict[Deadline, None] = {}  # in the order of beginning
        self._timer: asyncio.TimerHandle | None = None
        self._look_at = math.inf  # when stalls are looked for next; put off once, where the loop stood still
        self._is_put_off = False

    def begin(self, task: asyncio.Task[Any], phase: Phase) -> Deadline:
        """Cancel ``task`` after the length, or where ``phase`` makes no progress, unless ``end`` comes
        before."""
        now = self.loop.time()
        deadline = Deadline(task, now + self._length_s, phase)
        self._open[deadline] = None
        if self._timer is None:
            self._plan_look(now)
            self._set_timer(deadline.at)
        return deadline

    def end(self, deadline: Deadline) -> None:
        """The request is over, in time or not."""
        self._open.pop(deadline, None)

    def _plan_look(self, now: float) -> None:
        self._look_at = now + self._stall_s
        self._is_put_off = False

    def _set_timer(self, first: float) -> None:
        self._timer = self.loop.call_at(min(first, self._look_at), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self.loop.time()
        self._spare(now)
        for deadline in list(itertools.takewhile(lambda d: d.at <= now, self._open)):
            self._cancel(deadline, "time")
        if now >= self._look_at:
            self._plan_look(now)
            for deadline in [d for d in self._open if self._is_stalled(d.phase)]:
                self._cancel(deadline, "stall")
        if (first := next(iter(self._open), None)) is not None:
            self._set_timer(first.at)

    def _cancel(self, deadline: Deadline, why: Literal["time", "stall"]) -> None:
        del self._open[deadline]
        deadline.missed = why
        deadline.task.cancel()

    def _spare(self, now: float) -> None:
        """Once, where the loop stood still: what came meanwhile is read before anybody is called late."""
        if not self._open:
            return
        late_s = now - min(next(iter(self._open)).at, self._look_at)
        if late_s < _STOOD_STILL_S:
            return
        log.warning(
            "The event loop stood still for at least %.1f s: something in this program blocks it, or the "
            "process was stopped.",
            late_s,
        )
        if not self._is_put_off:
            self._is_put_off = True
            self._look_at = max(self._look_at, now + min(_SPARED_S, self._stall_s))
        for deadline in itertools.takewhile(lambda d: d.at <= now, self._open):
            if not deadline.is_spared:
                deadline.is_spared = True
                deadline.at = now + _SPARED_S
        self._open = dict.fromkeys(sorted(self._open, key=lambda d: d.at))

    def _is_stalled(self, phase: Phase) -> bool:
        return phase.name in (Phase.SENDING, Phase.READING) and monotonic_now() - phase.since >= self._stall_s

    def close(self) -> None:
        """Drop the timer."""
        if self._timer is not None:
            self._timer.cancel()
