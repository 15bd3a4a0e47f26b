"""The one seam to the network: ``Transport.send(request) -> Response``. The only importer of the HTTP client.

Knows sockets, TLS, timeouts and size caps; does not know chat, retry or records. Whatever goes wrong on
the wire comes out as one TransportError with a ``code``; the HTTP library's own exceptions end here and are
not chained, because they carry the request headers.

Policies: TLS is verified; redirects are never followed (a redirected POST would carry images and custom
headers to another host); cookies are not kept; replies are capped, after decompression. A connection that
the server closed while it lay idle is replaced once, silently, by a new one; what breaks on a new
connection, or after part of a reply, is reported, for the retry policy to judge.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import itertools
import logging
import math
import os
import socket
import ssl
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs, payload
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from vqa_async.errors import ImageError, TransportError

log = logging.getLogger("vqa_async")

_STOOD_STILL_S = 0.1
"""A timer that comes later than this was held up by the loop, not by its own rounding."""

_SPARED_S = 0.5
"""Enough for a loop to read what has piled up at its sockets."""

_now = time.monotonic
"""The clock of event loops. Not asked of the loop: whoever copies a request, as some mocks do, would copy it
too."""


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
            while piece := file.read(_FILE_PIECE):
                yield piece
        yield self.after


_FILE_PIECE = 1 << 18
"""Small enough that even a slow line takes one before it would count as stalled."""


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
            phase.become(Phase.SENDING, _now())
            await writer.write(piece)
        phase.become(Phase.WAITING, _now())


class _Deadline:
    """The moment at which the request of one task has taken too long, or made no progress for too long."""

    __slots__ = ("at", "is_missed", "is_spared", "phase", "task")

    def __init__(self, task: asyncio.Task[Any], at: float, phase: Phase | None) -> None:
        self.task = task
        self.at = at
        self.phase = phase
        self.is_missed = False
        self.is_spared = False


class _Deadlines:
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
        return phase.name in (Phase.SENDING, Phase.READING) and _now() - phase.since >= self._length_s

    def close(self) -> None:
        """Drop the timer."""
        if self._timer is not None:
            self._timer.cancel()


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
        self._proxies = _Proxies() if trust_env and not public_only else None
        self._socket = _public_socket if public_only else _any_socket
        self._session: aiohttp.ClientSession | None = None
        self._single_use: aiohttp.ClientSession | None = None
        self._deadlines: dict[tuple[float, bool], _Deadlines] = {}

    def __repr__(self) -> str:
        return f"<AiohttpTransport {'open' if self._session else 'closed'}>"

    async def __aenter__(self) -> AiohttpTransport:
        self._session = self._open(keepalive_timeout=30)
        self._single_use = self._open(force_close=True)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for session in (self._session, self._single_use):
            if session is not None:
                await session.close()
        self._session = self._single_use = None
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
        deadlines = self._deadlines_of(request.timeout_s)
        stalls = self._deadlines_of(request.stall_timeout_s, of_stalls=True)
        task = asyncio.current_task(deadlines.loop)
        assert task is not None
        cancelling = task.cancelling()
        request.phase.become(Phase.CONNECTING, _now())
        deadline = deadlines.begin(task)
        stall = stalls.begin(task, request.phase)
        try:
            return await self._send(self._session, request)
        except asyncio.CancelledError:
            if not (deadline.is_missed or stall.is_missed) or task.cancelling() > cancelling + 1:
                raise  # cancelled by others, perhaps in the same moment
        finally:
            deadlines.end(deadline)
            stalls.end(stall)
            for missed in (deadline, stall):
                if missed.is_missed:
                    task.uncancel()  # ours, also where it came too late to be what ended the request
        if not deadline.is_missed:
            what = f"stalled: for {request.stall_timeout_s:g} s nothing came of {request.phase.name}"
            raise _wire_error("timeout", what, request)
        raise translate(TimeoutError(), request)

    def _deadlines_of(self, length_s: float, *, of_stalls: bool = False) -> _Deadlines:
        found = self._deadlines.get((length_s, of_stalls))
        if found is None:
            loop = asyncio.get_running_loop()
            found = self._deadlines[length_s, of_stalls] = _Deadlines(loop, length_s)
        return found

    async def _send(self, session: aiohttp.ClientSession, request: Request) -> Response:
        began = time.monotonic()
        opened: list[bool] = []
        _OPENED.set(opened)
        try:
            return await self._exchange(session, request)
        except _FOREIGN as error:
            failure = translate(error, request)
            resend = not opened and _nothing_was_read(error) and time.monotonic() - began < _RACE_S
        if resend:
            assert self._single_use is not None
            try:
                return await self._exchange(self._single_use, request)
            except _FOREIGN as error:
                failure = translate(error, request)
        # Outside the handlers, so that not even __context__ holds the foreign exception and its headers.
        raise failure

    async def _read(self, reply: aiohttp.ClientResponse, request: Request) -> bytes:
        chunks: list[bytes] = []
        size = 0
        content = reply.content
        while not content.at_eof():
            request.phase.become(Phase.READING, _now())
            chunk = await content.readany()
            size += len(chunk)
            if size > request.max_response_bytes:
                raise _too_large(request)
            chunks.append(chunk)
        return b"".join(chunks)

    async def _hand_on(
        self, reply: aiohttp.ClientResponse, request: Request, into: Callable[[bytes], object]
    ) -> None:
        """Read as ``_read`` does, and keep nothing."""
        inflater = _inflater(reply, request)
        size = 0
        while not reply.content.at_eof():
            request.phase.become(Phase.READING, _now())
            chunk = await reply.content.readany()
            while chunk:
                piece, chunk = _inflated(inflater, chunk, request) if inflater else (chunk, b"")
                size += len(piece)
                if size > request.max_response_bytes:
                    raise _too_large(request)
                into(piece)
        if inflater is not None and not inflater.eof:
            raise _damaged(request)

    async def _exchange(self, session: aiohttp.ClientSession, request: Request) -> Response:
        async with session.request(
            request.method,
            _parsed(request.url),
            data=_payload(request),
            headers=request.headers,
            allow_redirects=False,
            proxy=self._proxies.proxy_for(request.url) if self._proxies else None,
            timeout=_connect_timeout(request.connect_timeout_s),
        ) as reply:
            if request.into is not None and reply.status == 200:
                await self._hand_on(reply, request, request.into)
                return Response(reply.status, reply.headers, b"")
            raw = await self._read(reply, request)
            return Response(reply.status, reply.headers, _decompress(raw, reply, request))


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


_OPENED: ContextVar[list[bool]] = ContextVar("vqa_opened")
"""One entry for each socket opened for this request; none, where an idle connection was taken up again."""

_RACE_S = 2.0
"""A connection closed while idle shows it within a round trip; what breaks later was being worked on."""


def _nothing_was_read(error: BaseException) -> bool:
    """Whether the connection ended before the first byte of a reply."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # else it is the beginning of a reply
    return isinstance(error, ConnectionError | aiohttp.ClientOSError)


class _Proxies:
    """The proxies that the environment named when the transport was made."""

    def __init__(self) -> None:
        self._by_scheme = urllib.request.getproxies()
        self._known: dict[str, str | None] = {}

    def proxy_for(self, url: str) -> str | None:
        """The proxy for ``url``; None for loopback addresses and for what NO_PROXY names."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._known:
            self._known[origin] = self._look_up(parts.scheme, parts.hostname or "", parts.netloc)
        return self._known[origin]

    def _look_up(self, scheme: str, host: str, netloc: str) -> str | None:
        proxy = self._by_scheme.get(scheme)
        if proxy is None or _is_loopback(host) or urllib.request.proxy_bypass(netloc):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _decompress(raw: bytes, reply: aiohttp.ClientResponse, request: Request) -> bytes:
    """The body as sent, or inflated up to the cap."""
    inflater = _inflater(reply, request)
    if inflater is None:
        return raw
    body = b""
    broken = False
    try:
        body = inflater.decompress(raw, request.max_response_bytes + 1)
    except zlib.error:
        broken = True
    if len(body) > request.max_response_bytes:
        raise _too_large(request)
    if broken or not inflater.eof:
        raise _damaged(request)
    return body


def _inflater(reply: aiohttp.ClientResponse, request: Request) -> zlib._Decompress | None:
    """What inflates the reply, None for one that is as it is. No encoding is asked for, but some servers use
    one."""
    encoding = reply.headers.get(hdrs.CONTENT_ENCODING, "identity").lower()
    if encoding in ("identity", ""):
        return None
    if encoding not in ("gzip", "deflate"):
        raise _wire_error(
            "protocol", f"replied in the encoding {encoding[:40]!r}, which was not asked for", request
        )
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32 if encoding == "gzip" else zlib.MAX_WBITS)


def _inflated(inflater: zlib._Decompress, chunk: bytes, request: Request) -> tuple[bytes, bytes]:
    """The next piece of what ``chunk`` inflates to, and what is left of ``chunk``."""
    broken = False
    piece = b""
    try:
        piece = inflater.decompress(chunk, _FILE_PIECE)
    except zlib.error:
        broken = True
    if broken:
        raise _damaged(request)
    return piece, inflater.unconsumed_tail


def _damaged(request: Request) -> TransportError:
    return _wire_error("protocol", "sent a compressed reply that is damaged", request)


def _too_large(request: Request) -> TransportError:
    error = _wire_error(
        "too_large",
        f"sent a reply of more than {request.max_response_bytes:,} bytes; reading stopped",
        request,
    )
    error.retryable = False
    return error


def _wire_error(code: str, what: str, request: Request) -> TransportError:
    return TransportError(f"{_host(request.url)} {what}.", endpoint=request.url, code=code)


def _host(url: str) -> str:
    """Host and port of ``url`` for a message, without a user name and password before them."""
    authority = url.partition("://")[2].partition("/")[0].partition("?")[0]
    return authority.rpartition("@")[2][:200] or "The address"


class _PrivateAddress(PermissionError):
    """What ``_public_socket`` refuses to connect to; an OSError, so that the next address is tried."""


_TRANSLATION: tuple[tuple[type[BaseException], str, str], ...] = (
    # In order: the first class that fits. aiohttp's own tree overlaps with OSError and TimeoutError.
    (aiohttp.InvalidURL, "bad_url", "is not an address that can be asked: it is malformed"),
    (aiohttp.NonHttpUrlClientError, "bad_url", "is not an http:// or https:// address"),
    (aiohttp.ConnectionTimeoutError, "timeout", "did not accept a connection within {connect:g} s"),
    (aiohttp.ClientConnectorCertificateError, "tls", "has a TLS certificate that does not verify: {reason}"),
    (aiohttp.ServerFingerprintMismatch, "tls", "has another TLS certificate than expected"),
    (ssl.SSLEOFError, "tls_broken", "broke off the TLS connection"),
    (ssl.SSLZeroReturnError, "tls_broken", "broke off the TLS connection"),
    (aiohttp.ClientConnectorSSLError, "tls", "fails the TLS handshake: {reason}"),
    (ssl.SSLError, "tls_broken", "broke the TLS connection: {reason}"),
    (aiohttp.ClientConnectorDNSError, "dns", "cannot be found: its name does not resolve. Check --base-url"),
    (aiohttp.ClientProxyConnectionError, "connect", "cannot be reached: the proxy refuses connections"),
    (aiohttp.ClientHttpProxyError, "connect", "cannot be reached: the proxy refuses to pass the request on"),
    (_PrivateAddress, "forbidden", "is not asked: {reason}"),
    (aiohttp.ClientConnectorError, "connect", "refuses connections ({reason}): is it up? Check --base-url"),
    (asyncio.TimeoutError, "timeout", "did not answer within {total:g} s"),
    (aiohttp.ClientPayloadError, "reset", "closed the connection in the middle of the reply"),
    (aiohttp.UploadAbortedError, "reset", "closed the connection in the middle of the request"),
    (aiohttp.ServerDisconnectedError, "reset", "closed the connection before replying"),
    (aiohttp.ClientOSError, "reset", "broke the connection ({reason})"),
    (aiohttp.ClientConnectionError, "reset", "broke the connection"),
    (aiohttp.ClientResponseError, "protocol", "sent something that is not HTTP"),
    (ConnectionError, "reset", "broke the connection ({reason})"),
    (OSError, "connect", "cannot be reached ({reason})"),
    (RuntimeError, "connect", "cannot be reached"),  # uvloop's way to say that a socket is gone
    (OverflowError, "bad_url", "is not an address that can be asked: its port is out of range"),
    (UnicodeError, "bad_url", "is not an address that can be asked: its host name is malformed"),
    (Exception, "protocol", "sent something that is not HTTP"),
)  # fmt: skip

_HOPELESS = frozenset({"bad_url", "forbidden"})
"""Codes of errors that another attempt cannot mend."""

_FOREIGN = (aiohttp.ClientError, OSError, ValueError, OverflowError, RuntimeError, EOFError, TransportError)
"""What the HTTP library raises on a broken exchange (TimeoutError is an OSError), and our own caps."""


def translate(error: BaseException, request: Request) -> TransportError:
    """The TransportError for an exception of the HTTP library."""
    if isinstance(error, TransportError):
        return error
    if isinstance(cause := getattr(error, "os_error", None), _PrivateAddress | ssl.SSLEOFError):
        error = cause  # the library puts an error of its own around these, which says less
    code, sentence = next((c, s) for kind, c, s in _TRANSLATION if isinstance(error, kind))
    what = sentence.format(connect=request.connect_timeout_s, total=request.timeout_s, reason=_reason(error))
    translated = _wire_error(code, what, request)
    # A certificate does not get better by asking again, and nothing may be sent without one.
    translated.stops_run = code == "tls"
    translated.retryable = code not in _HOPELESS
    return translated


def _reason(error: BaseException) -> str:
    cause: Any = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    # asyncio puts addresses and call names into its messages; the error number says it in plain words.
    return " ".join(_plain(cause).split())[:200] or type(cause).__name__


def _plain(cause: Any) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return getattr(cause, "verify_message", "") or str(cause)
    if isinstance(cause, ssl.SSLError):  # its errno is not one of the system's
        return (getattr(cause, "reason", "") or str(cause)).replace("_", " ").lower()
    number = cause.errno if isinstance(cause, OSError) else None
    return os.strerror(number) if number and number > 0 else getattr(cause, "strerror", None) or str(cause)


def _any_socket(addr_info: Any) -> socket.socket:
    """Make the socket for a connection, and let the request know that it got a new one."""
    family, kind, proto, _, _ = addr_info
    _OPENED.get([]).append(True)
    return socket.socket(family=family, type=kind, proto=proto)


def _public_socket(addr_info: Any) -> socket.socket:
    """Make the socket for a connection, unless it would reach this machine or a private network."""
    ip = ipaddress.ip_address(addr_info[4][0].partition("%")[0])
    if not all(address.is_global for address in _reached(ip)):
        # The same text for each address of a name: of errors that read alike, one is raised as it is.
        raise _PrivateAddress("its address is private; --allow-private-urls permits that")
    return _any_socket(addr_info)


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _reached(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]:
    """The addresses that a connection to ``ip`` may end at: an IPv4 address can hide in an IPv6 one."""
    if isinstance(ip, ipaddress.IPv4Address):
        return (ip,)
    if ip.ipv4_mapped is not None:
        return (ip.ipv4_mapped,)
    hidden = [ip.sixtofour, ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None]
    return (ip, *(address for address in hidden if address is not None))


async def fetch_image(transport: Transport, url: str, *, timeout_s: float, max_bytes: int) -> bytes:
    """The bytes of the image at ``url``.

    Raises:
        ImageError: it cannot be had: unreachable, not 200, too large. ``retryable`` where the next run may
            have more luck.
    """
    request = Request(url=url, headers={}, method="GET", timeout_s=timeout_s, max_response_bytes=max_bytes)
    failure = None
    try:
        reply = await transport.send(request)
    except TransportError as error:
        failure = _not_fetched(url, error.message, _IMAGE_CODES.get(error.code, "unreachable_url"))
        failure.retryable = error.retryable
    if failure is not None:
        raise failure  # outside the handler: see AiohttpTransport.send
    if reply.status == 200:
        return reply.body
    why = "it redirects, and redirects are not followed" if 300 <= reply.status < 400 else "no image"
    failure = _not_fetched(url, f"status {reply.status}, {why}.", "unreachable_url")
    failure.retryable = reply.status in (408, 429) or reply.status >= 500
    raise failure


_IMAGE_CODES = {"too_large": "too_large", "forbidden": "url_not_allowed", "bad_url": "url_not_allowed"}


def _not_fetched(url: str, why: str, code: str) -> ImageError:
    shown = url.partition("?")[0][:200]  # what follows is often a signature, and as good as a key
    return ImageError(f"Image {shown} cannot be fetched: {why}", code=code)
