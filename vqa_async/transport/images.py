"""Images that are named by URL, downloaded under their own limits."""

from __future__ import annotations

from vqa_async.errors import ImageError, TransportError
from vqa_async.transport.request import Request, Transport


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
