"""Whether any endpoint is left that answers, and what an error says where none is."""

from __future__ import annotations

from collections.abc import Sequence

from vqa_async.config import Limits
from vqa_async.endpoints.state import EndpointState
from vqa_async.errors import RateLimited, RequestError

CHECK_START_AFTER = 3
"""Failures in a row after which an endpoint that never answered is taken for wrong rather than unlucky."""


class OutageRule:
    """Tells bad luck from an outage, which ends the run.

    Args:
        endpoints: all that there are.
        limits: how long an outage is borne.
    """

    __slots__ = ("_endpoints", "_limits")

    def __init__(self, endpoints: Sequence[EndpointState], limits: Limits) -> None:
        self._endpoints = endpoints
        self._limits = limits

    def rate_limited(self, endpoint: EndpointState, error: RateLimited, now: float, sent_at: float) -> None:
        """``endpoint`` refuses for now: pause it, and end the run where none is left that would answer."""
        wait_s = error.retry_after_s
        endpoint.gate.rate_limited(now, wait_s, sent_at=sent_at)
        error.retry_after_s = None  # it is the gate that waits, for all
        if not self.is_outage(now):
            return
        error.stops_run = True
        longest = self._limits.max_outage
        asked = [e for e in self._endpoints if not e.closed]
        if wait_s is not None and all(e.gate.resume_at - now > longest for e in asked):
            add(error, f"It asks to wait {wait_s:,.0f} s: run the same command again after that.")
        elif all(e.gate.limited_since is not None for e in asked):
            add(
                error, f"It has answered nothing else for {longest:,.0f} s: run the same command again later."
            )
        else:
            add(error, self._sentence())

    def judge(self, error: RequestError, now: float) -> None:
        """Mark ``error`` where with it none is left that answers."""
        if not error.stops_run and self.is_outage(now):
            error.stops_run = True
            add(error, self._sentence())

    def is_outage(self, now: float) -> bool:
        """Whether none that is asked has answered for as long as is to be borne, or will."""
        return all(self.is_out(e, now) for e in self._endpoints if not e.closed)

    def is_out(self, endpoint: EndpointState, now: float) -> bool:
        """Whether ``endpoint`` has not answered for as long as is to be borne, or will not."""
        longest = self._limits.max_outage
        down, limited = endpoint.breaker.down_since, endpoint.gate.limited_since
        if down is not None and now - down >= (longest if self._limits.on_outage == "wait" else 0.0):
            return True
        is_refusing = limited is not None and now - limited > longest
        return is_refusing or endpoint.gate.resume_at - now > longest

    def _sentence(self) -> str:
        if self._limits.on_outage == "stop":
            said = ", and the run is not to wait for one (--on-outage stop)"
        else:
            said = f" for {self._limits.max_outage:,.0f} s"
        return f"No endpoint has answered{said}: run the same command again when one does."

    def never_answered(self) -> bool:
        """Whether nothing has answered since the start, and not by bad luck."""
        return not any(e.proven for e in self._endpoints) and all(
            e.breaker.failures >= CHECK_START_AFTER for e in self._endpoints if not e.closed
        )


def add(error: RequestError, sentence: str) -> None:
    """Say ``sentence`` too."""
    error.message = f"{error.message.rstrip('. ')}. {sentence}"
