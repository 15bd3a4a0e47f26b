"""The one seam to the network: ``Transport.send(request) -> Response``. The only importer of the HTTP client.

Knows sockets, TLS, timeouts and size caps; does not know chat, retry or records. Whatever goes wrong on
the wire comes out as one TransportError with a ``code``; the HTTP library's own exceptions end here and are
not chained, because they carry the request headers.

Policies: TLS is verified; redirects are never followed (a redirected POST would carry images and custom
headers to another host); cookies are not kept; replies are capped, after decompression. A connection that
the server closed while it lay idle is replaced once, silently, by a new one; what breaks on a new
connection, or after part of a reply, is reported, for the retry policy to judge.

    request    what goes out and comes back: values, and the one method that carries them
    deadlines  timeouts of many requests with one timer, which spare whom the loop has held up
    failures   whatever goes wrong on the wire -> one TransportError with a code
    replies    the body of a reply, decompressed, up to what may be read of it
    addresses  which addresses may be connected to, and through which proxy
    posting    a POST written by hand onto a connection, its reply read by aiohttp's parser
    session    the real transport, over one aiohttp session, and by hand where that fits
    images     images that are named by URL, downloaded under their own limits
"""

from vqa_async.transport.failures import translate
from vqa_async.transport.images import fetch_image
from vqa_async.transport.request import FileBody, Phase, Request, Response, Transport
from vqa_async.transport.session import AiohttpTransport

__all__ = [
    "AiohttpTransport",
    "FileBody",
    "Phase",
    "Request",
    "Response",
    "Transport",
    "fetch_image",
    "translate",
]
