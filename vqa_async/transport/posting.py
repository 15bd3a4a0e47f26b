"""A POST written by hand onto a connection of a session's pool, and its reply, read by aiohttp's parser.

aiohttp keeps the connections (names, TLS, reuse) and reads the replies. What is left out is what
``ClientSession.post`` does in between for any request there can be: redirects, cookies, compression, forms,
a task that writes. That is 65 of the 170 us of CPU that a minimal loop takes for a request with 100 KB in it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from typing import Any

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage, StreamWriter
from yarl import URL

from vqa_async.transport.deadlines import monotonic_now
from vqa_async.transport.failures import FOREIGN
from vqa_async.transport.request import PIECE, Phase, Request

_OURS = frozenset({"connection", "content-length", "expect", "host", "transfer-encoding"})
"""Headers that say how the request is sent. Where a user gives one, the session is to make sense of it."""

_AIOHTTP_REQUEST = aiohttp.ClientSession._request


class Poster:
    """Posts over the connections of ``session``.

    Args:
        session: whose connections are used, and whose headers are sent where a request has none of that name.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        assert session.connector is not None
        self._session = session
        self._connector = session.connector
        self._loop = asyncio.get_running_loop()
        self._defaults = tuple(session.headers.items())
        if self._connector.force_close:
            self._defaults += ((hdrs.CONNECTION, "close"),)
        self._initiator = functools.lru_cache(maxsize=64)(self._new_initiator)

    def opening(self, request: Request) -> str | None:
        """The request line and the headers that ``request`` does not bring; None where it is for the session.

        That sends what is not a POST to a plain address, and everything as long as something has taken the
        place of its method, or listens to it: mocks in tests, tracers.
        """
        if (
            request.method != "POST"
            or aiohttp.ClientSession._request is not _AIOHTTP_REQUEST
            or self._session.trace_configs
        ):
            return None
        return _opening(request.url, tuple(request.headers), self._defaults)

    def post(self, request: Request, opening: str, timeout: aiohttp.ClientTimeout) -> Posted:
        """Send ``request`` as the block is entered; in it, the head of the reply is there.

        Raises:
            aiohttp.ClientError, HttpProcessingError, OSError, ValueError: it did not come to that.
        """
        return Posted(self._connector, self._initiator(request.url), request, opening, timeout)

    def _new_initiator(self, url: str) -> aiohttp.ClientRequest:
        """What aiohttp's connector is to be asked with: it wants to know no more than the address of it."""
        return aiohttp.ClientRequest(hdrs.METH_POST, URL(url), loop=self._loop, session=self._session)


@functools.lru_cache(maxsize=64)
def _opening(url: str, names: tuple[str, ...], defaults: tuple[tuple[str, str], ...]) -> str | None:
    given = {name.lower() for name in names}
    try:
        parsed = URL(url)
    except ValueError:
        return None
    is_plain = parsed.scheme in ("http", "https") and parsed.raw_host and "@" not in parsed.raw_authority
    if not is_plain or given & _OURS:
        return None
    lines = [f"POST {parsed.raw_path_qs} HTTP/1.1", f"{hdrs.HOST}: {parsed.host_port_subcomponent}"]
    everywhere = (*defaults, (hdrs.ACCEPT, "*/*"), (hdrs.CONTENT_TYPE, "application/json"))
    lines += [f"{name}: {value}" for name, value in everywhere if name.lower() not in given]
    return "\r\n".join(lines)


def _head(request: Request, opening: str) -> bytes:
    lines = [opening, *[f"{name}: {value}" for name, value in request.headers.items()]]
    head = "\r\n".join(lines)
    breaks = len(lines) - 1 + opening.count("\n")
    if head.count("\n") != breaks or head.count("\r") != breaks or "\0" in head:
        raise ValueError("a header has a line break in it")
    size = request.size if request.file is None else request.file.size
    return f"{head}\r\n{hdrs.CONTENT_LENGTH}: {size}\r\n\r\n".encode()


def _chunks(head: bytes, request: Request) -> Iterator[bytes | memoryview]:
    """The request in chunks that a slow line takes soon, as few as that allows.

    Joining what fits into one chunk costs a copy, which is less than another call of the system; a piece that
    is larger is not copied, but cut by a view.
    """
    joined, size = [head], len(head)
    for piece in request.file or request.body:
        if size + len(piece) > PIECE:
            if joined:
                yield b"".join(joined)
            joined, size = [], 0
            if len(piece) > PIECE:
                whole = memoryview(piece)
                yield from (whole[start : start + PIECE] for start in range(0, len(piece), PIECE))
                continue
        joined.append(piece)
        size += len(piece)
    if joined:
        yield b"".join(joined)


class Posted:
    """One request, and the head of its reply with what is to be read of it.

    Attributes:
        status: of the reply.
        headers: of the reply; looked up without regard to case.
        content: the body, to be read inside of the block.
    """

    __slots__ = (
        "_connection",
        "_connector",
        "_initiator",
        "_opening",
        "_request",
        "_timeout",
        "_writer",
        "content",
        "headers",
        "status",
    )

    status: int
    headers: Any
    content: aiohttp.StreamReader
    _connection: aiohttp.connector.Connection

    def __init__(
        self,
        connector: aiohttp.BaseConnector,
        initiator: aiohttp.ClientRequest,
        request: Request,
        opening: str,
        timeout: aiohttp.ClientTimeout,
    ) -> None:
        self._connector = connector
        self._initiator = initiator
        self._request = request
        self._opening = opening
        self._timeout = timeout
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Posted:
        head = _head(self._request, self._opening)
        try:
            self._connection = await self._connector.connect(self._initiator, [], self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {self._request.url}") from error
        message = None
        try:
            protocol = self._connection.protocol
            assert protocol is not None
            protocol.set_response_params(read_until_eof=True, auto_decompress=False)
            self._write(protocol, _chunks(head, self._request))
            message, self.content = await _reply(protocol)
        finally:
            if message is None:
                await self._give_up()
        self.status = message.code
        self.headers = message.headers
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and (self._writer is None or self._writer.done()):
            self._connection.release()  # which closes it, where another request cannot be sent on it
        else:
            await self._give_up()

    async def _give_up(self) -> None:
        if (protocol := self._connection.protocol) is not None:
            protocol.abort()  # or it would wait until the other side has taken what nobody sends on
        self._connection.close()
        if self._writer is not None and not self._writer.done():
            self._writer.cancel()
            await asyncio.wait([self._writer])

    def _write(self, protocol: ResponseHandler, chunks: Iterator[bytes | memoryview]) -> None:
        """Hand ``chunks`` to the socket; what it does not take at once, a task goes on with."""
        phase = self._request.phase
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        phase.become(Phase.SENDING, monotonic_now())
        for chunk in chunks:
            transport.write(chunk)
            if protocol.writing_paused:
                self._writer = asyncio.create_task(_write_on(protocol, chunks, phase))
                return
        phase.name = Phase.WAITING


async def _reply(protocol: ResponseHandler) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """The head and the content of the reply, past those that only announce it."""
    while True:
        message, content = await protocol.read()
        if not 100 <= message.code < 200 or message.code == 101:
            return message, content


async def _write_on(protocol: ResponseHandler, chunks: Iterator[bytes | memoryview], phase: Phase) -> None:
    """As the other side takes it, while the reply may come already: a refusal does not wait for the end."""
    writer = StreamWriter(protocol, asyncio.get_running_loop())
    try:
        await writer.drain()
        for chunk in chunks:
            phase.become(Phase.SENDING, monotonic_now())
            await writer.write(chunk)
        await writer.drain()
    except FOREIGN as error:
        if protocol.exception() is None:  # else whoever reads knows already, and better
            protocol.set_exception(error)
    else:
        phase.become(Phase.WAITING, monotonic_now())
