"""One permit to have one request on the wire, and the place in the line of who waits for it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from vqa_async.endpoints.state import EndpointState


class Line(Protocol):
    """Who hands out permits."""

    def take(self, permit: Permit) -> EndpointState | None:
        """An endpoint at once; or a place in the line, which is ``permit.turn``, and None."""
        ...

    def release(self, permit: Permit) -> None:
        """Take ``permit`` back."""
        ...


class Permit:
    """One permit, as an async context manager; while it waits, its place in the line.

    Attributes:
        entered_at: the pool's time at which it was given: that of sending.
    """

    __slots__ = ("_line", "avoid", "endpoint", "entered_at", "is_probe", "key", "tokens", "turn")

    def __init__(self, line: Line, avoid: EndpointState | None, tokens: float, key: str) -> None:
        self._line = line
        self.avoid = avoid
        self.tokens = tokens
        self.key = key
        self.endpoint: EndpointState | None = None
        self.entered_at = 0.0
        self.is_probe = False
        self.turn: asyncio.Future[EndpointState] | None = None

    async def __aenter__(self) -> EndpointState:
        endpoint = self._line.take(self)
        if endpoint is not None:
            return endpoint
        assert self.turn is not None
        try:
            return await self.turn
        except asyncio.CancelledError:
            if self.endpoint is not None:  # it was handed over and cancelled in one go
                self._line.release(self)
            raise

    async def __aexit__(self, *exc: object) -> None:
        self._line.release(self)
