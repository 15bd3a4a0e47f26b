"""The body of a reply, decompressed, up to what may be read of it."""

from __future__ import annotations

import zlib

import aiohttp
from aiohttp import hdrs

from vqa_async.errors import TransportError
from vqa_async.transport.failures import wire_error
from vqa_async.transport.posting import Posting
from vqa_async.transport.request import PIECE, Request


def decompressed(raw: bytes, reply: aiohttp.ClientResponse | Posting, request: Request) -> bytes:
    """The body as sent, or inflated up to the cap."""
    inflater = inflater_for(reply, request)
    if inflater is None:
        return raw
    body = b""
    broken = False
    try:
        body = inflater.decompress(raw, request.max_response_bytes + 1)
    except zlib.error:
        broken = True
    if len(body) > request.max_response_bytes:
        raise reply_too_large(request)
    if broken or not inflater.eof:
        raise damaged_reply(request)
    return body


def inflater_for(reply: aiohttp.ClientResponse | Posting, request: Request) -> zlib._Decompress | None:
    """What inflates the reply, None for one that is as it is. No encoding is asked for, but some servers use
    one."""
    encoding = reply.headers.get(hdrs.CONTENT_ENCODING, "identity").lower()
    if encoding in ("identity", ""):
        return None
    if encoding not in ("gzip", "deflate"):
        raise wire_error(
            "protocol", f"replied in the encoding {encoding[:40]!r}, which was not asked for", request
        )
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32 if encoding == "gzip" else zlib.MAX_WBITS)


def inflated_chunk(inflater: zlib._Decompress, chunk: bytes, request: Request) -> tuple[bytes, bytes]:
    """The next piece of what ``chunk`` inflates to, and what is left of ``chunk``."""
    broken = False
    piece = b""
    try:
        piece = inflater.decompress(chunk, PIECE)
    except zlib.error:
        broken = True
    if broken:
        raise damaged_reply(request)
    return piece, inflater.unconsumed_tail


def damaged_reply(request: Request) -> TransportError:
    return wire_error("protocol", "sent a compressed reply that is damaged", request)


def reply_too_large(request: Request) -> TransportError:
    error = wire_error(
        "too_large",
        f"sent a reply of more than {request.max_response_bytes:,} bytes; reading stopped",
        request,
    )
    error.retryable = False
    return error
