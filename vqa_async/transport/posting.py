"""A POST written by hand onto a connection of a session's pool, and its reply, read by aiohttp's parser.

aiohttp keeps the connections (names, TLS, reuse) and reads the replies. What is left out is what
``ClientSession.post`` does in between for any request there can be: redirects, cookies, compression, forms,
a task that writes. That is 65 of the 170 us of CPU that a minimal loop takes for a request with 100 KB in it.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage, StreamWriter
from yarl import URL

from vqa_async.transport.addresses import OPENED
from vqa_async.transport.deadlines import monotonic_now
from vqa_async.transport.failures import FOREIGN, wire_error
from vqa_async.transport.request import PIECE, Phase, Request

_OURS = frozenset({"connection", "content-length", "expect", "host", "transfer-encoding"})
"""Headers that say how the request is sent. Where a user gives one, the session is to make sense of it."""

_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""Characters that no header may hold: a line break could begin a request of its own."""


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
        self._destination = functools.lru_cache(maxsize=64)(self._new_destination)

    def opening(self, request: Request) -> str | None:
        """The request line and the headers that ``request`` does not bring; None where it is for the session.

        That sends what is not a POST to a plain address, and everything as long as something has taken the
        place of its methods, or listens to it: mocks in tests, tracers.
        """
        if (
            request.method != "POST"
            or not (
                _is_aiohttps(aiohttp.ClientSession._request) and _is_aiohttps(aiohttp.ClientSession.request)
            )
            or self._session.trace_configs
        ):
            return None
        return _opening(request.url, tuple(request.headers), self._defaults)

    def post(self, request: Request, opening: str, timeout: aiohttp.ClientTimeout) -> Posting:
        """Send ``request`` as the block is entered; in it, the head of the reply is there.

        Raises:
            aiohttp.ClientError, HttpProcessingError, OSError, TransportError: it did not come to that.
        """
        return Posting(self._connector, self._destination(request.url), request, opening, timeout)

    def _new_destination(self, url: str) -> aiohttp.ClientRequest:
        """An address as aiohttp's connector wants it; for all requests to it, and never changed."""
        return aiohttp.ClientRequest(hdrs.METH_POST, URL(url), loop=self._loop, session=self._session)


def _is_aiohttps(method: object) -> bool:
    """Whether it is aiohttp's own, and not what a mock or an instrumentation has put in its place."""
    return type(method) is FunctionType and method.__globals__ is vars(aiohttp.client)


@functools.lru_cache(maxsize=64)
def _opening(url: str, names: tuple[str, ...], defaults: tuple[tuple[str, str], ...]) -> str | None:
    given = {name.lower() for name in names}
    try:
        parsed = URL(url)
    except ValueError:
        return None
    is_plain = parsed.scheme in ("http", "https") and parsed.raw_host and "@" not in parsed.raw_authority
    if not is_plain or given & _OURS or len(given) < len(names):
        return None
    lines = [f"POST {parsed.raw_path_qs} HTTP/1.1", f"{hdrs.HOST}: {parsed.host_port_subcomponent}"]
    everywhere = (*defaults, (hdrs.ACCEPT, "*/*"), (hdrs.CONTENT_TYPE, "application/json"))
    lines += [f"{name}: {value}" for name, value in everywhere if name.lower() not in given]
    return "\r\n".join(lines)


def _head(request: Request, opening: str) -> bytes:
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    size = request.size if request.file is None else request.file.size
    head = "\r\n".join((opening, *lines, f"{hdrs.CONTENT_LENGTH}: {size}\r\n\r\n"))
    try:
        if _FORBIDDEN.search("\t".join(lines)) is None:
            return head.encode()
    except UnicodeEncodeError:
        pass
    what = "is not asked: a header holds a line break or another control character. Look at the API key"
    error = wire_error("bad_header", what, request)
    error.stops_run = True  # they are the same for every record
    raise error


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


class Posting:
    """One request, and the head of its reply with what is to be read of it.

    Attributes:
        status: of the reply.
        headers: of the reply; looked up without regard to case.
        content: the body, to be read inside of the block.
    """

    __slots__ = (
        "_connection",
        "_connector",
        "_destination",
        "_opening",
        "_request",
        "_timeout",
        "_transport",
        "_writer",
        "content",
        "headers",
        "status",
    )

    headers: Any
    content: aiohttp.StreamReader
    _connection: aiohttp.connector.Connection

    def __init__(
        self,
        connector: aiohttp.BaseConnector,
        destination: aiohttp.ClientRequest,
        request: Request,
        opening: str,
        timeout: aiohttp.ClientTimeout,
    ) -> None:
        self._connector = connector
        self._destination = destination
        self._request = request
        self._opening = opening
        self._timeout = timeout
        self._transport: asyncio.Transport | None = None
        self._writer: asyncio.Task[None] | None = None
        self.status = 0

    async def __aenter__(self) -> Posting:
        head = _head(self._request, self._opening)
        protocol = await self._connected()
        try:
            protocol.set_response_params(read_until_eof=True, auto_decompress=False)
            self._write(protocol, _chunks(head, self._request))
            message, self.content = await _reply(protocol)
            self.status = message.code
            self.headers = message.headers
        finally:
            if not self.status:
                await self._give_up()
        return self

    async def _connected(self) -> ResponseHandler:
        while True:
            try:
                connection = await self._connector.connect(self._destination, [], self._timeout)
            except TimeoutError as error:
                what = f"Connection timeout to host {self._request.url}"
                raise aiohttp.ConnectionTimeoutError(what) from error
            protocol = connection.protocol
            assert protocol is not None
            if OPENED.get([]) or not protocol.should_close:
                self._connection = connection
                self._transport = protocol.transport
                return protocol
            connection.close()  # what came while it lay idle would be taken for the reply to this request

    async def __aexit__(self, *_: object) -> None:
        if self.content.at_eof() and (self._writer is None or self._writer.done()):
            self._connection.release()  # which closes it, where another request cannot be sent on it
        else:
            await self._give_up()

    async def _give_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()  # or it would wait until the other side has taken what nobody sends on
        self._connection.close()
        if self._writer is not None and not self._writer.done():
            self._writer.cancel()
            await asyncio.wait([self._writer])

    def _write(self, protocol: ResponseHandler, chunks: Iterator[bytes | memoryview]) -> None:
        """Hand ``chunks`` to the socket; what it does not take at once, a task goes on with."""
        phase = self._request.phase
        transport = self._transport
        if transport is None or transport.is_closing():
            raise protocol.exception() or aiohttp.ClientConnectionResetError("it closes")
        phase.become(Phase.SENDING, monotonic_now())
        try:
            for chunk in chunks:
                transport.write(chunk)
                if protocol.writing_paused:
                    self._writer = asyncio.create_task(self._write_on(protocol, chunks))
                    return
        except OSError as error:
            raise _in_upload(error) from error
        phase.name = Phase.WAITING  # since the same moment

    async def _write_on(self, protocol: ResponseHandler, chunks: Iterator[bytes | memoryview]) -> None:
        """As the other side takes it, while the reply may come already: a refusal does not wait."""
        phase = self._request.phase
        writer = StreamWriter(protocol, asyncio.get_running_loop())
        try:
            await writer.drain()
            for chunk in chunks:
                phase.become(Phase.SENDING, monotonic_now())
                await writer.write(chunk)
            await writer.drain()
        except FOREIGN as error:
            if protocol.exception() is None:  # else whoever reads knows already, and better
                protocol.set_exception(_in_upload(error))
        else:
            phase.become(Phase.READING if self.status else Phase.WAITING, monotonic_now())


def _in_upload(error: Exception) -> Exception:
    """What broke the sending: of a file that cannot be read, the error is no other than of a connection."""
    is_of_file = isinstance(error, OSError) and not isinstance(error, aiohttp.ClientError)
    return aiohttp.ClientOSError(*error.args) if is_of_file else error


async def _reply(protocol: ResponseHandler) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """The head and the content of the reply, past those that only announce it."""
    while True:
        message, content = await protocol.read()
        if not 100 <= message.code < 200 or message.code == 101:
            return message, content
