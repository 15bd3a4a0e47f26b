"""A reply as a value, and the ways to send it: whole, byte by byte, half, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from aiohttp import web

from vqa_async.server.refusals import Refusal
from vqa_async.server.statistics import Visit

Manner: TypeAlias = Literal["whole", "drip", "cut", "none"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent, and how.

    Attributes:
        body: the bytes.
        status: HTTP status.
        content_type: MIME type of the body.
        manner: ``whole``, ``drip`` (byte by byte), ``cut`` (half of it), ``none`` (hang up).
        is_answer: whether this is a proper completion.
        headers: extra headers.
    """

    body: bytes = field(repr=False)
    status: int = 200
    content_type: str = "application/json"
    manner: Manner = "whole"
    is_answer: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


HANG_UP = Reply(b"", manner="none")


def refused(refusal: Refusal) -> Reply:
    """A refusal as a reply."""
    return Reply(refusal.body(), refusal.status, headers=refusal.headers)


async def deliver(
    request: web.Request, reply: Reply, headers: Mapping[str, str], drip_s: float, visit: Visit
) -> web.StreamResponse:
    """Send ``reply`` with ``headers``; ``visit`` learns of it once it is out completely.

    Raises:
        ConnectionError: the client has gone.
    """
    if reply.manner == "none":
        return _hang_up(request)
    headers = {**headers, **reply.headers, "Content-Type": reply.content_type}
    if reply.manner == "cut":
        return await _send_half(request, reply, headers)
    if reply.manner == "drip":
        response = await _send_slowly(request, reply, headers, drip_s)
    else:
        response = web.Response(body=reply.body, status=reply.status, headers=headers)
        await response.prepare(request)
    await response.write_eof()
    visit.status, visit.answered = reply.status, reply.is_answer
    if reply.headers.get("Connection") == "close":
        request.protocol.force_close()  # or aiohttp would go on reading a body that is damaged
    return response


def _hang_up(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return web.Response()  # aiohttp wants one; with the connection closed it is not sent


async def _start(request: web.Request, reply: Reply, headers: Mapping[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=headers)
    response.content_length = len(reply.body)
    await response.prepare(request)
    return response


async def _send_half(request: web.Request, reply: Reply, headers: Mapping[str, str]) -> web.StreamResponse:
    response = await _start(request, reply, headers)
    await response.write(reply.body[: len(reply.body) // 2])
    _hang_up(request)
    return response


async def _send_slowly(
    request: web.Request, reply: Reply, headers: Mapping[str, str], drip_s: float
) -> web.StreamResponse:
    response = await _start(request, reply, headers)
    for at in range(len(reply.body)):
        if at:
            await asyncio.sleep(drip_s)
        await response.write(reply.body[at : at + 1])
    return response
