"""Bodies that are read from a file as they are sent, and replies that go on as they come."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wire import http, in_turn, serving

from vqa_async.errors import DiskError, TransportError
from vqa_async.transport import AiohttpTransport, FileBody, Request


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    """A transport with default settings."""
    async with AiohttpTransport() as made:
        yield made


def file_body(path: Path, content: bytes) -> FileBody:
    path.write_bytes(content)
    return FileBody(b"<", path, b">", len(content) + 2)


async def test_a_file_arrives_whole_with_its_length_told(transport: AiohttpTransport, tmp_path: Path) -> None:
    """In pieces, between what stands before and after it."""
    content = bytes(range(256)) * 5000
    async with serving(in_turn(http(b"{}"))) as server:
        request = Request(url=server.url, headers={}, file=file_body(tmp_path / "f", content))
        assert (await transport.send(request)).body == b"{}"
        arrived = server.exchanges[0]
    assert arrived.body == b"<" + content + b">"
    assert b"transfer-encoding" not in arrived.head.lower()


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    """So that the request can be sent again."""
    body = file_body(tmp_path / "f", b"content")
    assert b"".join(body) == b"".join(body) == b"<content>"


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
async def test_a_reply_goes_on_piece_by_piece(transport: AiohttpTransport, encoding: str) -> None:
    """Inflated where the server has compressed it unasked; nothing of it is kept."""
    content = b"".join(b"line %d\n" % n for n in range(100_000))
    sent = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)(content)
    pieces: list[bytes] = []
    reply = http(sent, f"Content-Encoding: {encoding}")
    async with serving(in_turn(reply)) as server:
        request = Request(url=server.url, headers={}, method="GET", into=pieces.append)
        response = await transport.send(request)
    assert (response.status, response.body) == (200, b"")
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= 1 << 20


async def test_an_error_is_read_as_ever(transport: AiohttpTransport) -> None:
    """Only what was asked for goes on."""
    pieces: list[bytes] = []
    reply = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"
    async with serving(in_turn(reply)) as server:
        response = await transport.send(Request(url=server.url, headers={}, into=pieces.append))
    assert (response.status, response.body, pieces) == (404, b"no", [])


@pytest.mark.parametrize(
    ("body", "header", "most", "code"),
    [
        (b"x" * 101, "X: y", 100, "too_large"),
        (gzip.compress(b"x" * 100_000, mtime=0), "Content-Encoding: gzip", 1000, "too_large"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-8], "Content-Encoding: gzip", 10_000, "protocol"),
        (b"no gzip at all", "Content-Encoding: gzip", 10_000, "protocol"),
        (b"x", "Content-Encoding: br", 10_000, "protocol"),
    ],
)
async def test_a_reply_that_is_too_large_or_damaged_ends(
    transport: AiohttpTransport, body: bytes, header: str, most: int, code: str
) -> None:
    """As one that is kept in memory does."""
    async with serving(in_turn(http(body, header))) as server:
        request = Request(url=server.url, headers={}, into=len, max_response_bytes=most)
        with pytest.raises(TransportError) as caught:
            await transport.send(request)
    assert caught.value.code == code


async def test_what_the_taker_raises_is_not_taken_for_the_wire(transport: AiohttpTransport) -> None:
    """A full disk is no reason to ask again."""

    def full(_: bytes) -> None:
        raise DiskError("No space left.")

    async with serving(in_turn(http(b"{}"))) as server:
        with pytest.raises(DiskError):
            await transport.send(Request(url=server.url, headers={}, into=full))
