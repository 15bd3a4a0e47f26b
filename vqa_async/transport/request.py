"""What goes out and comes back: values, and the one method that carries them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

PIECE = 1 << 18
"""Small enough that even a slow line takes one before it would count as stalled."""


class Phase:
    """How far a request has come; written by the transport, read by whoever wants to know.

    Attributes:
        name: what it waits for.
        since: monotonic time at which that began.
    """

    __slots__ = ("name", "since")

    CONNECTING = "a connection"
    SENDING = "the endpoint to take the request"
    WAITING = "the first byte of the reply"
    READING = "the rest of the reply"

    def __init__(self, name: str, since: float) -> None:
        self.name = name
        self.since = since

    def __repr__(self) -> str:
        return f"<Phase waiting for {self.name} since {self.since:.2f}>"

    def become(self, name: str, now: float) -> None:
        """Another thing is waited for from ``now`` on; or progress was made with the same."""
        self.name = name
        self.since = now


@dataclass(frozen=True, slots=True)
class FileBody:
    """A body with a file in it that is too large for memory: read piece by piece as it is sent.

    Iterated over, it is read from the start again, so that a request can be sent once more.

    Attributes:
        before: bytes ahead of the content of the file.
        path: the file.
        after: bytes behind it.
        size: bytes in all.
    """

    before: bytes
    path: Path
    after: bytes
    size: int

    def __iter__(self) -> Iterator[bytes]:
        yield self.before
        with self.path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
        yield self.after


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    Attributes:
        url: absolute http(s) address.
        headers: sent as they are; hidden in repr, since one of them is the key.
        body: pieces sent one after the other, never joined.
        size: bytes in all pieces together.
        timeout_s: seconds for the whole exchange.
        connect_timeout_s: seconds to connect, TLS included.
        max_response_bytes: largest reply that is read, after decompression.
        method: GET or POST.
        stall_timeout_s: seconds in which nothing of the request is taken, or nothing more of a reply comes
        that has
            begun; it ends somewhere between once and twice that.
        phase: kept up to date while the request is under way.
        file: what is sent in place of ``body``, where that is too large for memory.
        into: takes the content of a reply of status 200, piece by piece, whose ``body`` is empty then. Called
            from the event loop.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: tuple[bytes, ...] = field(default=(), repr=False)
    size: int = 0
    timeout_s: float = 600.0
    connect_timeout_s: float = 10.0
    max_response_bytes: int = 8 << 20
    method: Literal["GET", "POST"] = "POST"
    stall_timeout_s: float = 60.0
    phase: Phase = field(default_factory=lambda: Phase(Phase.CONNECTING, 0.0), repr=False, compare=False)
    file: FileBody | None = None
    into: Callable[[bytes], object] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP reply, read to its end. ``headers`` are looked up without regard to case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Transport(Protocol):
    """What carries requests: the aiohttp one, a fake in tests, or a user's own."""

    async def send(self, request: Request) -> Response:
        """Send ``request`` and return the whole reply, whatever its status.

        Raises:
            TransportError: no complete reply arrived.
        """
        ...
