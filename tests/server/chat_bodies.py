"""Images as data URIs and request bodies around them, for the tests of the embedded endpoint."""

from __future__ import annotations

import base64
import io
from typing import Any

import aiohttp
from PIL import Image

from vqa_async.server import RunningServer


def solid(colour: Any, size: tuple[int, int] = (64, 48), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def uri_of(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def png(colour: Any = "red", size: tuple[int, int] = (64, 48), mode: str = "RGB") -> str:
    return uri_of(encoded(solid(colour, size, mode)))


def chat_body(*urls: str, text: str = "Generate QA pairs.", **fields: Any) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    parts += [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"model": "looks-1", "messages": [{"role": "user", "content": parts}], **fields}


async def ask(
    client: aiohttp.ClientSession, server: RunningServer, body: Any, **options: Any
) -> tuple[int, Any]:
    """Status and JSON of the reply to a chat request."""
    async with client.post(f"{server.base_url}/chat/completions", json=body, **options) as response:
        return response.status, await response.json()


async def answer_to(client: aiohttp.ClientSession, server: RunningServer, body: Any) -> str:
    """Text of the answer to a chat request, which must be answered."""
    status, reply = await ask(client, server, body)
    assert status == 200, reply
    return str(reply["choices"][0]["message"]["content"])
