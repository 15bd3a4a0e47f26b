"""Whatever goes wrong on the wire -> one TransportError with a code."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from vqa_async.errors import TransportError
from vqa_async.transport.request import Request


def _host(url: str) -> str:
    """Host and port of ``url`` for a message, without a user name and password before them."""
    authority = url.partition("://")[2].partition("/")[0].partition("?")[0]
    return authority.rpartition("@")[2][:200] or "The address"


def wire_error(code: str, what: str, request: Request) -> TransportError:
    return TransportError(f"{_host(request.url)} {what}.", endpoint=request.url, code=code)


class PrivateAddress(PermissionError):
    """What ``public_socket`` refuses to connect to; an OSError, so that the next address is tried."""


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
    (PrivateAddress, "forbidden", "is not asked: {reason}"),
    (aiohttp.ClientConnectorError, "connect", "refuses connections ({reason}): is it up? Check --base-url"),
    (asyncio.TimeoutError, "timeout", "did not answer within {total:g} s"),
    (aiohttp.ClientPayloadError, "reset", "closed the connection in the middle of the reply"),
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


FOREIGN = (
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,
    ValueError,
    OverflowError,
    RuntimeError,
    EOFError,
    TransportError,
)
"""What the HTTP library raises on a broken exchange (TimeoutError is an OSError), and our own caps."""


def translate(error: BaseException, request: Request) -> TransportError:
    """The TransportError for an exception of the HTTP library."""
    if isinstance(error, TransportError):
        return error
    if isinstance(cause := getattr(error, "os_error", None), PrivateAddress | ssl.SSLEOFError):
        error = cause  # the library puts an error of its own around these, which says less
    code, sentence = next((c, s) for kind, c, s in _TRANSLATION if isinstance(error, kind))
    what = sentence.format(connect=request.connect_timeout_s, total=request.timeout_s, reason=_reason(error))
    translated = wire_error(code, what, request)
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
