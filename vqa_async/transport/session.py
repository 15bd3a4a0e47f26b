"""The real transport, over one aiohttp session."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
from aiohttp import hdrs, payload
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from vqa_async.transport.addresses import OPENED, Proxies, any_socket, public_socket
from vqa_async.transport.deadlines import Deadlines, monotonic_now
from vqa_async.transport.failures import FOREIGN, translate, wire_error
from vqa_async.transport.posting import Poster, Posting
from vqa_async.transport.replies import (
    damaged_reply,
    decompressed,
    inflated_chunk,
    inflater_for,
    reply_too_large,
)
from vqa_async.transport.request import Phase, Request, Response


class _PiecesPayload(payload.Payload):
    """A body of known length that is written piece by piece, without joining or copying."""

    def __init__(self, pieces: Iterable[bytes], size: int, phase: Phase) -> None:
        super().__init__(pieces, content_type="application/json")
        self._size = size
        self._phase = phase

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        phase = self._phase
        for piece in self._value:
            phase.become(Phase.SENDING, monotonic_now())
            await writer.write(piece)
        phase.become(Phase.WAITING, monotonic_now())


class AiohttpTransport:
    """The real transport, over one aiohttp session with as many connections as requests in flight.

    Args:
        verify_tls: False accepts any certificate.
        trust_env: use the proxies that the environment names, save for loopback addresses.
        public_only: refuse to connect to private, loopback and link-local addresses; checked on the address
            that is really connected to, so no DNS answer or spelling of an address gets around it. Proxies
            are not used then: they would connect for us, unchecked.
    """

    def __init__(
        self, *, verify_tls: bool = True, trust_env: bool = False, public_only: bool = False
    ) -> None:
        self._verify_tls = verify_tls
        self._proxies = Proxies() if trust_env and not public_only else None
        self._socket = public_socket if public_only else any_socket
        self._session: aiohttp.ClientSession | None = None
        self._single_use: aiohttp.ClientSession | None = None
        self._posters: dict[aiohttp.ClientSession, Poster] = {}
        self._deadlines: dict[tuple[float, float], Deadlines] = {}

    def __repr__(self) -> str:
        return f"<AiohttpTransport {'open' if self._session else 'closed'}>"

    async def __aenter__(self) -> AiohttpTransport:
        self._session = self._open(keepalive_timeout=30)
        self._single_use = self._open(force_close=True)
        self._posters = {session: Poster(session) for session in (self._session, self._single_use)}
        return self

    async def __aexit__(self, *exc: object) -> None:
        for session in (self._session, self._single_use):
            if session is not None:
                await session.close()
        self._session = self._single_use = None
        self._posters.clear()
        for deadlines in self._deadlines.values():
            deadlines.close()
        self._deadlines.clear()

    def _open(self, **connections: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,  # the gate bounds what is in flight; a second limit here would only hide waiting from it
            ttl_dns_cache=300,
            ssl=self._verify_tls,
            socket_factory=self._socket,
            **connections,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            # Given here rather than skipped: aiohttp takes 8 us a request to leave headers out.
            headers={hdrs.USER_AGENT: "vqa-async", hdrs.ACCEPT_ENCODING: "identity"},
        )

    async def send(self, request: Request) -> Response:
        """Send ``request``; see Transport.send."""
        assert self._session is not None, "AiohttpTransport is used outside its 'async with' block"
        deadlines = self._deadlines_of(request.timeout_s, request.stall_timeout_s)
        task = asyncio.current_task(deadlines.loop)
        assert task is not None
        cancelling = task.cancelling()
        request.phase.become(Phase.CONNECTING, monotonic_now())
        deadline = deadlines.begin(task, request.phase)
        try:
            return await self._send(self._session, request)
        except asyncio.CancelledError:
            if not deadline.missed or task.cancelling() > cancelling + 1:
                raise  # cancelled by others, perhaps in the same moment
        finally:
            deadlines.end(deadline)
            if deadline.missed:
                task.uncancel()  # ours, also where it came too late to be what ended the request
        if deadline.missed == "stall":
            what = f"stalled: for {request.stall_timeout_s:g} s nothing came of {request.phase.name}"
            raise wire_error("timeout", what, request)
        raise translate(TimeoutError(), request)

    def _deadlines_of(self, length_s: float, stall_s: float) -> Deadlines:
        found = self._deadlines.get((length_s, stall_s))
        if found is None:
            loop = asyncio.get_running_loop()
            found = self._deadlines[length_s, stall_s] = Deadlines(loop, length_s, stall_s)
        return found

    async def _send(self, session: aiohttp.ClientSession, request: Request) -> Response:
        began = time.monotonic()
        opened: list[bool] = []
        OPENED.set(opened)
        try:
            return await self._exchange(session, request)
        except FOREIGN as error:
            failure = translate(error, request)
            resend = not opened and _nothing_was_read(error) and time.monotonic() - began < _RACE_S
        if resend:
            assert self._single_use is not None
            request.phase.become(Phase.CONNECTING, monotonic_now())
            try:
                return await self._exchange(self._single_use, request)
            except FOREIGN as error:
                failure = translate(error, request)
        # Outside the handlers, so that not even __context__ holds the foreign exception and its headers.
        raise failure

    async def _read(self, reply: aiohttp.ClientResponse | Posting, request: Request) -> bytes:
        chunks: list[bytes] = []
        size = 0
        content = reply.content
        while not content.at_eof():
            request.phase.become(Phase.READING, monotonic_now())
            chunk = await content.readany()
            size += len(chunk)
            if size > request.max_response_bytes:
                raise reply_too_large(request)
            chunks.append(chunk)
        return b"".join(chunks)

    async def _hand_on(
        self, reply: aiohttp.ClientResponse | Posting, request: Request, into: Callable[[bytes], object]
    ) -> None:
        """Read as ``_read`` does, and keep nothing."""
        inflater = inflater_for(reply, request)
        size = 0
        while not reply.content.at_eof():
            request.phase.become(Phase.READING, monotonic_now())
            chunk = await reply.content.readany()
            while chunk:
                piece, chunk = inflated_chunk(inflater, chunk, request) if inflater else (chunk, b"")
                size += len(piece)
                if size > request.max_response_bytes:
                    raise reply_too_large(request)
                into(piece)
        if inflater is not None and not inflater.eof:
            raise damaged_reply(request)

    async def _exchange(self, session: aiohttp.ClientSession, request: Request) -> Response:
        async with self._asked(session, request) as reply:
            if request.into is not None and reply.status == 200:
                await self._hand_on(reply, request, request.into)
                return Response(reply.status, reply.headers, b"")
            raw = await self._read(reply, request)
            return Response(reply.status, reply.headers, decompressed(raw, reply, request))

    def _asked(
        self, session: aiohttp.ClientSession, request: Request
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse | Posting]:
        """The head of the reply, inside of the block."""
        timeout = _connect_timeout(request.connect_timeout_s)
        proxy = self._proxies.proxy_for(request.url) if self._proxies else None
        poster = self._posters[session]
        if proxy is None and (opening := poster.opening(request)) is not None:
            return poster.post(request, opening, timeout)
        return session.request(
            request.method,
            _parsed(request.url),
            data=_payload(request),
            headers=request.headers,
            allow_redirects=False,
            proxy=proxy,
            timeout=timeout,
        )


def _payload(request: Request) -> _PiecesPayload | None:
    if request.file is not None:
        return _PiecesPayload(request.file, request.file.size, request.phase)
    return _PiecesPayload(request.body, request.size, request.phase) if request.body else None


@functools.lru_cache(maxsize=16)
def _connect_timeout(seconds: float) -> aiohttp.ClientTimeout:
    # Exact: aiohttp would round times above 5 s up to the next whole second of its loop.
    return aiohttp.ClientTimeout(total=None, connect=seconds, ceil_threshold=math.inf)


@functools.lru_cache(maxsize=64)  # addresses of endpoints are few, and used with every request
def _parsed(url: str) -> URL:
    try:
        return URL(url)
    except ValueError:
        raise aiohttp.InvalidURL(url) from None


_RACE_S = 2.0
"""A connection closed while idle shows it within a round trip; what breaks later was being worked on."""


def _nothing_was_read(error: BaseException) -> bool:
    """Whether the connection ended before the first byte of a reply."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # else it is the beginning of a reply
    return isinstance(error, ConnectionError | aiohttp.ClientOSError)
