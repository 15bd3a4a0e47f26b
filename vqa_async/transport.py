"""The one seam to the network: ``Transport.send(request) -> Response``. The only importer of the HTTP client.

Knows sockets, TLS, timeouts and size caps; does not know chat, retry or records. Whatever goes wrong on
the wire comes out as one TransportError with a ``code``; the HTTP library's own exceptions end here and are
not chained, because they carry the request headers.

Policies: TLS is verified; redirects are never followed (a redirected POST would carry images and custom
headers to another host); cookies are not kept; replies are capped, after decompression; a connection that
the server closed while it lay idle is replaced once, silently.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs, payload
from aiohttp.abc import AbstractStreamWriter

from vqa_async.errors import ImageError, TransportError


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
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: tuple[bytes, ...] = field(default=(), repr=False)
    size: int = 0
    timeout_s: float = 600.0
    connect_timeout_s: float = 10.0
    max_response_bytes: int = 8 << 20
    method: Literal["GET", "POST"] = "POST"


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

    def __init__(self, pieces: tuple[bytes, ...], size: int) -> None:
        super().__init__(pieces, content_type="application/json")
        self._size = size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for piece in self._value:
            await writer.write(piece)


class AiohttpTransport:
    """The real transport, over one aiohttp session with as many connections as requests in flight.

    Args:
        verify_tls: False accepts any certificate.
        trust_env: use the proxies that the environment names.
        public_only: refuse to connect to private, loopback and link-local addresses; checked on the address
            that is really connected to, so no DNS answer or spelling of an address gets around it.
    """

    def __init__(
        self, *, verify_tls: bool = True, trust_env: bool = False, public_only: bool = False
    ) -> None:
        self._verify_tls = verify_tls
        self._trust_env = trust_env
        self._public_only = public_only
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> AiohttpTransport:
        connector = aiohttp.TCPConnector(
            limit=0,  # the gate bounds what is in flight; a second limit here would only hide waiting from it
            ttl_dns_cache=300,
            keepalive_timeout=30,
            ssl=self._verify_tls,
            socket_factory=_public_socket if self._public_only else None,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._trust_env,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=(hdrs.USER_AGENT, hdrs.ACCEPT_ENCODING),
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, request: Request) -> Response:
        """Send ``request``; see Transport.send."""
        for fresh in (False, True):
            try:
                return await self._exchange(request)
            except _FOREIGN as error:
                failure = translate(error, request)
                # Most often an idle connection that the server had just closed: once more, on a new one.
                if fresh or not isinstance(error, aiohttp.ServerDisconnectedError):
                    break
        # Outside the handler, so that not even __context__ holds the foreign exception and its headers.
        raise failure

    async def _exchange(self, request: Request) -> Response:
        assert self._session is not None, "AiohttpTransport is used outside its 'async with' block"
        body = _PiecesPayload(request.body, request.size) if request.body else None
        async with self._session.request(
            request.method,
            request.url,
            data=body,
            headers=request.headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=request.timeout_s, sock_connect=request.connect_timeout_s),
        ) as reply:
            raw = await _read(reply, request)
            return Response(reply.status, reply.headers, _decompress(raw, reply, request))


async def _read(reply: aiohttp.ClientResponse, request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := await reply.content.readany():
        size += len(chunk)
        if size > request.max_response_bytes:
            raise _too_large(request)
        chunks.append(chunk)
    return b"".join(chunks)


def _decompress(raw: bytes, reply: aiohttp.ClientResponse, request: Request) -> bytes:
    """The body as sent, or inflated up to the cap. No encoding is asked for, but some servers use one."""
    encoding = reply.headers.get(hdrs.CONTENT_ENCODING, "identity").lower()
    if encoding in ("identity", ""):
        return raw
    if encoding not in ("gzip", "deflate"):
        raise _wire_error(
            "protocol", f"replied in the encoding {encoding[:40]!r}, which was not asked for", request
        )
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32 if encoding == "gzip" else zlib.MAX_WBITS)
    body = b""
    broken = False
    try:
        body = inflater.decompress(raw, request.max_response_bytes + 1)
    except zlib.error:
        broken = True
    if len(body) > request.max_response_bytes:
        raise _too_large(request)
    if broken or not inflater.eof:
        raise _wire_error("protocol", "sent a compressed reply that is damaged", request)
    return body


def _too_large(request: Request) -> TransportError:
    error = _wire_error(
        "too_large",
        f"sent a reply of more than {request.max_response_bytes:,} bytes; reading stopped",
        request,
    )
    error.retryable = False
    return error


def _wire_error(code: str, what: str, request: Request) -> TransportError:
    host = urlsplit(request.url).netloc
    return TransportError(f"{host} {what}.", endpoint=request.url, code=code)


_TRANSLATION: tuple[tuple[type[BaseException], str, str], ...] = (
    # In order: the first class that fits. aiohttp's own tree overlaps with OSError and TimeoutError.
    (aiohttp.ConnectionTimeoutError, "timeout", "did not accept a connection within {connect:g} s"),
    (aiohttp.ClientConnectorCertificateError, "tls", "has a TLS certificate that does not verify: {reason}"),
    (aiohttp.ClientConnectorSSLError, "tls", "fails the TLS handshake: {reason}"),
    (ssl.SSLError, "tls_broken", "broke the TLS connection: {reason}"),
    (aiohttp.ClientConnectorDNSError, "dns", "cannot be found: its name does not resolve. Check --base-url"),
    (aiohttp.ClientProxyConnectionError, "connect", "cannot be reached: the proxy refuses connections"),
    (aiohttp.ClientConnectorError, "connect", "refuses connections ({reason}): is it running? See --base-url"),
    (asyncio.TimeoutError, "timeout", "did not answer within {total:g} s"),
    (aiohttp.ClientPayloadError, "reset", "closed the connection in the middle of the reply"),
    (aiohttp.ServerDisconnectedError, "reset", "closed the connection before replying"),
    (aiohttp.ClientOSError, "reset", "broke the connection ({reason})"),
    (aiohttp.ClientResponseError, "protocol", "sent something that is not HTTP"),
    (ConnectionError, "reset", "broke the connection ({reason})"),
    (OSError, "connect", "cannot be reached ({reason})"),
    (Exception, "protocol", "sent something that is not HTTP"),
)  # fmt: skip


_FOREIGN = (aiohttp.ClientError, OSError, ValueError, EOFError, TransportError)
"""What the HTTP library raises on a broken exchange (TimeoutError is an OSError), and our own caps."""


def translate(error: BaseException, request: Request) -> TransportError:
    """The TransportError for an exception of the HTTP library."""
    if isinstance(error, TransportError):
        return error
    code, sentence = next((c, s) for kind, c, s in _TRANSLATION if isinstance(error, kind))
    what = sentence.format(connect=request.connect_timeout_s, total=request.timeout_s, reason=_reason(error))
    translated = _wire_error(code, what, request)
    # A certificate does not get better by asking again, and nothing may be sent without one.
    translated.stops_run = code == "tls"
    return translated


def _reason(error: BaseException) -> str:
    cause: Any = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    # asyncio puts addresses and call names into its messages; the error number says it in plain words.
    number = cause.errno if isinstance(cause, OSError) else None
    plain = os.strerror(number) if number and number > 0 else str(cause)
    return " ".join(plain.split())[:200] or type(cause).__name__


def _public_socket(addr_info: Any) -> socket.socket:
    """Make the socket for a connection, unless it would reach this machine or a private network."""
    family, kind, proto, _, address = addr_info
    ip = ipaddress.ip_address(address[0].partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    if not (mapped or ip).is_global:
        raise PermissionError(None, f"{ip} is a private address; --allow-private-urls permits it")
    return socket.socket(family=family, type=kind, proto=proto)


async def fetch_image(transport: Transport, url: str, *, timeout_s: float, max_bytes: int) -> bytes:
    """The bytes of the image at ``url``.

    Raises:
        ImageError: it cannot be had: unreachable, not 200, too large.
    """
    request = Request(url=url, headers={}, method="GET", timeout_s=timeout_s, max_response_bytes=max_bytes)
    shown = url.partition("?")[0][:200]  # what follows is often a signature, and as good as a key
    try:
        reply = await transport.send(request)
    except TransportError as error:
        raise ImageError(
            f"Image {shown} cannot be fetched: {error.message}", code="unreachable_url"
        ) from None
    if reply.status != 200:
        raise ImageError(f"Image {shown} cannot be fetched: status {reply.status}.", code="unreachable_url")
    return reply.body
